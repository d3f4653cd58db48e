"""A model of a disk: what may be found on it after the power failed, given what was asked of it.

The model is as hostile as POSIX allows, after the way of ALICE (Pillai and others, OSDI 2014):

* What is written to a file is durable once that file was synced. Before that, any of the
  sectors of 512 bytes may have arrived, in any order; where one did not, what was durable
  there is read, or zeros; and the file may be as long as it was, as long as it should be, or
  anything between. A sector arrives whole or not at all. (To reserve room is to write zeros
  and to sync.)
* A name that is made, moved or removed is so durably once its folder was synced. Before that,
  each such operation may have happened or not, but not before an earlier one on the same name,
  nor one that names an inode before the one that named it first. Each is atomic. Syncing a
  file does not keep its name.
* A change in place is durable once it has returned, so a failure inside finds it made or not,
  as before it and as after it.

A process that ends without the power failing leaves everything that it had done: that is the
state in which everything has arrived.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations, product
from math import prod
from typing import TypeAlias

SECTOR = 512
ALL_SUBSETS_UP_TO = 6
"""Of how many things every subset is tried; of more, the telling ones and some by chance."""

Image: TypeAlias = dict[str, bytes]
"""What a folder holds: names and contents."""


class Inode:
    """A file, whatever it is called.

    Attributes:
        durable: what is on the disk for certain.
        data: what a process reads.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.durable = self.data = data
        self._position = 0
        self._ends: list[int] = []

    def write(self, data: bytes) -> None:
        """Write after what was written before."""
        self.put(self._position, data)
        self._position += len(data)

    def put(self, offset: int, data: bytes) -> None:
        """Write at some place."""
        self.data = _changed(self.data, offset, data)
        self._ends.append(offset + len(data))

    def overwrite(self, offset: int, data: bytes) -> None:
        """Change in place; durable at once where the bytes before were."""
        self.data = _changed(self.data, offset, data)
        if offset + len(data) <= len(self.durable):
            self.durable = _changed(self.durable, offset, data)

    def sync(self) -> None:
        """Make everything durable."""
        self.durable, self._ends = self.data, []

    def outcomes(self, chance: random.Random) -> list[bytes]:
        """Tell what may be found after the power failed, all of it first and none of it second."""
        if self.data == self.durable:
            return [self.data]
        before = self.durable.ljust(len(self.data), b"\0")
        starts = range(0, len(self.data), SECTOR)
        pending = [at for at in starts if self.data[at : at + SECTOR] != before[at : at + SECTOR]]
        images = [_arrived(before, self.data, subset) for subset in subsets(pending, chance)]
        found = (image[:size] for image in images for size in self._sizes(chance))
        return list(dict.fromkeys([self.data, self.durable, *found]))

    def _sizes(self, chance: random.Random) -> list[int]:
        low, high = len(self.durable), len(self.data)
        edges = [at for at in range(0, high, SECTOR) if at > low]
        telling = {low, high, *self._ends, *edges[:2], *edges[-1:], high - 1, chance.randint(low, high)}
        return sorted(size for size in telling if low <= size <= high)


def subsets(things: Sequence[int], chance: random.Random) -> list[frozenset[int]]:
    """Give every subset of a few things; of many: all, none, one missing, one alone, beginnings, and some by chance."""
    if len(things) <= ALL_SUBSETS_UP_TO:
        sizes = range(len(things) + 1)
        return [frozenset(each) for each in chain.from_iterable(combinations(things, size) for size in sizes)]
    whole = frozenset(things)
    telling = [*(whole - {each} for each in things), *(frozenset({each}) for each in things)]
    beginnings = [frozenset(things[:end]) for end in range(len(things))]
    some = [frozenset(each for each in things if chance.random() < 0.5) for _ in range(8)]
    return list(dict.fromkeys([whole, *telling, *beginnings, *some]))


class Naming:
    """One operation on names that is not durable yet: what each of them means afterwards."""

    def __init__(self, **entries: Inode | None) -> None:
        self.entries = entries

    def follows(self, other: "Naming") -> bool:
        """Tell whether it cannot be durable without the *other*, which was asked for earlier."""
        inodes = {id(inode) for inode in other.entries.values() if inode is not None}
        return bool(self.entries.keys() & other.entries.keys()) or any(
            id(inode) in inodes for inode in self.entries.values() if inode is not None
        )


class Disk:
    """One folder on a disk, to which operations are applied by name, as they are recorded.

    Attributes:
        names: the files as a process finds them.
    """

    def __init__(self, image: Mapping[str, bytes] | None = None) -> None:
        self.names = {name: Inode(data) for name, data in (image or {}).items()}
        self._durable = dict(self.names)
        self._pending: list[Naming] = []
        self._created: list[Inode] = []

    # --- The operations. A file that was created is known by the how manyth it was ---

    def create(self, name: str) -> None:
        self._created.append(Inode())
        self._name(Naming(**{name: self._created[-1]}))

    def write(self, file: int, data: bytes) -> None:
        self._created[file].write(data)

    def put(self, file: int, offset: int, data: bytes) -> None:
        self._created[file].put(offset, data)

    def sync(self, file: int) -> None:
        self._created[file].sync()

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        self.names[name].overwrite(offset, data)

    def link(self, source: str, target: str) -> None:
        self._name(Naming(**{target: self.names[source]}))

    def rename(self, source: str, target: str) -> None:
        self._name(Naming(**{source: None, target: self.names[source]}))

    def unlink(self, name: str) -> None:
        if name in self.names:
            self._name(Naming(**{name: None}))

    def sync_folder(self) -> None:
        self._durable, self._pending = dict(self.names), []

    def _name(self, naming: Naming) -> None:
        self._pending.append(naming)
        _apply(self.names, naming)

    # --- What may be found ---

    def now(self) -> Image:
        """Give what the next process finds if only this one ends."""
        return {name: inode.data for name, inode in self.names.items()}

    def after_power_loss(self, chance: random.Random, limit: int) -> Iterator[Image]:
        """Give what may be found if the power fails; of more than *limit* images, about as many by chance."""
        outcomes = {id(inode): inode.outcomes(chance) for inode in self._inodes()}
        found = [(names, {id(each): outcomes[id(each)] for each in names.values()}) for names in self._listings(chance)]
        total = sum(prod(map(len, files.values())) for _, files in found)
        share = min(1.0, limit / total)
        for names, files in found:
            for number, data in enumerate(product(*files.values())):
                if number < 2 or share == 1 or chance.random() < share:
                    chosen = dict(zip(files, data, strict=True))
                    yield {name: chosen[id(inode)] for name, inode in names.items()}

    def _listings(self, chance: random.Random) -> Iterator[dict[str, Inode]]:
        for happened in subsets(range(len(self._pending)), chance):
            if self._is_legal(happened):
                names = dict(self._durable)
                for number in sorted(happened):
                    _apply(names, self._pending[number])
                yield names

    def _is_legal(self, happened: frozenset[int]) -> bool:
        return all(
            earlier in happened or not self._pending[later].follows(self._pending[earlier])
            for later in happened
            for earlier in range(later)
        )

    def _inodes(self) -> Iterator[Inode]:
        yield from self._durable.values()
        for naming in self._pending:
            yield from filter(None, naming.entries.values())


def _apply(names: dict[str, Inode], naming: Naming) -> None:
    for name, inode in naming.entries.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _changed(data: bytes, offset: int, piece: bytes) -> bytes:
    return data[:offset] + piece + data[offset + len(piece) :]


def _arrived(before: bytes, after: bytes, sectors: frozenset[int]) -> bytes:
    for at in sectors:
        before = _changed(before, at, after[at : at + SECTOR])
    return before
