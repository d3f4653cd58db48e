"""When somebody is left alone, and for how long."""

from poller.breaker import Breaker, Pause
from poller.order import Key


def test_a_pause_doubles_and_ends() -> None:
    """A locked remote is left alone for 30, 60, … 300 seconds; stragglers add nothing; one success ends it."""
    pause, now, lengths = Pause(), 1000.0, []
    for _ in range(6):
        pause.begin("401", now)
        pause.begin("a straggler", now + 1.0)
        lengths.append(pause.until - now)
        assert (pause.on, pause.reason) == (True, "401")
        now = pause.until
    assert lengths == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]

    pause.end()
    assert (pause.on, pause.reason, pause.until) == (False, "", 0.0)
    pause.begin("401", now)
    assert pause.until == now + 30.0


def test_a_breaker_opens_on_an_outage_and_not_on_bad_orders() -> None:
    """Five troubles in a row over three orders open it; an answer between starts the count again."""
    one, two, three = (Key("r", name) for name in "abc")
    alone, between, breaker = Breaker(), Breaker(), Breaker()
    assert not any(alone.fail(key, "reset", 0.0) for key in [one, two] * 20)
    for _ in range(5):
        assert not any(between.fail(key, "reset", 0.0) for key in (one, two, three, one))
        between.succeed()

    opened = [breaker.fail(key, "reset", 10.0) for key in (one, two, one, two, three, one)]
    assert opened == [False] * 4 + [True] * 2
    lengths, now = [], breaker.pause.until
    for _ in range(8):
        breaker.fail(one, "reset", now)
        lengths.append(breaker.pause.until - now)
        now = breaker.pause.until
    assert lengths == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    breaker.succeed()
    assert not breaker.pause.on


def test_a_breaker_opens_for_a_lone_order_if_nothing_answers() -> None:
    """There may be no other order that could notice; and what answers has something against this one."""
    breaker, one = Breaker(), Key("r", "a")
    assert [breaker.fail(one, "cannot connect", 0.0, silent=True) for _ in range(6)] == [False] * 4 + [True] * 2


def test_a_lone_order_that_fails_by_itself_opens_none_though_nothing_answers_once() -> None:
    """Four 502 about it and a reset are no outage; nor are they with one more of either."""
    breaker, one = Breaker(), Key("r", "a")
    assert not any(breaker.fail(one, "502", 0.0, silent=number % 5 == 4) for number in range(40))
