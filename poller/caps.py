"""How much of a remote may be used at once: what its page says it takes, and what the operator allows. Pure."""

import msgspec

from poller.remote import Caps


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of it.

    Attributes:
        requests_per_minute: 0 for no cap.
        connections: enough for all questions and downloads.
        checks, downloads: together no more than the connections, for each holds one at a time.
    """

    requests_per_minute: int
    connections: int
    checks: int
    downloads: int


def shared(*, requests_per_minute: int, connections: int, checks: int, downloads: int, page: Caps) -> Shares:
    """Take the lower of what the operator and the page allow, and divide the connections.

    Where connections are short, downloads get half of them at most: a slow file must never delay a question.

    Args:
        requests_per_minute: the operator's, as the next three are; 0 for no cap.
        connections: 0 for as many as the questions and downloads need.
        checks: questions at once.
        downloads: files at once.
        page: what the remote's page says.
    """
    checks, downloads = _lower(checks, page.checks), _lower(downloads, page.downloads)
    most = _lower(connections, page.connections) or checks + downloads
    downloads = min(downloads, max(most - checks, most // 2))
    return Shares(
        requests_per_minute=_lower(requests_per_minute, page.requests_per_minute),
        connections=most,
        checks=min(checks, most - downloads),
        downloads=downloads,
    )


def _lower(ours: int, theirs: int | None) -> int:
    return min(filter(None, (ours, theirs)), default=0)
