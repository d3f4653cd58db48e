"""Reads the ways in of a page: every kind of credentials."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from poller.remotes.page import Credentials, Login, OAuth2, Signed, Static
from poller.remotes.steps import call
from poller.remotes.table import Table
from poller.remotes.template import Address, names

_BEARER = {"Authorization": "Bearer {token}"}


def credentials(table: Table, settings: Collection[str]) -> Credentials:
    """Read one way in.

    Args:
        table: where it is.
        settings: names of the page's settings.
    """
    kinds = [name for name in _KINDS if name in table]
    if len(kinds) != 1:
        table.note(f"has one kind of credentials: {', '.join(_KINDS)}")
    table.allow(*_KINDS)
    kind = kinds[0] if kinds else "header"
    known = frozenset({*settings, "token"})
    read = Credentials(
        kind=_KINDS[kind](table, known),
        renew=table.expression("renew"),
        settings=frozenset(names(table.raw(kind))) & frozenset(settings) | _in_addresses(table.raw(kind), settings),
    )
    table.close()
    return read


def _in_addresses(shape: Any, settings: Collection[str]) -> frozenset[str]:
    """Name the settings that the addresses in a shape use in their own way of writing braces."""
    texts = [shape] if isinstance(shape, str) else list(_texts(shape))
    found = {name for text in texts for name in re.findall(r"\{[+#]?([A-Z][A-Z0-9_]*)\}", text)}
    return frozenset(found) & frozenset(settings)


def _header(table: Table, _known: Collection[str]) -> Static:
    return Static(headers=table.headers("header"))


def _bearer(table: Table, _known: Collection[str]) -> Static:
    return Static(headers={"Authorization": f"Bearer {table.shape('bearer', '')}"})


def _basic(table: Table, _known: Collection[str]) -> Static:
    basic = table.table("basic")
    static = Static(user=str(basic.shape("user", "")), password=str(basic.shape("password", "")))
    if not static.user:
        basic.note("needs a user")
    basic.close()
    return static


def _oauth2(table: Table, known: Collection[str]) -> OAuth2:
    oauth2 = table.table("oauth2")
    extra = {name: oauth2.shape(name) for name in ("audience", "scope", "refresh_token", "resource") if name in oauth2}
    for name in ("token_url", "client_id", "client_secret"):
        if not oauth2.text(name):
            oauth2.note(f"needs {name}")
    found = OAuth2(
        token_url=oauth2.address("token_url") or Address(""),
        client_id=str(oauth2.shape("client_id", "")),
        client_secret=str(oauth2.shape("client_secret", "")),
        grant=oauth2.choice("grant", ("client_credentials", "refresh_token")),
        send=oauth2.choice("send", ("form", "json")),
        client=oauth2.choice("client", ("body", "basic")),
        extra=extra,
        headers=oauth2.headers("header", known) or _BEARER,
    )
    oauth2.close()
    return found


def _login(table: Table, known: Collection[str]) -> Login:
    login = table.table("login")
    found = Login(
        call=call(login),
        token=login.expression("token"),
        cookie=login.text("cookie"),
        expires_in=login.expression("expires_in"),
        lifetime=login.duration("lifetime"),
        denied=login.expression("denied"),
        reason=login.expression("reason"),
        headers=login.headers("header", known) or _BEARER,
    )
    if (found.token is None) is (not found.cookie):
        login.note("gives a token (JMESPath) or a cookie (its name)")
    login.close()
    return found


def _hs256(table: Table, known: Collection[str]) -> Signed:
    signed = table.table("hs256")
    found = Signed(
        secret=str(signed.shape("secret", "")),
        claims=dict(signed.shape("claims", {})),
        lifetime=signed.duration("lifetime") or 300.0,
        headers=signed.headers("header", known) or _BEARER,
    )
    if not found.secret:
        signed.note("needs a secret")
    signed.close()
    return found


def _none(table: Table, _known: Collection[str]) -> Static:
    table.flag("none", default=True)
    return Static()


def _texts(shape: Any) -> Iterator[str]:
    if isinstance(shape, str):
        yield shape
    for value in shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else ():
        yield from _texts(value)


_KINDS: Mapping[str, Callable[[Table, Collection[str]], Static | OAuth2 | Login | Signed]] = {
    "header": _header,
    "bearer": _bearer,
    "basic": _basic,
    "oauth2": _oauth2,
    "login": _login,
    "hs256": _hs256,
    "none": _none,
}
