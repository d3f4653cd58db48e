"""When a task ID was made, if it tells: ULIDs and UUIDs of versions 1, 6 and 7 begin with a time.

That is the remote's own clock, to the millisecond, of a task about which nothing else is known.
"""

import re
from uuid import UUID

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID = re.compile(r"(?<![0-9A-Za-z])[0-7][0-9A-HJKMNP-TV-Z]{25}(?![0-9A-Za-z])", re.IGNORECASE)
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9A-Za-z])", re.IGNORECASE)
_TIME_CHARACTERS = 10
_GREGORIAN = 0x01B21DD213814000
"""Tenths of a microsecond from 1582-10-15, where UUIDs count from, to the epoch (RFC 9562, 5.1)."""


def made_at(task_id: str) -> float | None:
    """Tell when an ID was made, in epoch seconds; None if it does not say."""
    if found := _ULID.search(task_id):
        moment = 0
        for character in found[0][:_TIME_CHARACTERS].upper():
            moment = moment * 32 + _ALPHABET.index(character)
        return moment / 1000
    return _of_uuid(UUID(found[0])) if (found := _UUID.search(task_id)) else None


def _of_uuid(uuid: UUID) -> float | None:
    match uuid.version:
        case 1:
            return (uuid.time - _GREGORIAN) / 1e7
        case 6:
            moment = (uuid.int >> 80) << 12 | (uuid.int >> 64) & 0xFFF
            return (moment - _GREGORIAN) / 1e7
        case 7:
            return (uuid.int >> 80) / 1000
        case _:
            return None
