"""Whose limit counts, and how connections are divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.caps import Shares, shared
from poller.remote import Caps

LARGE = st.integers(1, 200)
MAYBE = st.none() | LARGE
PAGES = st.builds(
    Caps, requests_per_minute=MAYBE, connections=st.none() | st.integers(2, 200), checks=MAYBE, downloads=MAYBE
)


def _shared(page: Caps, **ours: int) -> tuple[int, ...]:
    given_ = {"requests_per_minute": 0, "connections": 0, "checks": 64, "downloads": 8} | ours
    shares = shared(**given_, page=page)
    return (shares.requests_per_minute, shares.connections, shares.checks, shares.downloads)


@pytest.mark.parametrize(
    ("ours", "page", "expected"),
    [
        ({}, Caps(), (0, 72, 64, 8)),
        ({"requests_per_minute": 60}, Caps(), (60, 72, 64, 8)),
        ({"requests_per_minute": 60}, Caps(requests_per_minute=600), (60, 72, 64, 8)),
        ({"requests_per_minute": 0}, Caps(requests_per_minute=600), (600, 72, 64, 8)),
        ({}, Caps(checks=4, downloads=2), (0, 6, 4, 2)),
        ({}, Caps(checks=400, downloads=200), (0, 72, 64, 8)),
        ({}, Caps(connections=6), (0, 6, 3, 3)),
        ({"connections": 40}, Caps(connections=60), (0, 40, 32, 8)),
        ({"connections": 2}, Caps(), (0, 2, 1, 1)),
        ({"connections": 100}, Caps(), (0, 100, 64, 8)),
        ({"connections": 10, "checks": 2}, Caps(), (0, 10, 2, 8)),
    ],
)
def test_the_lower_limit_counts(ours: dict[str, int], page: Caps, expected: tuple[int, ...]) -> None:
    """The page may say less than the operator, never more; connections are enough for all or divided."""
    assert _shared(page, **ours) == expected


@given(checks=LARGE, downloads=LARGE, connections=st.just(0) | st.integers(2, 200), page=PAGES)
def test_no_share_is_empty_and_none_is_over_a_limit(checks: int, downloads: int, connections: int, page: Caps) -> None:
    """There is always room for one question and one file, and all together need no more connections than allowed."""
    shares: Shares = shared(
        requests_per_minute=0, connections=connections, checks=checks, downloads=downloads, page=page
    )
    assert 1 <= shares.checks <= min(checks, page.checks or checks)
    assert 1 <= shares.downloads <= min(downloads, page.downloads or downloads)
    assert shares.checks + shares.downloads <= shares.connections
    assert shares.connections <= min(connections or 10**9, page.connections or 10**9)
