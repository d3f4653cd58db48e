"""Where things are: every address that the sandbox has and gives."""

import hmac
import re
import secrets
from hashlib import sha256
from urllib.parse import quote

from yarl import URL

_TECHNICAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
"""It is the first label of the real one's host as well."""


class Addresses:
    """Names what belongs to a task, absolute, below the origin that a request was sent to.

    Args:
        environment: the technical name, which stands in every path of the API.

    Raises:
        ValueError: no environment has such a name.
    """

    def __init__(self, *, environment: str) -> None:
        if not _TECHNICAL_NAME.fullmatch(environment):
            raise ValueError(f"an environment is named by letters, digits and dashes, not {environment!r}")
        self.output = f"/grafx/api/v1/environment/{environment}/output"
        self._key = secrets.token_bytes(16)

    def task(self, origin: str, task_id: str) -> str:
        """Where to check."""
        return f"{origin}{self.output}/tasks/{_segment(task_id)}"

    def download(self, origin: str, task_id: str) -> str:
        """Where the file is."""
        return f"{self.task(origin, task_id)}/download"

    def moved(self, origin: str, task_id: str) -> str:
        """Where the file is after a redirect within the origin."""
        return f"{self.task(origin, task_id)}/file"

    def report(self, origin: str, task_id: str) -> str:
        """Where the error report is."""
        return f"{origin}{self.output}/reports/{_segment(task_id)}"

    def storage(self, origin: str, task_id: str) -> str:
        """Where the file is in the storage of another origin; the signature lets in whoever has it."""
        return f"{elsewhere(origin)}/storage/{_segment(task_id)}?signature={self._sign(task_id)}"

    def signed(self, task_id: str, signature: str) -> bool:
        """Tell whether a signature is ours."""
        return hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), self._sign(task_id).encode())

    def _sign(self, task_id: str) -> str:
        return hmac.new(self._key, task_id.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def elsewhere(url: str) -> str:
    """Give the origin of the storage: the same machine under another name is another origin (RFC 6454)."""
    origin = URL(url).origin()
    return str(origin.with_host("127.0.0.1" if origin.host == "localhost" else "localhost"))


def _segment(task_id: str) -> str:
    return quote(task_id, safe="")
