"""What may be turned at a render, and what a start asks for."""

import pytest

from poller.sandbox import KNOBS, Failure, Render, tuned
from poller.sandbox.document import wanted

HOUR = 3600.0


def test_knobs_are_read_from_text():
    """Every knob has a field of the render, and its text becomes the value."""
    texts = {
        "delay": "200ms",
        "size": "2MB",
        "type": "png",
        "failure": "render",
        "times": "3",
        "pending_status": "202",
        "retry_after": "7s",
        "link_life": "1h",
        "rate": "10kB",
    }
    assert texts.keys() == KNOBS.keys()
    assert tuned(Render(), texts) == Render(
        delay=0.2,
        size=2_000_000,
        media_type="image/png",
        failure=Failure.RENDER,
        times=3,
        pending_status=202,
        retry_after=7.0,
        link_life=HOUR,
        rate=10_000,
    )


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"delay": "soon"}, "delay: 'soon' is not a duration"),
        ({"size": "-1"}, "size: '-1' is not a size"),
        ({"type": "docx"}, "type: 'docx' is not one of gif, jpg, mp4, pdf, png, zip, nor a media type"),
        ({"type": "a/b\r\nX: y"}, "type: "),
        ({"failure": "boom"}, "failure: 'boom' is none of render, gone,"),
        ({"times": "-1"}, "times: '-1' is not a whole number"),
        ({"pending_status": "500"}, "the pending status is 202 or 204, not 500"),
        ({"rate": "0"}, "a rate is more than nothing"),
        ({"sise": "1MB", "delay": "x"}, r"sise: did you mean size\?; delay: 'x'"),
    ],
)
def test_a_bad_knob_is_said(knobs, complaint):
    """What cannot be read, or looks misspelt, is refused with its name."""
    with pytest.raises(ValueError, match=complaint):
        tuned(Render(), knobs)


def test_a_render_takes_no_negative_values():
    """Values set in code are checked as well."""
    with pytest.raises(ValueError, match="not negative"):
        Render(size=-1)


@pytest.mark.parametrize(
    ("failure", "times", "mishaps"),
    [(None, 5, 5), (None, None, 0), (Failure.FLAKY, None, 2), (Failure.UNAUTHORIZED, None, 1), (Failure.GONE, 4, 4)],
)
def test_failures_pass_after_as_many_times_as_suit_them(failure, times, mishaps):
    """A number that is given counts; else each failure has its own."""
    assert Render(failure=failure, times=times).mishaps == mishaps
    assert tuned(Render(failure=Failure.FLAKY), {"times": "always"}).mishaps == Render(failure=Failure.GONE).mishaps


@pytest.mark.parametrize(
    ("kind", "output_type", "body", "media"),
    [
        ("pdf", None, b"", "application/pdf"),
        ("jpg", None, b"{}", "image/jpeg"),
        ("png", None, b'{"projectId":"p","layoutsToExport":["0",1]}', "image/png"),
        ("gif", None, b'{"variables":[{"a":1}]}', "image/gif"),
        ("mp4", None, b'{"variables":[{"a":1},{"a":2}]}', "application/zip"),
        ("html", None, b"", "application/zip"),
        ("pdf", None, b'{"variables":[{},{},{}]}', "application/pdf"),
        ("pdf", None, b'{"variables":[{},{},{}],"maxRecordsPerFile":2}', "application/zip"),
        ("pdf", None, b'{"variables":null}', "application/pdf"),
        ("image", "png", b"", "image/png"),
        ("image", "jpg", b'{"layouts":[]}', "image/jpeg"),
        ("animation", "gif", b"", "image/gif"),
        ("animation", "mp4", b"", "video/mp4"),
    ],
)
def test_what_is_asked_for_decides_the_type(kind, output_type, body, media):
    """Each endpoint has its type; batches of pictures, split PDFs and HTML come as an archive."""
    assert wanted(kind, output_type, body) == media


@pytest.mark.parametrize(
    ("kind", "output_type", "body", "complaint"),
    [
        ("image", None, b"", "outputType must be png or jpg, not None"),
        ("animation", "png", b"", "outputType must be gif or mp4, not 'png'"),
        ("pdf", None, b"[", "the body is not what a start takes"),
        ("pdf", None, b'"\xff"', "the body is not what a start takes"),
        ("pdf", None, b'{"projectId":3}', r"\$\.projectId"),
        ("pdf", None, b'{"variables":[1]}', "Expected `object`, got `int`"),
        ("pdf", None, b'{"variables":[' + b",".join([b"{}"] * 10_001) + b"]}", "10001 rows of variables"),
        ("pdf", None, b'{"variables":[{"a":"' + b"x" * 10_000_000 + b'"}]}', "at most 10000000 bytes"),
    ],
)
def test_a_start_that_cannot_be_taken_is_said(kind, output_type, body, complaint):
    """Wrong types and what passes the limits are refused, and the complaint names what."""
    with pytest.raises(ValueError, match=complaint):
        wanted(kind, output_type, body)
