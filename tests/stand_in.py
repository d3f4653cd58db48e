"""A client of the sandbox, and a clock for it."""

import json
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

ASK = {
    "grant_type": "client_credentials",
    "audience": "https://chiligrafx.com",
    "client_id": "sandbox",
    "client_secret": "sandbox-secret",
}


class Clock:
    """A clock that stands until it is moved; its sleep moves it."""

    def __init__(self):
        self.time = 1_000_000.0
        self.slept = []

    def __call__(self):
        return self.time

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds


class Api:
    """What a client of the sandbox does, with a bearer that it got there."""

    def __init__(self, sandbox, url, session):
        self.sandbox, self.url, self.session = sandbox, url, session
        self.headers = {}

    async def login(self, **changes):
        async with self.session.post(f"{self.url}/oauth/token", json=ASK | changes) as reply:
            grant = await reply.json()
        if reply.status == 200:
            self.headers = {"Authorization": f"Bearer {grant['access_token']}"}
        return reply.status, grant

    async def get(self, url, **headers):
        """Ask; gives status, headers and body."""
        where = URL(url if "://" in url else f"{self.url}{self.sandbox.output}/{url}", encoded=True)
        async with self.session.get(where, headers=self.headers | headers, allow_redirects=False) as reply:
            return reply.status, reply.headers, await reply.read()

    async def start(self, what, body=b""):
        """Start a render; gives status and answer."""
        where = f"{self.url}{self.sandbox.output}/{what}"
        async with self.session.post(where, headers=self.headers, data=body) as reply:
            return reply.status, await reply.json(content_type=None)

    async def link(self, task_id):
        """Ask for the link of a task that is ready."""
        status, _, body = await self.get(f"tasks/{task_id}")
        assert status == 200, body
        return json.loads(body)["links"]["download"]


@asynccontextmanager
async def calling(sandbox):
    """Serve a sandbox, and be its client."""
    async with sandbox.serving() as url, aiohttp.ClientSession() as session:
        yield Api(sandbox, url, session)


def whole(content):
    """All the bytes of a small file."""
    return b"".join(content.blocks())
