"""What a remote's reply means when its own page has no word for it."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.address import Origin
from poller.outcome import Absent, NotReady, Refused, Trouble
from poller.remote import Aborted, Conversation, Delivery, Denied, Link, Ready, Reply, Request, judge, retry_after
from tests.strategies import anything

NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the moment that RFC 9110 uses."""


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let this machine stand somewhere else."""
    with monkeypatch.context() as patch:
        patch.setitem(os.environ, "TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("000000001", 1.0),
        ("", None),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("soon", None),
        ("10 s", None),
        ("\u0661\u0662", None),
        ("\u00b2", None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 -0000", 60.0),
        ("Sun, 06 Nov 1994 10:50:37 +0200", 60.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 252_618_189_022.0),
        ("Sun, 99 Nov 1994 08:50:37 GMT", None),
        ("Sun, 06 Nov 99999 08:50:37 GMT", None),
        ("Sun, 06 Nov 1994 08:50:37 +99999999", None),
        ("Sun, 06 Nov 99999999999999999999 08:50:37 GMT", None),
        (f"Sun, 06 Nov {'9' * 5000} 08:50:37 GMT", None),
    ],
)
@pytest.mark.usefixtures("zone")
def test_retry_after_in_all_its_forms(text: str | None, wait: float | None) -> None:
    """Seconds and the three HTTP dates are read wherever this machine stands; the past is 0, and nonsense None."""
    assert retry_after(text, NOW) == wait


def test_retry_after_of_absurd_length_is_a_large_number() -> None:
    """A number of any length is read; how much of it is honoured is another's business."""
    wait = retry_after("9" * 5000, NOW)
    assert wait is not None
    assert 1e9 < wait < float("inf")


@given(anything | st.from_regex(r"[A-Za-z]{0,9},? ?[0-9]{0,30} ?[A-Z][a-z]{2} ?[0-9]{0,20} [0-9:]{0,12} ?[-+A-Z0-9]*"))
def test_no_retry_after_is_too_odd(text: str) -> None:
    """Whatever a remote sends, the answer is a wait or nothing."""
    wait = retry_after(text, NOW)
    assert wait is None or wait >= 0.0


MEANINGS = {404: Absent, 410: Absent, 400: Refused, 405: Refused, 422: Refused}
FINAL = (Refused,)


def test_every_status_has_its_meaning() -> None:
    """Five statuses are a word of the remote's; every other one may go right next time. Its wish to wait is kept."""
    for status in range(100, 600):
        reply = Reply(status=status, headers={}, body=b"", url="https://r.example/", retry_after=7.0)
        answer = judge(reply, address="https://r.example/t", reason="because")
        told: dict[str, Any] = {"reason": "because", "status": status, "address": "https://r.example/t"}
        kind = MEANINGS.get(status, Trouble)
        wish = {} if kind in FINAL else {"retry_after": 7.0}
        assert answer == kind(**told, **wish)


def test_an_early_end_carries_its_outcome() -> None:
    """Whoever catches an early end finds the outcome in it, and a text for the log."""
    outcome = Trouble(reason="reset")
    with pytest.raises(Aborted, match="reset") as caught:
        raise Aborted(outcome)
    assert caught.value.outcome is outcome
    assert not isinstance(caught.value, Denied)


def test_a_conversation_needs_no_network() -> None:
    """A conversation is a table of replies: it is sent one for each request, and its return is the answer."""

    def check() -> Conversation[NotReady | Ready]:
        reply = yield Request(method="GET", url="https://r.example/t")
        return NotReady() if reply.status == 204 else Ready(links=(Link(url=reply.url),))

    for status, expected in ((204, NotReady()), (200, Ready(links=(Link(url="https://r.example/f"),)))):
        conversation = check()
        assert next(conversation) == Request(method="GET", url="https://r.example/t", auth=True)
        with pytest.raises(StopIteration) as end:
            conversation.send(Reply(status=status, headers={}, body=b"", url="https://r.example/f"))
        assert end.value.value == expected


def test_credentials_go_along_unless_told_otherwise() -> None:
    """What a request, a link and a delivery are when nothing is said."""
    assert Request(method="GET", url="https://r.example/").auth
    assert Link(url="https://r.example/").auth
    assert Delivery() == Delivery(extensions={}, unframed="twice", window=None)
    assert Origin.of("https://r.example/") == ("https", "r.example", 443)
