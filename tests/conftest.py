"""What every test runs under."""

from hypothesis import settings

pytest_plugins = ["tests.tally", "tests.tls", "tests.canary", "tests.unmeasured"]

# A shared core may be slow for once, so no example has a deadline.
settings.register_profile("poller", deadline=None, max_examples=75, print_blob=True)
settings.load_profile("poller")
