"""The tasks that a remote has, page by page. How pages follow each other can be told from the address.

======================  ==========================================================
``{offset}``            so many items are left out; ``{limit}`` is how many there are
``{page}``              pages are counted, from ``first_page``
``{cursor}``            ``cursor`` in a reply says where the next page begins
``next`` in a reply     is the address of the next page
none of these           there is one page
======================  ==========================================================
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from poller.errand import Found, Task
from poller.remote import Answer, Conversation, Reply, Request
from poller.remotes import scene, template, verdict
from poller.remotes.bound import Binding
from poller.remotes.expression import Expression, is_true
from poller.remotes.page import Discovery, Step
from poller.remotes.template import written
from poller.remotes.wishes import completed

_MOST_PAGES = 1000
_GOOD = 300


class Listing:
    """Lists a remote's tasks.

    Args:
        discovery: as the page has it.
        binding: the page's.
        needs: what the context of an order must hold; what the wish for a list holds of it is put there.
    """

    def __init__(self, discovery: Discovery, binding: Binding, needs: frozenset[str]) -> None:
        self._page = discovery
        self._needs = needs
        self._binding = binding
        shape = discovery.call.payload.shape if discovery.call.payload is not None else None
        params = template.names(discovery.call.params)
        self._names = frozenset({*discovery.call.address.names, *params, *template.names(shape)})

    def tasks(self, wish: Mapping[str, Any], most: int) -> Conversation[Found | Answer]:
        """List tasks until there are no more, or *most* of them were found.

        Raises:
            Misfit: there is no such wish.
            Aborted: the remote could not be asked.
        """
        given = completed(wish, self._page.inputs)
        found: dict[str, Task] = {}
        turn: dict[str, Any] | str | None = {"offset": 0, "page": self._page.first}
        seen_at: set[str] = set()
        for _ in range(_MOST_PAGES):
            request = self._request(turn, given)
            if (where := f"{request.url} {request.body!r}") in seen_at:
                turn = None  # it leads in a circle
                break
            seen_at.add(where)
            reply = yield request
            seen = scene.scene(reply, task={}, vars={}, input=given)
            items = self._page.items.of(seen)
            if reply.status >= _GOOD or not isinstance(items, list):
                return self._refused(reply, seen)
            for task in self._wanted(items, {name: given[name] for name in self._needs & given.keys()}):
                found.setdefault(task.task_id, task)
            turn = self._next(turn, items, reply, seen)
            if turn is None or len(found) >= most:
                break
        tasks = tuple(found.values())
        return Found(tasks=tasks[:most], complete=turn is None and len(tasks) <= most)

    def _request(self, turn: dict[str, Any] | str | None, given: Mapping[str, Any]) -> Request:
        more = {"input": given, "limit": self._page.limit, **(turn if isinstance(turn, dict) else {})}
        values = self._binding.values(None, more)
        if not isinstance(turn, str):
            return self._binding.request(self._page.call, values, again=True)
        self._binding.demand_own(turn)
        there = replace(self._page.call, address=template.Address("{+there}"), params={})
        return self._binding.request(there, {**values, "there": turn}, again=True)

    def _wanted(self, items: list[Any], known: Mapping[str, Any]) -> Iterator[Task]:
        for item in items:
            task_id = self._page.task_id.of(item)
            if not is_true(task_id) or isinstance(task_id, dict | list):
                continue
            if self._page.only is None or is_true(self._page.only.of(item)):
                yield Task(task_id=written(task_id), context={**known, **_context(self._page.context, item)})

    def _next(
        self, turn: dict[str, Any] | str | None, items: list[Any], reply: Reply, seen: Mapping[str, Any]
    ) -> dict[str, Any] | str | None:
        """Say where the next page is; None if this was the last."""
        page = self._page
        if page.more is not None and not is_true(page.more.of(seen)):
            return None
        if page.next is not None:
            link = page.next.of(seen)
            return self._binding.followed(reply.url, link)[0] if isinstance(link, str) and link else None
        if page.cursor is not None:
            cursor = page.cursor.of(seen)
            before = turn.get("cursor") if isinstance(turn, dict) else None
            return {"cursor": cursor} if is_true(cursor) and cursor != before else None
        full = len(items) >= page.limit if page.more is None else bool(items)
        total = page.total.of(seen) if page.total is not None and isinstance(turn, dict) else None
        if isinstance(total, int) and isinstance(turn, dict):
            full = bool(items) and turn["offset"] + len(items) < total
        if not full or not isinstance(turn, dict) or not {"offset", "page"} & self._names:
            return None
        return {"offset": turn["offset"] + len(items), "page": turn["page"] + 1}

    def _refused(self, reply: Reply, seen: Mapping[str, Any]) -> Answer:
        step = Step(call=self._page.call, reason=self._page.reason)
        name = "failed" if reply.status < _GOOD and self._page.reason is not None else None
        return verdict.answer(name, step, reply, seen, page="the list")


def _context(expressions: Mapping[str, Expression], item: Any) -> dict[str, Any]:
    found = {name: expression.of(item) for name, expression in expressions.items()}
    return scene.keepable({name: value for name, value in found.items() if value is not None})
