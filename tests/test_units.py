"""Durations, sizes and instants, as people write them and as we do."""

import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.units import human_seconds, human_size, instant, iso, seconds, size
from tests.strategies import anything


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200ms", 0.2),
        ("0.2s", 0.2),
        ("1s", 1.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("90", 90.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("  10 s ", 10.0),
        ("3650d", 315_360_000.0),
    ],
)
def test_durations_as_people_write_them(text: str, expected: float) -> None:
    """Every unit of a duration is read, blanks around and before the unit included."""
    assert seconds(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1s",
        "+1s",
        "1x",
        "1 m s",
        "1s2s",
        "1,5s",
        ".5s",
        "5.s",
        "1e3",
        "inf",
        "nan",
        "0x10",
        "\uff11s",
        "1S",
    ],
)
def test_what_is_no_duration_says_what_one_is(text: str) -> None:
    """Anything else is refused with the text and with examples of a right one."""
    with pytest.raises(ValueError, match="is not a duration such as 200ms") as caught:
        seconds(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["3651d", "315360001", "9" * 400])
def test_durations_end_at_ten_years(text: str) -> None:
    """Nobody means more than ten years, and no number is too long to be refused."""
    with pytest.raises(ValueError, match="longer than ten years"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1MB", 10**6),
        ("1MiB", 2**20),
        ("10GiB", 10 * 2**30),
        ("2GB", 2 * 10**9),
        ("1TB", 10**12),
        ("1 TiB", 2**40),
        ("0.5MiB", 2**19),
        ("0", 0),
        ("8192TiB", 2**53),
    ],
)
def test_sizes_as_people_write_them(text: str, expected: int) -> None:
    """Every unit of a size is read; binary and decimal ones are told apart."""
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "B", "-1", "1 KiBs", "1kib", "1gb", "ten", "1m", "∞"])
def test_what_is_no_size_says_what_one_is(text: str) -> None:
    """Anything else is refused with examples of a right one."""
    with pytest.raises(ValueError, match="is not a size such as 4096"):
        size(text)


@pytest.mark.parametrize("text", ["8193TiB", "9" * 400])
def test_sizes_end_where_they_are_no_longer_exact(text: str) -> None:
    """A size beyond all disks is refused, however long its number."""
    with pytest.raises(ValueError, match="larger than 8 PiB"):
        size(text)


@given(st.integers(0, 2**53))
def test_bytes_are_exact(count: int) -> None:
    """A plain number of bytes is read as that number, up to the largest."""
    assert size(str(count)) == count


@given(anything)
def test_no_text_breaks_a_reader(text: str) -> None:
    """Whatever is given, the answer is a number or a ValueError of ours that names no function of Python's."""
    for read in (seconds, size, instant):
        try:
            assert math.isfinite(read(text))
        except ValueError as error:
            assert re.search(r"is not|has no offset|larger|longer", str(error)), error  # noqa: PT017 - it need not come


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-21T05:00:00.123Z", 1795237200.123),
        ("2026-11-21T07:00:00+02:00", 1795237200.0),
        ("2026-11-21 05:00Z", 1795237200.0),
        ("20261121T050000Z", 1795237200.0),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
    ],
)
def test_instants_with_their_offset(text: str, expected: float) -> None:
    """ISO 8601 in its usual forms is read, in any offset."""
    assert instant(text) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("text", ["2026-11-21", "2026-11-21T05:00:00"])
def test_an_instant_without_an_offset_is_refused(text: str) -> None:
    """Whose five o'clock it is must be said."""
    with pytest.raises(ValueError, match="has no offset; end it with Z"):
        instant(text)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01T00:00:00Z", "1795237200", "2026-11-21T05:00:00 Z0"])
def test_what_is_no_instant_says_what_one_is(text: str) -> None:
    """Anything else is refused with an example of a right one."""
    with pytest.raises(ValueError, match="is not an instant such as 2026-11-21T05:00:00Z"):
        instant(text)


@given(st.integers(0, 4_000_000_000_000))
def test_what_we_write_we_read(milliseconds: int) -> None:
    """Every instant of the next hundred years is written to the millisecond, in UTC, and read back the same."""
    text = iso(milliseconds / 1000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert round(instant(text) * 1000) == milliseconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_an_instant_looks_as_promised(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside, times are ISO 8601 in UTC with milliseconds, wherever this machine stands."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert iso(1795237200.123) == "2026-11-21T05:00:00.123Z"
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0.0 s"),
        (0.84, "0.8 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42, "42 s"),
        (119, "119 s"),
        (120, "2 min"),
        (300, "5 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (3 * 3600, "3 h"),
        (172_800, "2 d"),
        (7 * 86400, "7 d"),
    ],
)
def test_durations_as_people_say_them(value: float, expected: str) -> None:
    """The unit grows with the duration, and tenths are told only below ten seconds."""
    assert human_seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1.4 * 2**20, "1.4 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**40, "1.0 TiB"),
        (5000 * 2**40, "5000.0 TiB"),
    ],
)
def test_sizes_as_people_say_them(value: float, expected: str) -> None:
    """The unit grows with the size, and no unit is ever told a full next one of."""
    assert human_size(value) == expected
