"""One writer: who may open a store, and how he notices that he no longer is the one.

The lock is the kernel's (``flock``), on a file beside the snapshot: it ends with its
process, so a dead one's is never in the way. Two things can get round it, and each has a
guard of its own:

* Somebody removes the lock file, and a second process locks a new one. Whoever opens a
  store looks who wrote its journal, and refuses while that process lives. And whoever has
  a store open looks, before a commit is acknowledged, whether the file at the lock's name
  is still the one it locked: if so, nobody had begun to read the journal before that commit
  was in it.
* Network file systems, where a lock may hold for one machine only: there, no store is opened.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path

import filelock
import psutil

from poller.errors import ConfigurationError, StoreDamaged, StoreError, StoreLocked
from poller.machine import boot_id
from poller.stores.files import Files, identity
from poller.stores.journal import Header, Reader
from poller.stores.survey import Names
from poller.units import iso

NETWORK = frozenset({
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "orangefs",
    "s3fs",
    "smb3",
    "smbfs",
    "sshfs",
})  # fmt: skip
"""File systems (also as ``fuse.…``) on which a lock need not hold for every machine."""
_CLOCKS = 2.0
"""Seconds by which the kernel's idea of when a process began may be off."""


class Lock:
    """The lock of one store.

    Args:
        names: what the store's files are called.
        files: the operating system.
    """

    def __init__(self, names: Names, *, files: Files) -> None:
        self._names = names
        self._files = files
        self._lock = filelock.FileLock(names.lock, thread_local=False, fallback_to_soft=False)
        self._identity: tuple[int, int] | None = None
        self._process = 0

    def acquire(self) -> None:
        """Take it at once, or not at all.

        Raises:
            ConfigurationError: no store can be there.
            StoreLocked: another process has it.
            OSError: its file cannot be made.
        """
        _demand_place(self._names)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise self._held_by(self._writer()) from None
        self._identity, self._process = identity(self._names.lock), os.getpid()
        self._demand_dead(self._writer())

    @property
    def ours(self) -> bool:
        """Whether the file at the lock's name is the one that we locked."""
        return self._identity is not None and identity(self._names.lock) == self._identity

    def demand(self) -> None:
        """Make sure that nobody else can have opened the store so far.

        Raises:
            StoreError: the lock file was removed or replaced, or we are a fork.
        """
        self.demand_process()
        if not self.ours:
            reason = f"{self._names.lock} was removed or replaced, so another process may have the store"
            raise StoreError(reason, hint="it goes on by itself if nobody has it")

    def demand_process(self) -> None:
        """Make sure that we are the process that took it, and not a fork of that one.

        Raises:
            StoreError: we are a fork.
        """
        if os.getpid() != self._process:
            raise StoreError(f"{self._names.snapshot} was opened by process {self._process}, of which this is a fork")

    def release(self) -> None:
        """Let others have it; a fork of the process that has it lets nobody."""
        if os.getpid() == self._process:
            self._identity = None
            self._lock.release()

    def _writer(self) -> Header | None:
        """Tell who began the last journal, if anybody did."""
        for path in (self._names.journal, self._names.full):
            with suppress(OSError, StoreDamaged):
                return Reader(path, files=self._files).header
        return None

    def _demand_dead(self, writer: Header | None) -> None:
        if writer is not None and _is_alive(writer):
            self.release()
            raise self._held_by(writer)

    def _held_by(self, writer: Header | None) -> StoreLocked:
        who = f"process {writer.pid} on {writer.host}, since {iso(writer.started_at)}" if writer else "another process"
        hint = "stop that process first; two writers would destroy the store"
        return StoreLocked(f"{self._names.snapshot} is held by {who}", hint=hint)


def _demand_place(names: Names) -> None:
    if not names.folder.is_dir():  # a lock's folder would be made: a disk that is not mounted is no new store
        hint = "make that folder or mount its disk, or name another file in POLLER_STORE"
        raise ConfigurationError(f"{names.snapshot} cannot be opened: there is no folder {names.folder}", hint=hint)
    kind = _file_system(names.folder)
    if kind.removeprefix("fuse.") in NETWORK:
        hint = "put it on a local disk; a store for several machines must be PostgreSQL"
        reason = f"{names.snapshot} lies on a network file system ({kind}), where a lock need not hold"
        raise ConfigurationError(reason, hint=hint)


def _file_system(folder: Path) -> str:
    """Tell what a folder's file system is; empty if nobody knows. The later of two mounts hides the earlier."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.is_relative_to(mount.mountpoint)]
    return max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype.lower() if mounts else ""


def _is_alive(writer: Header) -> bool:
    """Tell whether the very process that began a journal still runs: another may have got its number since."""
    if (writer.boot, writer.host) != (boot_id(), socket.gethostname()) or writer.pid == os.getpid():
        return False
    try:
        began = float(psutil.Process(writer.pid).create_time())
    except psutil.Error:
        return False
    return began <= writer.started_at + _CLOCKS
