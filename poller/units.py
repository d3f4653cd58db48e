"""Durations, sizes and instants as people write them, and back."""

import re
from datetime import UTC, datetime

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_BYTES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES |= {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_LONGEST = 10 * 365 * 86400.0
_LARGEST = 2**53
"""8 PiB; up to here every number of bytes is exact."""


def seconds(text: str) -> float:
    """Read a duration such as ``200ms``, ``0.2s``, ``5m``, ``7d`` or a bare number of seconds.

    Raises:
        ValueError: it is not one, or it is longer than ten years.
    """
    value = _quantity(text, _SECONDS, "a duration such as 200ms, 1s, 5m, 2h or 7d")
    if value > _LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return value


def size(text: str) -> int:
    """Read a number of bytes such as ``10GiB``, ``1MB`` or ``4096``.

    Raises:
        ValueError: it is not one, or it is larger than 8 PiB.
    """
    value = _quantity(text, _BYTES, "a size such as 4096, 10MiB or 10GiB")
    if value > _LARGEST:
        raise ValueError(f"{text!r} is larger than 8 PiB")
    return round(value)


def instant(text: str) -> float:
    """Read an ISO 8601 instant with an offset (or ``Z``) as seconds since the epoch.

    Raises:
        ValueError: it is not one, or it does not say which offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an instant such as 2026-11-21T05:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; end it with Z or +00:00")
    return moment.timestamp()


def iso(moment: float) -> str:
    """Write seconds since the epoch as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def human_seconds(value: float) -> str:
    """Write a duration the way a person says it: ``0.8 s``, ``42 s``, ``5 min``, ``3 h``, ``7 d``."""
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= 2 * length:
            return f"{value / length:.0f} {name}"
    return f"{value:.0f} s" if value >= 9.95 else f"{value:.1f} s"  # noqa: PLR2004 - below ten, tenths matter


def human_size(value: float) -> str:
    """Write a number of bytes the way a person says it: ``512 B``, ``1.4 MiB``."""
    for name in ("B", "KiB", "MiB", "GiB"):
        if value < 1023.95:  # noqa: PLR2004 - what would be written as 1024.0 is one of the next
            return f"{value:.0f} B" if name == "B" else f"{value:.1f} {name}"
        value /= 1024
    return f"{value:.1f} TiB"


def _quantity(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    return float(match[1]) * units[match[2]]
