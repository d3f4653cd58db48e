"""A page bound to its operator's settings: addresses, origins, credentials, requests."""

import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import uritemplate

from poller.address import Origin, bare
from poller.errors import ConfigurationError
from poller.order import Order
from poller.outcome import Unsafe
from poller.remote import Aborted, Auth, Request
from poller.remotes import template
from poller.remotes.oauth2 import ClientCredentials
from poller.remotes.page import NAMED, Call, Credentials, Login, OAuth2, Page, Static, Variable
from poller.remotes.request import absolute, request
from poller.remotes.secret import Issuer, Session, Standing, basic
from poller.remotes.template import Incomplete

_TEXT = re.compile(r"[ -~]*")


class Named(Protocol):
    """What has a name and settings."""

    @property
    def name(self) -> str:
        """What orders call it."""
        ...

    @property
    def settings(self) -> Mapping[str, Variable]:
        """What it must be given."""
        ...


class Binding:
    """What follows from a page and its settings.

    Args:
        page: what to say and how to read what comes back.
        values: the remote's settings, by name.

    Attributes:
        name: the page's.
        headers: what every request to the base has.
        url: the base, without a slash at its end.
        base: its origin.
        origins: what the operator configured.
        auth: how to be let in; None where nothing is asked.
        settings: every one, defaults included.

    Raises:
        ConfigurationError: a required setting is missing or an address is none; lists every problem.
    """

    def __init__(self, page: Page, values: Mapping[str, str]) -> None:
        self._page = page
        self.name, self.headers = page.name, page.headers
        self.settings = complete(page, values)
        prefixes = {name: value.rstrip("/") for name, value in self.settings.items()}
        self.url = self._address("base", page.base.text, prefixes).rstrip("/")
        self.base = Origin.of(self.url)
        chosen = self._chosen()
        self.origins = frozenset({self.base, *self._further(chosen)})
        self.auth = self._auth(chosen) if chosen is not None else None

    def values(self, order: Order | None = None, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Give what names in addresses and bodies stand for.

        What an order's start did not keep is looked for in its context.
        """
        if order is None:
            return {**self.settings, **(more or {})}
        about = {"task_id": order.task_id, "batch": order.batch, "context": order.context}
        return {**order.context, **order.kept, **(more or {}), **self.settings, **about}

    def request(self, call: Call, values: Mapping[str, Any], **how: Any) -> Request:
        """Make a request to the remote.

        Raises:
            Aborted: its address cannot be made, or lies where the operator did not say.
        """
        try:
            url = absolute(call.address.filled(values), self.url)
            headers = self.headers if self.demand_own(url) == self.base else {}
            return request(call, url=url, headers=headers, values=values, **how)
        except Incomplete as error:
            raise Aborted(Unsafe(reason=str(error))) from None

    def demand_own(self, url: str) -> Origin:
        """Refuse to ask anybody whom the operator did not name; give the address's origin.

        Raises:
            Aborted: the address is no address, or of another origin.
        """
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise Aborted(Unsafe(reason=f"the address cannot be asked: {error}", address=bare(url))) from None
        if origin not in self.origins:
            reason = "the address is not of the remote's own, nor of one in allow_origins"
            raise Aborted(Unsafe(reason=reason, address=bare(url)))
        return origin

    def followed(self, base: str, link: str) -> tuple[str, bool]:
        """Make a link absolute; one that already is, is left as it is to the last byte.

        Args:
            base: the address of the reply that has the link.
            link: as it is there.

        Returns:
            The address, and whether it is of the base's origin, the only one that credentials go to.

        Raises:
            Aborted: it cannot be followed.
        """
        try:
            url = link if urlsplit(link).scheme or not link.isprintable() else urljoin(base, link)
            return url, Origin.of(url) == self.base
        except ValueError as error:
            raise Aborted(Unsafe(reason=f"the link cannot be followed: {error}", address=bare(link))) from None

    def placed(self, address: template.Address, values: Mapping[str, Any]) -> str:
        """Fill in an address of the page's own.

        Raises:
            Aborted: it cannot be made of these values.
        """
        try:
            return absolute(address.filled(values), self.url)
        except Incomplete as error:
            raise Aborted(Unsafe(reason=str(error))) from None

    # --- how it was bound

    def _chosen(self) -> Credentials | None:
        """Take the first way in whose settings are all given; the last if none is."""
        if not self._page.credentials:
            return None
        complete = (each for each in self._page.credentials if all(self.settings.get(name) for name in each.settings))
        chosen = next(complete, None)
        if chosen is None and len(self._page.credentials) > 1:
            raise ConfigurationError(f"{self._page.name} is not configured", problems=tuple(self._unopened()))
        return chosen or self._page.credentials[0]

    def _unopened(self) -> list[tuple[str, str]]:
        """Say of the settings of every way in that one of the ways is needed."""
        ways = [" and ".join(sorted(each.settings)) for each in self._page.credentials]
        first = sorted(self._page.credentials[0].settings) or [self._page.name]
        return [(first[0], f"is required to be let in; give {', or '.join(ways)}")]

    def _auth(self, chosen: Credentials) -> Auth:
        kind = chosen.kind
        if isinstance(kind, Static):
            return Standing(self._standing(kind), chosen.renew)
        if isinstance(kind, OAuth2):
            return self._oauth2(kind, chosen)
        if isinstance(kind, Login):
            return Session(kind, self._login(kind), chosen.renew)
        claims = template.filled(kind.claims, self.settings)
        return Issuer(kind, secret=self._filled(kind.secret), claims=claims, renew=chosen.renew)

    def _login(self, login: Login) -> Request:
        try:
            return self.request(login.call, self.settings, auth=False)
        except Aborted as aborted:
            problem = getattr(aborted.outcome, "reason", "")
            problems = ((f"{self.name}: auth.login", problem),)
            raise ConfigurationError(f"{self.name} is not configured", problems=problems) from None

    def _standing(self, static: Static) -> Mapping[str, str]:
        headers = {name: self._filled(text) for name, text in static.headers.items()}
        if static.user is not None:
            headers["Authorization"] = basic(self._filled(static.user), self._filled(static.password))
        bad = [name for name, text in headers.items() if not _TEXT.fullmatch(text)]
        if bad:
            problem = f"the header {bad[0]} can hold plain ASCII only"
            raise ConfigurationError(f"{self._page.name} is not configured", problems=((self._page.name, problem),))
        return headers

    def _oauth2(self, oauth2: OAuth2, chosen: Credentials) -> ClientCredentials:
        return ClientCredentials(
            token_url=self._address("auth.oauth2.token_url", oauth2.token_url.text),
            client_id=self._filled(oauth2.client_id),
            client_secret=self._filled(oauth2.client_secret),
            extra={name: self._filled(value) for name, value in oauth2.extra.items()},
            grant=oauth2.grant,
            send=oauth2.send,
            client=oauth2.client,
            headers=oauth2.headers,
            renew=chosen.renew,
        )

    def _further(self, chosen: Credentials | None) -> set[Origin]:
        """Origins beside the base that the operator named: where tokens come from, where files lie."""
        given = [text for text in self._page.allow_origins if uritemplate.expand(text, {**self.settings})]
        urls = [self._address("allow_origins", text) for text in given]
        if chosen is not None and isinstance(chosen.kind, OAuth2):
            urls.append(self._address("auth.oauth2.token_url", chosen.kind.token_url.text))
        return {Origin.of(url) for url in urls}

    def _filled(self, text: str) -> str:
        return filled(text, self.settings)

    def _address(self, place: str, text: str, values: Mapping[str, str] | None = None) -> str:
        url = uritemplate.expand(text, {**(values or self.settings)})
        try:
            Origin.of(url)
        except ValueError as error:
            names = sorted(uritemplate.variables(text) & set(self._page.settings))
            problem = f"{bare(url)!r} is no address: {error}"
            problems = tuple((name, problem) for name in names) or ((f"{self._page.name}: {place}", problem),)
            raise ConfigurationError(f"{self._page.name} cannot be reached", problems=problems) from None
        return url


def complete(page: Named, values: Mapping[str, str]) -> dict[str, str]:
    """Add defaults to *values*; a default may name other settings.

    Raises:
        ConfigurationError: a required setting is missing, or one that is an address by its name is none.
    """
    problems = [
        (name, f"is required. {variable.why}".strip())
        for name, variable in page.settings.items()
        if variable.required and not values.get(name)
    ]
    problems += [(name, why) for name, value in values.items() if (why := _no_address(name, value))]
    if problems:
        raise ConfigurationError(f"{page.name} is not configured", problems=tuple(problems))
    given = {name: _cut(value, page.settings.get(name)) for name, value in values.items() if value}
    defaults = {name: variable.default or "" for name, variable in page.settings.items() if name not in given}
    return given | {name: filled(default, given) for name, default in defaults.items()}


def _cut(value: str, variable: Variable | None) -> str:
    """Cut off what nobody wants at the end of a setting."""
    if variable is None or not variable.without:
        return value
    return value.rstrip("/").removesuffix(variable.without)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put settings into a text that is no address, as they are."""
    return NAMED.sub(lambda name: values.get(name[1], name[0]), text)


def _no_address(name: str, value: str) -> str:
    """Say what is wrong with a setting that is an address by its name; nothing if all is well."""
    if not value or not name.endswith("_URL"):
        return ""
    try:
        Origin.of(value)
    except ValueError as error:
        return f"{bare(value)!r} is no address: {error}"
    return ""
