"""Adds an order to poller, and finds its file, with nothing but the standard library."""

import json
import os
from urllib.parse import quote
from urllib.request import Request, urlopen

HOOK = os.environ.get("HOOK_URL", "http://127.0.0.1:8080")


def add_order(task_id: str, **context: str) -> dict:
    """Hand over a task ID; it is on disk before this returns, and sending it again is safe."""
    body = json.dumps({"task_id": task_id, "context": context}).encode()
    request = Request(f"{HOOK}/orders", data=body, headers={"Content-Type": "application/json"})
    with urlopen(request) as reply:
        return json.load(reply)


def finished_file(task_id: str) -> str | None:
    """Give the path of the finished file; None if it is not there yet."""
    with urlopen(f"{HOOK}/orders/grafx/{quote(task_id, safe='')}") as reply:
        order = json.load(reply)
    if order["state"] == "failed":
        raise RuntimeError(f"{order['cause']}: {order['reason']}")
    return order["files"][0]["path"] if order["state"] == "done" else None
