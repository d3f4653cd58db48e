"""What every test runs under."""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.tally", "tests.tls", "tests.canary", "tests.unmeasured"]

# A shared core may be slow for once, so no example has a deadline.
settings.register_profile("poller", deadline=None, max_examples=75, print_blob=True)
settings.load_profile("poller")


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look seldom whether the store is well: looking every second is most of what a virtual day costs."""
    monkeypatch.setattr("poller.poller._MEND_FIRST", 60.0)
