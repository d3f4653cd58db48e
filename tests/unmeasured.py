"""Leaves tests out of the coverage that are marked ``unmeasured``. A pytest plugin.

Python 3.11 runs everything three to eight times as slowly while coverage looks on, even what is not to be measured. So
what computes for long is run without it, and so are the processes that it starts. Nothing is asked less for that:
``.ci/run`` wants its shares of lines and branches from the other tests.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import coverage
import pytest

MARK = "unmeasured"
_PASSED_ON = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
"""By what a process learns that it is to be measured."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test, its fixtures included."""
    if item.get_closest_marker(MARK) is None:
        return (yield)
    with paused():
        return (yield)


@contextmanager
def paused() -> Iterator[None]:
    """Measure nothing meanwhile, here and in new processes; do nothing where nothing is measured."""
    measuring = coverage.Coverage.current()
    passed_on = {name: os.environ.pop(name) for name in _PASSED_ON if name in os.environ}
    if measuring is not None:
        measuring.stop()
    try:
        yield
    finally:
        if measuring is not None:
            measuring.start()
        os.environ |= passed_on
