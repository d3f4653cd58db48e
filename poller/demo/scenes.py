"""What is ordered, and how each order should end."""

import msgspec

from poller.order import State
from poller.outcome import Cause
from poller.sandbox import Failure, Render


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One order of the demonstration.

    Attributes:
        task_id: its name.
        story: what is special about it, in a few words.
        render: how the stand-in plays it.
        state: how it should end.
        cause: of what it should fail, if it should.
    """

    task_id: str
    story: str
    render: Render
    state: State = State.DONE
    cause: Cause | None = None


SCENES = (
    Scene(
        task_id="card",
        story="a picture that is ready at once",
        render=Render(size=40_000, media_type="image/png"),
    ),
    Scene(
        task_id="poster",
        story="takes three seconds to render",
        render=Render(delay=3, size=2_000_000, media_type="application/pdf"),
    ),
    Scene(
        task_id="book",
        story="is large, and streamed to disk",
        render=Render(delay=0.5, size=64_000_000, media_type="application/pdf", rate=16_000_000),
    ),
    Scene(
        task_id="photos",
        story="a batch of pictures in one archive",
        render=Render(delay=1.5, size=5_000_000, media_type="application/zip"),
    ),
    Scene(
        task_id="label",
        story="the token goes stale meanwhile",
        render=Render(delay=1, size=150_000, media_type="image/gif", failure=Failure.UNAUTHORIZED),
    ),
    Scene(
        task_id="ticket",
        story="the remote is overloaded at first",
        render=Render(size=300_000, media_type="application/pdf", failure=Failure.FLAKY),
    ),
    Scene(
        task_id="banner",
        story="the download breaks off once",
        render=Render(size=1_000_000, media_type="image/jpeg", failure=Failure.TRUNCATE, times=1),
    ),
    Scene(
        task_id="menu",
        story="cannot be rendered: should fail",
        render=Render(delay=1, failure=Failure.RENDER),
        state=State.FAILED,
        cause=Cause.REFUSED,
    ),
    Scene(
        task_id="flyer",
        story="its file has expired: should fail",
        render=Render(failure=Failure.EXPIRED),
        state=State.FAILED,
        cause=Cause.GONE,
    ),
)
