"""What a start asks for: the address names a format, the body a document and its rows."""

from typing import Any, TypeVar

import msgspec

from poller.sandbox.formats import media_type

T = TypeVar("T")

LARGEST_REQUEST = 20_000_000
"""Bytes of a whole request."""
LARGEST_VARIABLES = 10_000_000
"""Bytes of its rows."""
MOST_ROWS = 10_000

FORMATS = ("pdf", "jpg", "png", "gif", "mp4", "html")
"""Formats that have an endpoint each."""
FAMILIES = {"image": ("png", "jpg"), "animation": ("gif", "mp4")}
"""The older endpoints, which take ``?outputType=``."""
_ARCHIVED = "zip"


class Document(msgspec.Struct, frozen=True, rename="camel"):
    """The members of a start that have a type; others are taken as they are."""

    output_settings_id: str | None = None
    layouts_to_export: list[str | int] | None = None
    project_id: str | None = None
    template_id: str | None = None
    engine_version: str | None = None
    data_connector_config: dict[str, Any] | None = None
    variables: msgspec.Raw = msgspec.Raw(b"null")
    max_records_per_file: int | None = None


def wanted(kind: str, output_type: str | None, body: bytes) -> str:
    """Tell the media type of the file that a start asks for.

    A batch of pictures or films comes as one archive, and so do a PDF that is split and HTML.

    Args:
        kind: the last part of the address.
        output_type: of the query, for the older endpoints.
        body: JSON, or nothing.

    Raises:
        ValueError: it cannot be taken, and why.
    """
    name = _format(kind, output_type)
    document = _decoded(body, Document) if body.strip() else Document()
    rows = _rows(document)
    per_file = (document.max_records_per_file or rows) if name == "pdf" else 1
    return media_type(_ARCHIVED if name == "html" or rows > per_file else name)


def _format(kind: str, output_type: str | None) -> str:
    if kind not in FAMILIES:
        return kind
    if output_type not in FAMILIES[kind]:
        raise ValueError(f"outputType must be {' or '.join(FAMILIES[kind])}, not {output_type!r}")
    return output_type


def _rows(document: Document) -> int:
    if bytes(document.variables) == b"null":
        return 0
    if len(bytes(document.variables)) > LARGEST_VARIABLES:
        raise ValueError(f"variables take at most {LARGEST_VARIABLES} bytes")
    rows = _decoded(document.variables, list[dict[str, Any]])
    if len(rows) > MOST_ROWS:
        raise ValueError(f"there are {len(rows)} rows of variables; at most {MOST_ROWS} are taken")
    return len(rows)


def _decoded(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the body is not what a start takes: {error}") from None
