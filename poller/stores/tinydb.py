"""The embedded store: orders in TinyDB's tables, kept by a journal.

A change is made in memory and staged for the journal in one go; whoever needs it to be
durable then waits for the commit that it is part of. So the event loop never waits for the
disk, and the disk is never asked twice for what one sync can do.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from traceback import clear_frames
from typing import Any, TypeVar

import msgspec

from poller.errors import PollerError, StoreError, StoreUnavailable
from poller.event import Event
from poller.order import Key, Order, State
from poller.shield import finish
from poller.store import History, Page, Query
from poller.stores.commits import LINGER, Commits
from poller.stores.files import Files
from poller.stores.folding import Elsewhere, fold
from poller.stores.journal import Change, encode
from poller.stores.ledger import SMALLEST_FULL_JOURNAL, Ledger
from poller.stores.listing import Listing
from poller.stores.loading import EVENTS, ORDERS, keys_in
from poller.stores.rules import admit
from poller.stores.search import condition, is_indexed, likely
from poller.stores.shelf import Found, Shelf
from poller.stores.snapshot import Snapshot
from poller.stores.turns import Turn, background

T = TypeVar("T")
_SLICE = 50
"""How many orders are looked at before we look at the clock."""
_FORGOTTEN = 200
"""How many orders are forgotten in one commit."""


class TinyStore:
    """Keeps orders in ``orders.json`` and its journal. Made by ``open``; the contract is ``poller.store.Store``'s."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        pool: ThreadPoolExecutor,
        elsewhere: Elsewhere,
        linger: float,
        now: Callable[[], float],
        report: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._pool = pool
        self._elsewhere = elsewhere
        self._linger = linger
        self._report = report
        self._turn = asyncio.Lock()
        self._closed = False
        self._folding: asyncio.Future[None] | None = None
        self._fold_from = 0
        self._shelf: Shelf
        self._commits: Commits

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now: Callable[[], float],
        report: Callable[[str], None] = lambda _: None,
        files: Files | None = None,
        linger: float = LINGER,
        full: int = SMALLEST_FULL_JOURNAL,
    ) -> "TinyStore":
        """Open a store, or found one where none of its files is there.

        Args:
            path: the snapshot, ``orders.json``; the store's other files are beside it.
            now: tells epoch seconds.
            report: told, in the event loop or in a thread of the store, what an operator should know.
            files: the operating system; if it is given, folding asks it too, and is not done by a process of its own.
            linger: seconds until a change that nobody waits for is written.
            full: bytes from which a journal is folded, if the snapshot is not larger.

        Raises:
            ConfigurationError: no store can be there.
            StoreLocked: another process has it open.
            StoreDamaged: its files hold something that we did not write, or not all that we wrote.
            StoreUnavailable: its files cannot be read or written.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="poller-store")
        elsewhere = Elsewhere()
        make = elsewhere if files is None else partial(fold, files=files)
        ledger = Ledger(path, now=now, files=files, report=report, tables=(ORDERS, EVENTS), full=full, make=make)
        store = cls(ledger, pool=pool, elsewhere=elsewhere, linger=linger, now=now, report=report)
        try:
            await store._load(ledger.open)
        except BaseException:
            ledger.abandon()
            pool.shutdown(wait=False)
            raise
        return store

    # --- poller.store.Store ---

    async def add(self, orders: Sequence[Order]) -> Sequence[tuple[Order, bool]]:
        """Keep new orders, all or none, durably before this returns."""
        self._commits.demand()
        answers = admit(orders, self._shelf.order)
        if fresh := [order for order, new in answers if new]:
            self._shelf.insert(fresh)
        await self._commits.settle()  # also for known ones: whoever added them may still be waiting
        return answers

    async def get(self, key: Key) -> Order | None:
        """Read one order."""
        self._demand_known(key)
        return self._shelf.order(key)

    async def claim(self, remote: str, *, limit: int, now: float, until: float) -> Sequence[Order]:
        """Take orders that are due. A claim is not written: whoever starts after us finds them due."""
        self._commits.demand()
        return self._shelf.claim(remote, limit=limit, now=now, until=until)

    async def renew(self, orders: Sequence[Order], *, until: float) -> None:
        """Prolong claims."""
        self._commits.demand()
        for order in orders:
            self._shelf.renew(order, until)

    async def save(self, order: Order, event: Event | None = None, *, durable: bool = True) -> None:
        """Replace an order by its next version and add to its history, in one change."""
        self._commits.demand()
        self._shelf.replace(order, event)
        if durable:
            await self._commits.settle()
        else:
            self._commits.linger()

    async def next_due(self, remote: str) -> float | None:
        """Tell when the remote's next order is due."""
        return self._shelf.next_due(remote)

    async def shift(self, remote: str, *, seconds: float) -> None:
        """Have orders be due later, or sooner. Like a claim this is not written."""
        self._commits.demand()
        self._shelf.shift(remote, seconds)

    async def search(self, query: Query) -> Page:
        """List orders. Many are looked at in slices, so that others get their turn."""
        shelf = self._shelf
        if self._commits.unsettled:
            self._commits.demand()
        if is_indexed(query):
            return shelf.page(query)
        listing: Listing[Found] = Listing(query)
        wanted, hopeful, ids = condition(query), likely(query), shelf.ids(query)
        turn = Turn()
        while some := list(islice(ids, _SLICE)):
            if shelf is not self._shelf:
                return await self.search(query)
            for value, key, found in shelf.find(wanted, hopeful, some, query.sort):
                listing.offer(value, key, found)
            await turn.over()
        if shelf is not self._shelf:  # it was taken apart, and may have ended early
            return await self.search(query)
        return listing.page(_order_of)

    async def history(self, key: Key) -> History:
        """Read an order's history."""
        self._demand_known(key)
        return self._shelf.history(key)

    async def counts(self) -> Mapping[State, int]:
        """Count orders by state."""
        return self._shelf.counts()

    async def remember(self, remote: str, habits: Mapping[str, Any]) -> None:
        """Keep what was learned about a remote's tasks; it is written with what is saved next, or a little later."""
        self._commits.demand()
        self._shelf.remember(remote, habits)
        self._commits.linger()

    async def recall(self, remote: str) -> object:
        """Read what was learned about a remote."""
        return self._shelf.recall(remote)

    async def forget(self, *, before: float) -> int:
        """Drop orders at rest that last changed before *before*, with their histories."""
        forgotten = 0
        ids = self._shelf.resting()
        turn = Turn()
        while some := list(islice(ids, _FORGOTTEN)):
            forgotten += self._shelf.forget(some, before)
            await self._commits.settle()
            await turn.over()
        return forgotten

    @property
    def problem(self) -> str | None:
        """Why nothing can be saved at present."""
        return self._commits.problem

    async def close(self) -> None:
        """Fold the journal into the snapshot, so that any TinyDB can read it, and let go."""
        await finish(self._close())

    def _demand_known(self, key: Key) -> None:
        """Refuse to tell of an order what may not be on disk, once the disk has failed."""
        if self._commits.unsettled and any(key in keys_in(changes) for changes in self._commits.unsettled):
            self._commits.demand()

    # --- Beyond the contract ---

    async def reopen(self) -> None:
        """Read everything again from the disk, after it had failed, and go on.

        What was acknowledged is there; what was not may be. Claims are gone.

        Raises:
            StoreError: it could not be read, or another process has it; it may be tried again.
        """
        await finish(self._reopen())

    async def _reopen(self) -> None:
        async with self._turn:
            if self._closed:
                self._commits.demand()
            with suppress(StoreUnavailable):
                await self._commits.close()
            await self._folded()
            before = self._shelf
            await self._load(self._ledger.reopen)
            await self._run(before.dismantle)

    async def _close(self) -> None:
        async with self._turn:
            if self._closed:
                return
            self._closed = True
            self._elsewhere.stop()
            with suppress(StoreUnavailable):
                await self._commits.close()
            await self._folded()
            with background:
                await self._run(self._put_away)
            self._pool.shutdown(wait=False)

    def _put_away(self) -> None:
        try:
            self._ledger.close()
        except (OSError, StoreError) as error:
            self._report(f"the journal could not be folded ({error}); it stays as it is, and the next start folds it")

    # --- The files ---

    async def _load(self, look: Callable[[], Snapshot]) -> None:
        with background:
            self._shelf = await finish(self._run(self._read, look))
        for remote, seconds in self._shelf.catch_up(self._now()).items():
            self._report(
                f"the clock was set back by {seconds:.0f} s or more: orders of {remote} are due sooner by that"
            )
        self._fold_from = 0
        self._commits = Commits(self._ledger.append, linger=self._linger, written=self._after_commit)

    def _read(self, look: Callable[[], Snapshot]) -> Shelf:
        path = self._ledger.names.snapshot
        try:
            snapshot = look()
            shelf = Shelf(snapshot.pieces(), sink=self._stage, path=path, vet=snapshot.foreign)
            self._ledger.begin()
        except PollerError as error:
            clear_frames(error.__traceback__)  # a million documents may stand in them
            raise
        except OSError as error:
            clear_frames(error.__traceback__)
            hint = "look at the folder, its owner and the space on its disk"
            raise StoreUnavailable(f"{path} cannot be opened: {error}", hint=hint) from error
        return shelf

    def _stage(self, changes: Sequence[Change]) -> None:
        self._commits.stage(encode(changes))

    def _run(self, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    # --- Folding, while commits go on ---

    def _after_commit(self) -> None:
        if self._ledger.folding and self._folding is None and self._ledger.size >= self._fold_from:
            self._folding = self._run(self._ledger.fold)
            self._folding.add_done_callback(self._after_folding)

    def _after_folding(self, work: asyncio.Future[None]) -> None:
        self._folding = None
        error = work.exception()
        self._fold_from = 0 if error is None else self._ledger.size + SMALLEST_FULL_JOURNAL
        if error is not None and not self._closed:
            self._report(f"a full journal could not be folded ({error}); it stays, and that is tried again later")

    async def _folded(self) -> None:
        if self._folding is not None:
            await asyncio.wait([self._folding])


_decode = msgspec.json.Decoder(Order).decode


def _order_of(found: Found) -> Order:
    return found if isinstance(found, Order) else _decode(found)
