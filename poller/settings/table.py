"""The table of settings: every name with its default, its reading and its reason, once."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from poller import filename, units
from poller.address import Origin

PREFIX = "POLLER_"
ENV_FILE = "POLLER_ENV_FILE"
"""Where the env file is. It cannot stand in that file, hence not in the table."""

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", re.ASCII)
_SHORTEST_TOKEN = 16
"""Sixteen characters cannot be guessed over a network."""
_SHORTEST_INTERVAL = 0.01
"""A hundred questions a second about one order is an attack, not a poll."""
_LARGEST = 10**12


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        default: as one would write it; empty if there is none.
        read: makes the value of the text; raises ValueError with what is wrong.
        why: one sentence for who has to choose the value.
        secret: whether it may be shown.
    """

    name: str
    default: str
    read: Callable[[str], Any]
    why: str
    secret: bool = False

    @property
    def field(self) -> str:
        """What the value is called in ``Settings``."""
        return self.name.removeprefix(PREFIX).lower()


# --- How values are read ------------------------------------------------------------------


def words(text: str) -> tuple[str, ...]:
    """Read a list with commas; empty places in it do not count."""
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _remotes(text: str) -> tuple[str, ...]:
    if not (names := words(text)):
        raise ValueError("names no remote")
    return names


def _folder(text: str) -> Path:
    return Path(_local(text, "a folder of this machine"))


def _store(text: str) -> str:
    if not Path(_local(text, "the path of a file")).name:
        raise ValueError("is a folder; give the path of a file, such as orders.json")
    return text


def _local(text: str, wanted: str) -> str:
    scheme, mark, _ = text.partition("://")
    if mark:
        raise ValueError(f"{scheme}:// is not supported by this version; give {wanted}")
    return text


def _host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    if not _is_address(bare) and not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither an address nor a host name; give one such as 127.0.0.1, without a port")
    return bare


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    if text.startswith(("tcp://", "udp://")):
        hint = "Kubernetes sets this name for a Service called poller: give the pod enableServiceLinks: false"
        raise ValueError(f"{text!r} is not a port; {hint}")
    return _whole(text, 0, 65535)


def _positive(text: str) -> int:
    return _whole(text, 1, _LARGEST)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text[:20]) <= most:
        raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)


def _per_minute(text: str) -> int:
    return _whole(text or "0", 0, _LARGEST)


def _connections(text: str) -> int:
    return _whole(text, 2, _LARGEST) if text else 0


def _token(text: str) -> str:
    if any(not "!" <= character <= "~" for character in text):
        raise ValueError("holds a character that no HTTP header carries; use letters and digits")
    if 0 < len(text) < _SHORTEST_TOKEN:
        raise ValueError(f"has {len(text)} characters; use {_SHORTEST_TOKEN} or more (openssl rand -hex 32)")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(_host(word) for word in words(text))


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(word) for word in words(text))


def _origin(text: str) -> str:
    try:
        origin = str(Origin.of(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no origin: {error}") from None
    if origin.lower() != text.lower():
        raise ValueError(f"{text!r} says more than an origin; give {origin}")
    return origin


def _filename(text: str) -> str:
    if "task_id" not in filename.fields(text):
        raise ValueError(f"{text!r} lacks {{task_id}}: all orders would want the same name")
    return text


def _duration(text: str) -> float:
    return _at_least(units.seconds(text), text, 0.001)


def _interval(text: str) -> float:
    return _at_least(units.seconds(text), text, _SHORTEST_INTERVAL)


def _at_least(value: float, text: str, least: float) -> float:
    if value < least:
        raise ValueError(f"{text!r} is too short; {least * 1000:.0f}ms is the least")
    return value


def _size(text: str) -> int:
    if (value := units.size(text)) < 1:
        raise ValueError(f"{text!r} is not more than nothing")
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return read


# --- The table ------------------------------------------------------------------------------


def _setting(name: str, default: str, read: Callable[[str], Any], why: str, *, secret: bool = False) -> Setting:
    return Setting(name=PREFIX + name, default=default, read=read, why=why, secret=secret)


TABLE = (
    _setting("REMOTES", "grafx", _remotes, "Remotes to ask: shipped names or paths to .toml pages, with commas."),
    _setting("ORDERS_DIR", "orders", _folder, "Folder of the finished files; unfinished ones are in its .partial/."),
    _setting("STORE", "orders.json", _store, "The order store, a TinyDB file; its journal and lock lie beside it."),
    _setting("HOST", "127.0.0.1", _host, "Address that the hook listens on; anything but loopback needs a token."),
    _setting("PORT", "8080", _port, "Port of the hook; 0 picks a free one, which the start line names."),
    _setting(
        "TOKEN", "", _token, "Bearer token that callers of the hook must send, 16 characters or more.", secret=True
    ),
    _setting("ALLOWED_HOSTS", "", _hosts, "Further host names by which callers may reach the hook, with commas."),
    _setting("ALLOWED_ORIGINS", "", _origins, "Origins of web pages that may call the hook, with commas."),
    _setting(
        "FILENAME",
        "{task_id}{ext}",
        _filename,
        "Name of a file: {task_id} and, of several, {remote}; {batch}, {number}, {ext}.",
    ),
    _setting("INTERVAL_MIN", "1s", _interval, "Shortest wait between two questions about one order."),
    _setting("INTERVAL_MAX", "60s", _interval, "Longest wait between two questions about one order."),
    _setting("DEADLINE", "7d", _duration, "How long an order is asked about; an order may bring its own."),
    _setting("ATTEMPTS", "20", _positive, "Troubles in a row after which an order fails; waiting is no trouble."),
    _setting("CHECKS", "64", _positive, "Questions at a time, for each remote."),
    _setting("DOWNLOADS", "8", _positive, "Downloads at a time, for each remote."),
    _setting(
        "CONNECTIONS",
        "",
        _connections,
        "Connections to each remote, 2 or more; empty: one for each question and download.",
    ),
    _setting(
        "REQUESTS_PER_MINUTE",
        "",
        _per_minute,
        "Requests to each remote in any minute, logins and links too; empty or 0: as many as it takes.",
    ),
    _setting("MAX_FILE_BYTES", "10GiB", _size, "Largest file that is stored; a larger one fails its order."),
    _setting("DISK_RESERVE", "1GiB", units.size, "Bytes that downloads leave free on the disk of the orders folder."),
    _setting(
        "IDLE_TIMEOUT",
        "30s",
        _duration,
        "Longest wait for the head of a reply, and then for each piece of its body.",
    ),
    _setting("FLOOR_RATE", "1KiB", _size, "Bytes per second below which a download is given up, over half a minute."),
    _setting("MAX_PENDING", "1000000", _positive, "Orders not at rest, beyond which the hook takes no more (429)."),
    _setting("RETENTION", "30d", _duration, "How long orders at rest are remembered; their files stay."),
    _setting("LEASE", "60s", _duration, "How long an order in work is this process's own; renewed while it works."),
    _setting("GRACE", "25s", _duration, "How long a stop waits for what is in flight."),
    _setting(
        "LOG_FORMAT", "auto", _one_of("auto", "json", "console"), "json, console, or auto: console on a terminal."
    ),
)
