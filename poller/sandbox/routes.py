"""What is answered to each request."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from poller.sandbox import document
from poller.sandbox.addresses import Addresses
from poller.sandbox.download import Download
from poller.sandbox.issuer import Denial, Issuer
from poller.sandbox.render import Failure, tuned
from poller.sandbox.replies import Refusal, json, problem
from poller.sandbox.tasks import Stage, Task, Tasks

_TASK = "{task_id:[^/]+}"
"""One segment of a path, braces included, which aiohttp's own pattern leaves out."""


class Routes:
    """Answers requests, and counts them.

    Args:
        issuer: who knows the tokens.
        tasks: what is asked about.
        addresses: where everything is.
        download: who sends the files.
        requests: counts each kind.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        tasks: Tasks,
        addresses: Addresses,
        download: Download,
        requests: Counter[str],
    ) -> None:
        self._issuer = issuer
        self._tasks = tasks
        self._addresses = addresses
        self._download = download
        self._requests = requests

    def application(self) -> web.Application:
        """Build the application; a route's name is the kind that it counts as."""
        app = web.Application(middlewares=[self._receive], client_max_size=document.LARGEST_REQUEST)
        formats = "|".join((*document.FORMATS, *document.FAMILIES))
        output = self._addresses.output
        app.router.add_post("/oauth/token", self._token, name="token")
        app.router.add_post(f"{output}/{{format:{formats}}}", self._start, name="start")
        for kind, path, handler in (
            ("check", f"{output}/tasks/{_TASK}", self._check),
            ("download", f"{output}/tasks/{_TASK}/download", self._fetch),
            ("moved", f"{output}/tasks/{_TASK}/file", self._moved),
            ("report", f"{output}/reports/{_TASK}", self._report),
            ("storage", f"/storage/{_TASK}", self._storage),
        ):
            app.router.add_get(path, handler, name=kind, allow_head=False)
        return app

    @web.middleware
    async def _receive(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Count it, answer it, and say what goes wrong as a problem."""
        if request.match_info.route.name is not None:
            self._requests[request.match_info.route.name] += 1
        try:
            return await handler(request)
        except Refusal as refusal:
            return problem(refusal)
        except web.HTTPException as error:
            allow = {name: value for name, value in error.headers.items() if name == "Allow"}
            return problem(Refusal(error.status, error.reason, f"{request.method} {request.path}", headers=allow))

    # --- token and start

    async def _token(self, request: web.Request) -> web.Response:
        try:
            grant = self._issuer.issue(await _members(request))
        except Denial as denial:
            return json({"error": denial.error, "error_description": str(denial)}, status=denial.status)
        return json(grant, headers={"Cache-Control": "no-store"})

    async def _start(self, request: web.Request) -> web.Response:
        self._admit(request)
        body = await request.read()
        try:
            media = document.wanted(request.match_info["format"], request.query.get("outputType"), body)
            task = self._tasks.start(tuned(self._tasks.defaults, request.query), media_type=media)
        except ValueError as error:
            raise Refusal(400, "Bad Request", str(error)) from None
        info = self._addresses.task(_origin(request), task.task_id)
        return json({"data": {"taskId": task.task_id}, "links": {"taskInfo": info}})

    # --- check

    async def _check(self, request: web.Request) -> web.Response:
        self._admit(request)
        task = self._find(request)
        _stumble(task)
        stage = self._tasks.stage(task)
        if stage is Stage.WORKING:
            return web.Response(status=task.render.pending_status)
        if task.strikes(Failure.RENDER):
            raise self._failed(request, task)
        if stage is Stage.OVER or task.strikes(Failure.GONE):
            raise _gone()
        return json({"data": {"taskId": task.task_id}, "links": {"download": self._link(request, task)}})

    def _failed(self, request: web.Request, task: Task) -> Refusal:
        report = self._addresses.report(_origin(request), task.task_id)
        detail = f"The output task failed: 1 of 1 records has errors. Error report: {report}"
        return Refusal(500, "Output task failed", detail)

    def _link(self, request: web.Request, task: Task) -> str:
        address = self._addresses.storage if task.strikes(Failure.LINK_AWAY) else self._addresses.download
        return address(_origin(request), task.task_id)

    async def _report(self, request: web.Request) -> web.Response:
        self._admit(request)
        task = self._find(request)
        if task.render.failure is not Failure.RENDER:
            raise Refusal(404, "Not Found", "there is no such report")
        errors = [{"type": "TextOverflow", "details": 'The text of the frame "Title" does not fit.'}]
        return json([{"recordNumber": 0, "errorList": errors}])

    # --- download

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        task = self._ready(request)
        if task.strikes(Failure.EXPIRED):
            raise _gone()
        if task.strikes(Failure.REDIRECT):
            raise _see(self._addresses.moved(_origin(request), task.task_id))
        if task.strikes(Failure.REDIRECT_AWAY):
            raise _see(self._addresses.storage(_origin(request), task.task_id))
        return await self._download.send(request, task)

    async def _moved(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        return await self._download.send(request, self._ready(request))

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        """Answer as object storage does: the signature lets in, and a bearer beside it is an error."""
        if "Authorization" in request.headers:
            self._requests["leaked"] += 1
            raise Refusal(400, "Bad Request", "only one way to authorize is allowed, and the address holds one")
        if not self._addresses.signed(request.match_info["task_id"], request.query.get("signature", "")):
            raise Refusal(403, "Forbidden", "the signature does not match")
        return await self._download.send(request, self._ready(request))

    # --- what several need

    def _admit(self, request: web.Request) -> None:
        if not self._issuer.accepts(request.headers.get("Authorization", "")):
            raise _stranger()

    def _find(self, request: web.Request) -> Task:
        """Find the task that is asked about, and count that it was."""
        task = self._tasks.find(request.match_info["task_id"])
        if task is None:
            raise _unknown(request.match_info["task_id"])
        task.requests[request.match_info.route.name or ""] += 1
        return task

    def _ready(self, request: web.Request) -> Task:
        """Find the task whose file is asked for, if it can be had now."""
        task = self._find(request)
        stage = self._tasks.stage(task)
        if stage is Stage.OVER:
            raise _gone()
        if stage is Stage.WORKING or task.suffers(Failure.RENDER):
            raise Refusal(404, "Not Found", "the task has no output")
        return task


def _stumble(task: Task) -> None:
    """Fail in the ways that have nothing to do with how far the render is."""
    if task.strikes(Failure.UNAUTHORIZED):
        raise _stranger()
    if task.strikes(Failure.UNKNOWN):
        raise _unknown(task.task_id)
    if task.strikes(Failure.FLAKY):
        wish = {"Retry-After": f"{task.render.retry_after:.0f}"}
        raise Refusal(503, "Service Unavailable", "try again later", headers=wish)


def _stranger() -> Refusal:
    return Refusal(401, "Unauthorized", "the bearer is missing or stale", headers={"WWW-Authenticate": "Bearer"})


def _unknown(task_id: str) -> Refusal:
    return Refusal(404, "Not Found", f"there is no output task {task_id}")


def _gone() -> Refusal:
    return Refusal(410, "Gone", "the output is no longer available")


def _see(location: str) -> Refusal:
    return Refusal(302, "Found", "the file is elsewhere", headers={"Location": location})


def _origin(request: web.Request) -> str:
    """Give the origin as the client spells it, so that addresses hold behind a forwarded port too."""
    return f"{request.scheme}://{request.host}"


async def _members(request: web.Request) -> Mapping[str, str]:
    """Read the members of a token request, JSON or form."""
    if request.content_type != "application/json":
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Denial(400, "invalid_request", "the body is no JSON object of strings") from None
