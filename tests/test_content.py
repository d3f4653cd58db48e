"""What a body claims to be, and whether its first bytes give it the lie."""

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.content import FALLBACK, HEAD, extension, is_page, media_type

IMAGES = {"image/png": ".png", "application/pdf": ".pdf", "application/rtf": ".rtf"}
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"

PAGES = [
    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
    b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1></center>",
    b"\xef\xbb\xbf<!doctype HTML>\n<p>Sorry",
    b"\r\n\r\n  \t<HTML><BODY>",
    b"<!-- cached --><html>",
    "<html><body>Die Seite wurde nicht gefunden, bitte prüfen".encode("latin-1") + b"</body>",
    "<html><body>存在しません".encode("shift-jis") + b"</body></html>",
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Expired</Message></Error>',
    b"<Error><Code>NoSuchKey</Code></Error>",
    b'<soap-env:Envelope xmlns:soap-env="http://schemas.xmlsoap.org/soap/envelope/">',
    b"<h1>Service Unavailable</h1>",
    b"<br/>Fatal error",
    b'{"type":"about:blank","title":"Gone","status":"410"}',
    b'{\n  "error": "expired"\n}',
    b"{}",
    b"[]",
    b'[{"recordNumber":0,"errorList":[]}]',
    b"[1,2]",
    b'{"detail":"' + b"x" * 5000,
    b'[ {"detail":"' + b"x" * 5000,
    b"[null," + b"1," * 5000,
    ('{"detail":"' + "ü" * 5000).encode(),
    (b"<html>" + "ü".encode() * 5000),
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("declared", ["image/png", "application/octet-stream", "", "application/pdf"])
def test_error_pages_are_known_whatever_they_claim_to_be(page: bytes, declared: str) -> None:
    """HTML, XML and JSON, of gateways, buckets and our own remote, in any encoding, whole or cut."""
    assert is_page(declared, page[:HEAD], IMAGES)


@pytest.mark.parametrize(
    "declared",
    ["text/html", "text/plain", "application/json", "application/problem+json", "application/xml", "image/svg+xml"],
)
def test_a_type_of_pages_is_a_page_unless_it_was_expected(declared: str) -> None:
    """Where the remote's files may be of that type, its bytes prove nothing against them."""
    assert is_page(declared, PNG, IMAGES)
    assert not is_page(declared, b"<html>", {declared: ".x"})


@pytest.mark.parametrize(
    "head",
    [
        PNG,
        b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>",
        b"{\\rtf1\\ansi " + b"x" * 2000,
        b"[Script Info]\nTitle: x\n" * 100,
        b"[Script Info]\nTitle: x",
        b"{not json}",
        b'{"\xce"}',
        b"[" * 900,
        b"<< /Type",
        b"< 5",
        b"<3",
        b"id,name\n1,<b>\n",
        b"<html>\x00",
        b'{"a"\x01' * 300,
        b"\xff\xd8\xff\xe0",
        b"PK\x03\x04",
        b"GIF89a",
        b"\x00",
        b"x",
        b"",
    ],
)
def test_files_are_no_pages(head: bytes) -> None:
    """What merely begins like one is none."""
    assert not is_page("image/png", head[:HEAD], IMAGES)
    assert not is_page("application/octet-stream", head[:HEAD], IMAGES)


@given(st.binary(min_size=64, max_size=HEAD))
def test_binary_data_is_no_page(head: bytes) -> None:
    """Property: data with a control character in it is never taken for a page, whatever it begins with."""
    for start in (b"", b"<a ", b"<html>", b'{"', b"[1"):
        assert not is_page("image/png", (start + b"\x00" + head)[:HEAD], IMAGES)


def test_random_data_is_no_page() -> None:
    """Of a hundred thousand random beginnings that open like markup or JSON, none is taken for a page."""
    chance = random.Random(20261121)
    openings = [b"<a ", b"<html>", b'{"', b"[1", b"<?xml", b""]
    for number, opening in product(range(16_000), openings):
        head = opening + chance.randbytes(150)
        assert not is_page("image/png", head, IMAGES), (number, head)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG; charset=binary", "image/png"),
        (" application/vnd.ms-excel ;x", "application/vnd.ms-excel"),
        (None, ""),
        ("", ""),
        ("png", ""),
        ("image/", ""),
        ("image/png, text/html", ""),
        ("image/../../x", ""),
        ("image/png\r\nX: y", ""),
        ("image/" + "x" * 200, ""),
        ("immagine/è", ""),
    ],
)
def test_a_media_type_is_read_without_parameters_or_not_at_all(header: str | None, expected: str) -> None:
    """What is no media type is none, and reaches no log or listing."""
    assert media_type(header) == expected


def test_an_extension_is_listed_or_harmless() -> None:
    """A remote cannot make us name a file so that something would run it."""
    assert extension("image/png", IMAGES) == ".png"
    assert {extension(declared, IMAGES) for declared in ("text/html", "application/x-sh", "")} == {FALLBACK}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_a_page_in_utf_16_is_a_page(encoding) -> None:
    """Its zeros are not those of binary data, if it says what it is."""
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    page = mark + "<!DOCTYPE html><html><body>Not found</body></html>".encode(encoding)

    assert is_page("application/pdf", page[:HEAD], {"application/pdf": ".pdf"})


@pytest.mark.parametrize("body", [b'"Not found"', b"null"])
def test_a_lone_json_word_is_a_page(body) -> None:
    """Gateways say so little, too."""
    assert is_page("application/pdf", body, {"application/pdf": ".pdf"})


@pytest.mark.parametrize(
    ("extension", "declared", "head", "page"),
    [
        (".csv", "text/csv", b"a,b\n", False),
        (".csv", "text/plain", b"a,b\n", False),
        (".csv", "application/json", b"a,b\n", True),
        (".csv", "application/xml", b"a,b\n", True),
        (".csv", "text/csv", b"<Error>", True),
        (".csv", "", b'{"error": 1}', True),
        (".jsonl", "application/json", b'{"a": 1}\n{"a": 2}\n', False),
        (".jsonl", "", b'{"a": 1}\n', False),
        (".json", "text/html", b'{"a": 1}', True),
        (".json", "", b"<html>", True),
        (".xml", "application/xml", b"<a>", False),
        (".xml", "application/json", b"<a>", True),
        (".xml", "", b'{"error": 1}', True),
        (".pdf", "text/plain", b"not found", True),
        ("", "text/csv", b"a,b\n", True),
    ],
)
def test_a_file_whose_name_says_what_it_is_may_be_text(extension, declared, head, page):
    """A text of another kind is an error all the same."""
    assert is_page(declared, head, IMAGES, extension) is page
