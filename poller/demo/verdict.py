"""Whether an order ended as it should, the bytes on disk included."""

from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

from poller.demo.scenes import Scene
from poller.demo.shop import Receipt, Seen
from poller.order import State
from poller.outcome import Cause
from poller.sandbox import Content


def complaints(scene: Scene, seen: Seen | None, content: Content, folder: Path) -> list[str]:
    """List what is not as it should be; reads the whole file, so it is work for a thread.

    Args:
        scene: how the order should have ended.
        seen: how the hook shows it; None if it does not.
        content: what the remote has sent.
        folder: of the finished files.
    """
    if seen is None or not seen.at_rest:
        return [f"{scene.task_id} has not come to rest"]
    if (seen.state, seen.cause) != (scene.state, scene.cause):
        ended, wanted = _named(seen.state, seen.cause), _named(scene.state, scene.cause)
        return [f"{scene.task_id} is {ended} and should be {wanted}; it says: {seen.reason or 'nothing'}"]
    if scene.state is not State.DONE:
        return [f"{scene.task_id} failed, and yet there is {path.name}" for path in folder.glob(f"{scene.task_id}.*")]
    expected = f"{scene.task_id}{content.extension}"
    if [receipt.name for receipt in seen.files] != [expected]:
        return [f"{scene.task_id} should have one file, {expected}"]
    return list(_of_file(seen.files[0], content, folder))


def _of_file(receipt: Receipt, content: Content, folder: Path) -> Iterator[str]:
    wanted = (content.size, content.sha256)
    if (receipt.size, receipt.sha256) != wanted:
        yield f"{receipt.name} is said to have other bytes than were sent"
    if _measured(folder / receipt.name) != wanted:
        yield f"{receipt.name} has other bytes on disk than were sent"


def _measured(path: Path) -> tuple[int, str] | None:
    """Measure a file: its size and digest; None if it is not there."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size, file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _named(state: State, cause: Cause | None) -> str:
    return state.value if cause is None else f"{state.value} ({cause.value})"
