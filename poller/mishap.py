"""What the network throws, made an outcome of ours; texts that hold the address are not passed on."""

import errno
import os

import aiohttp

from poller.address import bare
from poller.exchange import Unreadable
from poller.outcome import Locked, Stuck, Trouble, Unsafe
from poller.remote import Aborted

NOT_PUBLIC = "is not a public address"
"""Said of an address that is not dialled, and of an error that has this reason."""
_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

THROWN = (aiohttp.ClientError, Unreadable, OSError, ValueError)
"""What the network throws: TimeoutError and ssl.SSLError are OSErrors, UnicodeError and InvalidURL are ValueErrors."""


def mishap(error: Exception, url: str, *, own: bool) -> Aborted:
    """Turn what the network threw into an outcome.

    Args:
        error: what it threw.
        url: what was asked.
        own: whether its operator is the one who can mend its certificate.
    """
    address = bare(url)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = f"the certificate is not valid: {error.certificate_error}"
            return Aborted((Locked if own else Trouble)(reason=reason, address=address))
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | UnicodeError():
            return Aborted(Unsafe(reason="the address cannot be followed", address=address))
        case aiohttp.ClientConnectorError() if NOT_PUBLIC in str(error.os_error):
            return Aborted(Unsafe(reason=f"the address {NOT_PUBLIC}", address=address))
        case OSError() if error.errno in _LOCAL:
            return Aborted(Stuck(reason=f"our own machine: {os.strerror(error.errno)}", address=address))
        case _:
            return Aborted(Trouble(reason=_said(error), address=address))


def _said(error: Exception) -> str:
    """Say what went wrong without the address, which may be signed."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return f"the connection failed: {error.strerror}"
    return f"the request failed ({type(error).__name__})"


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host's name cannot be resolved"),
    (aiohttp.ClientSSLError, "no secure connection could be made"),
    (aiohttp.ClientPayloadError, "the body stopped before its end"),
    (aiohttp.ServerDisconnectedError, "the remote closed the connection"),
    (ConnectionResetError, "the remote closed the connection"),
    (TimeoutError, "the remote went silent"),
    (Unreadable, "the reply is no HTTP that can be read"),
)
