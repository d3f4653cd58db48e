"""What may become a file: judged by the head of the reply, by its size, and by what it turned out to be."""

from collections.abc import Callable, Mapping
from typing import Protocol

from poller import content
from poller.address import bare
from poller.digest import Tally
from poller.outcome import Cause, Gone, LinkExpired, NothingToFetch, Outcome, TooLarge, Trouble
from poller.promise import Promise
from poller.remote import Aborted, Delivery, Link, retry_after

_WHOLE, _PART = 200, 206
_NO_REST = frozenset({400, 412, 416, 501})
"""Answers to who asked for a part, after which it is worth asking for the whole."""
_REPLACED = "a newer version has taken its place"
_EXPIRED = frozenset({401, 403, 404, 410})


class Head(Protocol):
    """What comes before a body; see ``wire.Body``."""

    status: int
    url: str
    headers: Mapping[str, str]
    length: int | None
    framed: bool


class Received(Protocol):
    """A file that has come; see ``partial.Partial``."""

    @property
    def size(self) -> int:
        """Bytes in it."""
        ...

    @property
    def head(self) -> bytes:
        """The first of them."""
        ...


class Guard:
    """Judges what one remote sends for a file. What it refuses is raised as Aborted, with the outcome.

    Args:
        delivery: what the remote's files are like.
        max_bytes: more than this is refused, announced or not.
        now: epoch seconds.
    """

    def __init__(self, *, delivery: Delivery, max_bytes: int, now: Callable[[], float]) -> None:
        self._delivery = delivery
        self._max_bytes = max_bytes
        self._now = now

    def admit(self, head: Head, link: Link) -> Promise:
        """Read the head of a reply to who asked for a file, before a byte of it is read."""
        if head.status != _WHOLE:
            raise Aborted(self._refusal(head))
        if link.expected.startswith('"') and head.headers.get("etag") != link.expected:
            raise Aborted(Gone(reason=_REPLACED, status=head.status, address=bare(head.url)))
        promise = Promise.of(head.headers, length=head.length, framed=head.framed, url=head.url, packed=link.unpack)
        if promise.encoding is None or not _is_plain(head):
            how = head.headers["content-encoding" if _is_plain(head) else "transfer-encoding"].strip().lower()
            raise Aborted(_wrong(head, f"the file came encoded as {how}, which nobody asked for"))
        self.demand_small(promise.total or 0, head)
        return promise

    def resume(self, head: Head, promise: Promise, size: int) -> Promise | None:
        """Read the head of a reply to who asked for what follows *size* bytes; None if it is not just that."""
        if head.status in _NO_REST:
            return None
        if head.status != _PART:
            raise Aborted(self._refusal(head))
        rest = promise.continued(head.headers, size) if _is_plain(head) else None
        self.demand_small((rest and rest.total) or 0, head)
        return rest

    def is_whole(self, head: Head) -> bool:
        """Tell whether a file comes with its first byte."""
        return head.status == _WHOLE

    def demand_small(self, size: int, head: Head) -> None:
        """Refuse a file that is, or is to be, too large."""
        if size > self._max_bytes:
            reason = f"the file is larger than the {self._max_bytes} bytes of POLLER_MAX_FILE_BYTES"
            raise Aborted(TooLarge(reason=reason, address=bare(head.url)))

    def verify(self, head: Head, promise: Promise, tally: Tally, file: Received, link: Link) -> None:
        """Refuse a file that is not what was promised, or none at all.

        Args:
            head: what came before it.
            promise: what it said.
            tally: of what came over the wire, which a decoded file is not.
            file: what was made of that.
            link: where it came from, and what was known of it.
        """
        if broken := promise.broken_by(tally):
            raise Aborted(_wrong(head, broken))
        if not file.size and link.nothing:
            raise Aborted(NothingToFetch())
        if not file.size:
            raise Aborted(_wrong(head, "the file is empty"))
        declared = promise.media_type
        own = promise.suffix if promise.suffix in link.extensions else ""
        if content.is_page(declared, file.head, self._delivery.extensions, link.extension or own):
            raise Aborted(_wrong(head, f"a page ({declared or 'of no type'}) came where a file was promised"))

    def demand_bytes(self, link: Link, head: Head, sha256: str) -> None:
        """Refuse other bytes than the link was for."""
        if link.expected and not link.expected.startswith('"') and link.expected != sha256:
            raise Aborted(Gone(reason=_REPLACED, status=head.status, address=bare(head.url)))

    def garbled(self, head: Head, how: str) -> Aborted:
        """Refuse a body that cannot be decoded."""
        return Aborted(_wrong(head, how))

    def unvouched(self, url: str) -> Aborted:
        """Refuse a body of which nobody knows whether it is whole."""
        reason = "nothing vouches for the end of the file: no length, no chunks, no checksum"
        return Aborted(Trouble(reason=reason, status=_WHOLE, address=bare(url), cause=Cause.WRONG_CONTENT))

    def _refusal(self, head: Head) -> Outcome:
        reason, address = f"the link answered {head.status}", bare(head.url)
        wish = retry_after(head.headers.get("retry-after"), self._now())
        kind = LinkExpired if head.status in _EXPIRED else Trouble
        return kind(reason=reason, status=head.status, address=address, retry_after=wish)


def is_wrong(outcome: Outcome) -> bool:
    """Tell whether what came was wrong, rather than cut: nobody should go on with it."""
    return isinstance(outcome, TooLarge) or (isinstance(outcome, Trouble) and outcome.cause is Cause.WRONG_CONTENT)


def _is_plain(head: Head) -> bool:
    """Tell whether nothing but chunks was made of a body on its way."""
    return head.headers.get("transfer-encoding", "chunked").strip().lower() == "chunked"


def _wrong(head: Head, reason: str) -> Trouble:
    return Trouble(reason=reason, status=head.status, address=bare(head.url), cause=Cause.WRONG_CONTENT)
