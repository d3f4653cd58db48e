"""Rules that join several settings."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from poller import filename
from poller.settings.sources import Problem


def broken(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Name every rule that *values* break; a value that could not be read breaks none.

    Args:
        values: by the names that ``Settings`` has; ``remotes`` are the names that were asked for.
    """
    if values.keys() >= {"host", "token"} and not values["token"] and not is_loopback(values["host"]):
        hint = "set one of 16 characters or more (openssl rand -hex 32), or POLLER_HOST=127.0.0.1"
        yield "POLLER_TOKEN", f"is required, for {values['host']} is not loopback; {hint}"
    if values.keys() >= {"interval_min", "interval_max"} and values["interval_min"] > values["interval_max"]:
        yield "POLLER_INTERVAL_MIN", "is longer than POLLER_INTERVAL_MAX"
    several = len(values.get("remotes", ())) > 1
    if several and "filename" in values and "remote" not in filename.fields(values["filename"]):
        yield "POLLER_FILENAME", "lacks {remote}, and there are several; use for instance {remote}/{task_id}{ext}"


def doubtful(values: Mapping[str, Any]) -> Iterator[str]:
    """Name what is allowed and probably not meant."""
    if values.keys() >= {"store", "orders_dir"}:
        store, folder = Path(values["store"]).absolute(), Path(values["orders_dir"]).absolute()
        if folder in store.parents:
            yield f"POLLER_STORE ({values['store']}) lies among the finished files in POLLER_ORDERS_DIR; keep it apart"


def is_loopback(host: str) -> bool:
    """Tell whether *host* can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
