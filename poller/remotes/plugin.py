"""Remotes that come with other packages, written in Python where a page cannot say it.

A package names one in the entry point group ``poller.remotes``::

    [project.entry-points."poller.remotes"]
    acme = "acme_poller:PLUGIN"

    PLUGIN = Plugin(name="acme", title="Acme", settings={"ACME_URL": "required"}, make=Acme)

``make`` is given the settings by name and gives a ``remote.Remote``; ``modest.Modest`` is what to begin with.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from poller.errors import ConfigurationError
from poller.remote import Caps, Remote
from poller.remotes.page import SHORTHANDS, Variable

GROUP = "poller.remotes"


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """A remote that a package brings.

    Attributes:
        name: what orders call it.
        title: what people call it.
        settings: what it must be given; each a ``Variable``, or the word that a page has for one.
        make: makes the remote; raises ValueError, with what is wrong and what to do, if it cannot.
        source: what ``poller remotes show`` prints.
    """

    name: str
    make: Callable[[Mapping[str, str]], Remote]
    title: str = ""
    settings: Mapping[str, Any] = {}
    source: str = ""
    caps: Caps = Caps()

    def __post_init__(self) -> None:
        read: dict[str, object] = {name: SHORTHANDS.get(str(value), value) for name, value in self.settings.items()}
        wrong = [name for name, value in read.items() if not isinstance(value, Variable)]
        if wrong:
            raise ConfigurationError(f"the setting {wrong[0]} of {self.name} is no Variable, and none of {_WORDS}")
        msgspec.structs.force_setattr(self, "settings", read)


_WORDS = ", ".join(SHORTHANDS)


def installed() -> tuple[str, ...]:
    """Name the remotes that other packages bring."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def load(name: str) -> Plugin | None:
    """Load one by its name; None if nobody brings it.

    Raises:
        ConfigurationError: it cannot be loaded, or is none.
    """
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    return None if found is None else _loaded(found)


def _loaded(point: EntryPoint) -> Plugin:
    try:
        plugin = point.load()
    except Exception as error:
        reason = f"the remote {point.name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigurationError(reason, hint="update or remove the package that brings it") from None
    if not isinstance(plugin, Plugin) or plugin.name != point.name:
        hint = "the entry point must name a poller.remotes.plugin.Plugin of the same name"
        raise ConfigurationError(f"the remote {point.name} ({point.value}) is none", hint=hint)
    return plugin
