"""``poller sandbox``: listens until it is stopped, and says how to use it."""

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator

from poller.sandbox.issuer import AUDIENCE
from poller.sandbox.render import KNOBS
from poller.sandbox.stand_in import Sandbox

PORT = 8081
"""Beside the hook's 8080."""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve(
    *,
    sandbox: Sandbox,
    host: str = "127.0.0.1",
    port: int = PORT,
    say: Callable[[str], object] = _say,
) -> None:
    """Serve until cancelled.

    Args:
        sandbox: what to serve.
        host: a name or an IP address to listen on.
        port: 0 picks a free one, and the first line names it.
        say: takes one line at a time.

    Raises:
        PollerError: nothing can listen there.
    """
    async with sandbox.serving(host=host, port=port) as url:
        for line in usage(sandbox, url):
            say(line)
        await asyncio.Event().wait()


def usage(sandbox: Sandbox, url: str) -> Iterator[str]:
    """Say where it listens, how a poller finds it and how a render is started; what a shell takes is indented."""
    settings = sandbox.settings(url)
    yield f"A stand-in for CHILI GraFx listens on {url}"
    yield ""
    yield "These settings lead a poller to it:"
    yield from (f"  export {name}={shlex.quote(value)}" for name, value in settings.items())
    yield ""
    yield "This gets a token and starts a render; give the task ID in the answer to the poller:"
    yield f"  TOKEN=$(curl -s {settings['GRAFX_TOKEN_URL']} {_ask(settings)} | cut -d '\"' -f 4)"
    yield f"  curl -s -X POST -H \"Authorization: Bearer $TOKEN\" '{url}{sandbox.output}/pdf?delay=5s&size=1MB'"
    yield ""
    yield "The address takes more of these:"
    yield from (f"{name:>16}  {knob.why}" for name, knob in KNOBS.items())


def _ask(settings: dict[str, str]) -> str:
    members = {
        "grant_type": "client_credentials",
        "audience": AUDIENCE,
        "client_id": settings["GRAFX_CLIENT_ID"],
        "client_secret": settings["GRAFX_CLIENT_SECRET"],
    }
    return " ".join(f"--data-urlencode {shlex.quote(f'{name}={value}')}" for name, value in members.items())
