"""Names on disk: whatever a task ID holds, its file stays in the orders folder.

A pattern is plain text with ``{task_id}``, ``{remote}``, ``{batch}``, ``{number}`` and ``{ext}``
in it; ``/`` makes folders. What is put in for them is percent-encoded outside
``A-Z a-z 0-9 . _ = @ -`` and for a leading dot or dash, so no value can climb, hide or
look like an option, and different values give different names; a batch that an order
does not have is ``_``. A name too long for the file system is cut and ends in ``~`` and
a digest. ``~`` also marks later versions, and the files of a task that has several, if
the pattern has no ``{number}``; it occurs in no other name of ours.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

LONGEST = 150
"""Bytes in one path component: file systems take 255, and others add to our names."""
BYTES_IN_PATTERN = 400
FOLDERS = 8
"""How deep a file may lie: with longer paths no program could open it by its whole name."""

_FIELDS = frozenset({"task_id", "remote", "batch", "number", "ext"})
_FIELD = re.compile(r"\{([^{}]*)\}")
_PLAIN = re.compile(r"[A-Za-z0-9._=@{}/ -]*", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9._=@-]")


def fields(pattern: str) -> frozenset[str]:
    """Check a pattern and tell which fields it has.

    Raises:
        ValueError: it has an unknown field, climbs, is absolute, is hidden or too long.
    """
    found = frozenset(_FIELD.findall(pattern))
    if unknown := sorted(found - _FIELDS):
        raise ValueError(f"unknown field {{{unknown[0]}}}; there are {', '.join(f'{{{f}}}' for f in sorted(_FIELDS))}")
    if not _PLAIN.fullmatch(pattern) or set("{}") & set(_FIELD.sub("", pattern)):
        raise ValueError("a file name pattern takes letters, digits, space, . _ = @ - / and fields in braces")
    if not 0 < len(pattern) <= BYTES_IN_PATTERN or pattern.count("/") > FOLDERS:
        raise ValueError(f"a file name pattern has 1 to {BYTES_IN_PATTERN} bytes and at most {FOLDERS} folders")
    if any(not part or part.startswith((".", "-", "{ext}")) for part in pattern.split("/")):
        raise ValueError("a file name may not be absolute, climb with .., or begin with a dot, a dash or {ext}")
    return found


def fill(pattern: str, values: Mapping[str, str], ext: str) -> str:
    """Make a relative path from a checked pattern.

    Args:
        pattern: one that ``fields`` has accepted.
        values: of every other field, as they came; an absent one is empty.
        ext: an extension we chose ourselves, with its dot.
    """
    parts = pattern.split("/")
    return "/".join(_component(part, values, ext) for part in parts)


def version(name: str, number: int) -> str:
    """Name the *number*-th version of *name*: ``a/b.pdf`` becomes ``a/b~2.pdf``."""
    return _marked(name, f"~{number}")


def numbered(name: str, number: int) -> str:
    """Name the *number*-th of several files that would all be *name*: ``a/b.pdf`` becomes ``a/b~file2.pdf``."""
    return _marked(name, f"~file{number}")


def _marked(name: str, mark: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, ext = last.rpartition(".")
    if not stem:
        stem, dot, ext = last, "", ""
    return f"{folder}{slash}{stem}{mark}{dot}{ext}"


def safe(value: str) -> str:
    """Encode *value* for use within a file name."""
    encoded = _UNSAFE.sub(lambda byte: b"%%%02X" % byte[0][0], value.encode("utf-8", "surrogatepass")).decode()
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded[:1] in {".", "-"} else encoded


def _component(part: str, values: Mapping[str, str], ext: str) -> str:
    given = {name: safe(value) or "_" for name, value in values.items()} | {"ext": ext}
    name = _FIELD.sub(lambda field: given[field[1]], part)
    return name if len(name) <= LONGEST else _shortened(name, ext if part.endswith("{ext}") else "")


def _shortened(name: str, ext: str) -> str:
    digest = sha256(name.encode()).hexdigest()[:32]
    return f"{name[: LONGEST - len(digest) - len(ext) - 1]}~{digest}{ext}"
