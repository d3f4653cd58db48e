"""Says at the end of a run how much the fault tests have tried: states, faults, kills, damages.

A pytest plugin. A test tells a count of its own by ``record_property`` under one of NAMES.
"""

from collections import Counter

import pytest

NAMES = ("states tried", "faults met", "processes killed", "damages tried")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line for each name, and one for each test that has told a count under it."""
    counts = _counts(terminalreporter)
    if counts:
        terminalreporter.section("what the fault tests tried")
    for name, tests in counts.items():
        terminalreporter.write_line(f"{sum(tests.values()):6} {name}")
        for test, count in sorted(tests.items()):
            terminalreporter.write_line(f"{count:14} {test}")


def _counts(terminalreporter: pytest.TerminalReporter) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, count in report.user_properties:
            if name in NAMES:
                counts.setdefault(name, Counter())[_function(report.nodeid)] += count
    return counts


def _function(nodeid: str) -> str:
    return nodeid.partition("::")[2].partition("[")[0]
