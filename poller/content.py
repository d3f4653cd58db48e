"""What a body claims to be, and whether its first bytes give it the lie.

Remotes and the storage behind them answer 200 with an error page now and then: HTML from
a proxy, XML from a bucket, JSON from a gateway. Such a page must never be published as
the file it stands in for.
"""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

FALLBACK = ".bin"
HEAD = 1024
"""Bytes of a body's beginning that are looked at."""

_NAMED = re.compile(
    r"""filename\*\s*=\s*[\w-]+'[\w-]*'([^;\s]+)|filename\s*=\s*(?:"([^"]*)"|([^;\s]+))""", re.IGNORECASE
)
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}$")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}")
_PAGES = re.compile(r"text/.*|application/(xhtml\+xml|json|xml|problem\+json)|.*\+(json|xml)")
_MARKUP_TYPES = re.compile(r"text/html|(application|text)/(xhtml\+xml|xml)|.*\+xml")
_JSON_TYPES = re.compile(r"application/(json|problem\+json)|.*\+json")
_JSONS = frozenset({".json", ".jsonl", ".ndjson"})
_MARKUPS = frozenset({".xml", ".html", ".svg"})
_TEXTS = frozenset({".csv", ".tsv", ".txt", *_JSONS, *_MARKUPS})
"""What a page may promise by its extension alone; an error of another kind is told from it all the same."""
_MARKUP = re.compile(rb"<(!--|!doctype|\?xml|[a-z_][\w:.-]*[\s/>])", re.IGNORECASE)
_JSON = re.compile(rb"\{\s*[\"}]|\[\s*([\[{\"\d\]-]|true|false|null)")
_BLANK = b"\xef\xbb\xbf \t\r\n\f"
_CONTROL = bytes(set(range(32)) - set(b"\t\r\n\f"))


def media_type(header: str | None) -> str:
    """Read a ``Content-Type`` (RFC 9110, 8.3) without its parameters; empty if it is none."""
    declared = (header or "").partition(";")[0].strip().lower()
    return declared if _TYPE.fullmatch(declared) else ""


def suffix(disposition: str | None, url: str) -> str:
    """Read what a file's own name ends with: the name that the reply gives (RFC 6266), else the last of its path.

    Never used but to choose among extensions that somebody has listed.
    """
    name = _NAMED.search(disposition or "")
    own = unquote(name[1] or name[2] or name[3] or "") if name else ""
    last = own or unquote(urlsplit(url).path.rpartition("/")[2])
    found = _SUFFIX.search(last.lower())
    return found[0] if found else ""


def extension(declared: str, extensions: Mapping[str, str]) -> str:
    """Choose the extension for a media type: a listed one, or none that anything would open."""
    return extensions.get(declared, FALLBACK)


def is_page(declared: str, head: bytes, extensions: Mapping[str, str], extension: str = "") -> bool:
    """Tell whether a body is a page where a file was promised.

    Args:
        declared: its media type.
        head: its first ``HEAD`` bytes, or all of it.
        extensions: the types that the remote's files may have.
        extension: what the file is known to end with, whatever its type; empty if that is not known.
    """
    if declared in extensions:
        return not _PAGES.fullmatch(declared) and _reads_as_page(head)
    if extension in _TEXTS:
        return _contradicts(declared, head, extension)
    return bool(_PAGES.fullmatch(declared)) or _reads_as_page(head)


def _contradicts(declared: str, head: bytes, extension: str) -> bool:
    """Tell whether a file that is to be text is text of another kind."""
    if extension in _JSONS:
        return bool(_MARKUP_TYPES.fullmatch(declared)) or _reads_as_markup(head)
    if extension in _MARKUPS:
        return bool(_JSON_TYPES.fullmatch(declared)) or (_reads_as_page(head) and not _reads_as_markup(head))
    foreign = _MARKUP_TYPES.fullmatch(declared) or _JSON_TYPES.fullmatch(declared)
    return bool(foreign) or _reads_as_page(head)


def _reads_as_markup(head: bytes) -> bool:
    text = _narrowed(head)
    return len(text.translate(None, _CONTROL)) == len(text) and bool(_MARKUP.match(text.lstrip(_BLANK)))


def _reads_as_page(head: bytes) -> bool:
    """Judge by the bytes. All of them must be text: binary data may well begin with ``<`` or ``{``.

    Text in whatever encoding: what tells it from binary data is that it has no control characters.
    """
    text, whole = _narrowed(head), len(head) < HEAD
    if len(text.translate(None, _CONTROL)) < len(text):
        return False
    start = text.lstrip(_BLANK)
    return bool(_MARKUP.match(start)) or _is_json(start, whole=whole)


def _narrowed(head: bytes) -> bytes:
    """Write UTF-16 that says so as UTF-8, so that its zeros are not taken for binary data."""
    if head[:2] not in {BOM_UTF16_LE, BOM_UTF16_BE}:
        return head
    return head.decode("utf-16", "replace").encode("utf-8", "replace")


def _is_json(start: bytes, *, whole: bool) -> bool:
    if not whole:
        return bool(_JSON.match(start))
    if start[:1] not in {b"{", b"[", b'"', b"n"}:
        return False
    try:
        msgspec.json.decode(start)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
