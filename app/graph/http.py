"""Sessions of requests as everything here uses them: TLS by the CA that was set, no passwords from files, no redirects followed."""

import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from io import BytesIO
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from app.errors import DriveRefuses
from app.graph.answers import SLOWLY

log = logging.getLogger(__name__)

# Source: SharePoint's "How to avoid getting throttled or blocked", which asks for exactly this form.
USER_AGENT = "NONISV|Haulage|Haulage/1.0"
# In seconds: to connect or to hand over one block, and to wait for a byte; the last fragment of a large file is answered late.
TIMEOUT = (10, 90)
BODY_SECONDS = 300  # to hand over all blocks: with the wait for the answer well below LONGEST_CALL_SECONDS
_BLOCK = 64 * 2**10
REST_SECONDS = 30  # where nobody answers, each try costs TIMEOUT, for which other drives' uploads stand still
_NEVER_BEGUN = requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, NewConnectionError


class Rests(requests.ConnectTimeout):
    """Nothing was tried, since nobody answered just now; the message says why not."""


class Silence:
    """Keeps in mind, for all threads that ask in one place, that nobody answered there: until somebody does, or REST_SECONDS."""

    def __init__(self) -> None:
        self._ends_at, self._why = 0.0, ""

    def respect(self) -> None:
        if monotonic() < self._ends_at:
            raise Rests(self._why)

    def begin(self, host: str, error: requests.RequestException) -> None:
        self._why = why(error)
        log.warning("%s: %s; nobody is asked there for %d s", host, self._why, REST_SECONDS)
        self._ends_at = monotonic() + REST_SECONDS

    def end(self) -> None:
        self._ends_at = 0.0


class Session(requests.Session):
    """Used by one thread at a time, in the process that made it.

    After a timeout, or where no connection could be made, it raises ConnectTimeout for a while without trying. A connection
    that ended in the middle is no reason: somebody was there.
    """

    def __init__(self, ca_file: str | None, silence: Silence) -> None:
        super().__init__()
        # It writes whole addresses: in debug of every request, as a warning of one whose answer has a crooked header.
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)
        self.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
        self.auth = _no_auth  # else requests would look for the host in ~/.netrc
        self._ca_file, self._silence = ca_file, silence
        self.mount("https://", HTTPAdapter(max_retries=0))  # only who asked knows what may be asked twice

    def request(self, method: Any, url: Any, **given: Any) -> requests.Response:  # type: ignore[override]
        self._silence.respect()
        # requests has no error of its own for that.
        if self._ca_file is not None and not os.access(self._ca_file, os.R_OK):
            raise DriveRefuses("the file with the drive's CA (CA_FILE) is not to be read any more", SLOWLY)
        given.setdefault("timeout", TIMEOUT)
        if self._ca_file is not None:  # said each time: a session's own is passed over for REQUESTS_CA_BUNDLE
            given["verify"] = self._ca_file
        if given.get("data") and isinstance(given["data"], bytes):  # what is empty would be sent in chunks
            given["data"] = _Body(given["data"])
        try:
            answer = super().request(method, url, **given | {"allow_redirects": False})
        except requests.RequestException as error:
            if isinstance(error, requests.Timeout) or was_never_begun(error):
                self._silence.begin(str(urlsplit(url).hostname), error)
            raise
        self._silence.end()
        return answer


class _Body(BytesIO):
    """Bytes to be sent block by block, each with a time limit of its own; whole, they would share the one to connect."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._ends_at = monotonic() + BODY_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002  urllib3's 16 KiB cost a third more of the processor
        if monotonic() > self._ends_at:
            raise TimeoutError("the connection is too slow for a body of this size")
        return super().read(_BLOCK)


def was_never_begun(error: requests.RequestException) -> bool:
    """True if there was no connection on which anything could have been sent."""
    return any(isinstance(one, _NEVER_BEGUN) for one in causes(error))


# Of what went wrong on the way to a host the first that fits.
_WORDS: Mapping[type[Exception] | tuple[type[Exception], ...], str] = {
    requests.exceptions.ProxyError: "the proxy cannot be reached, or does not let us through",
    NameResolutionError: "nobody knows its name",
    ssl.SSLCertVerificationError: "its certificate does not hold: is the clock right, or a proxy in the way?",
    NewConnectionError: "nobody takes the connection",
    (requests.Timeout, ConnectTimeoutError): "it does not answer",
    requests.ConnectionError: "the connection ended in the middle",
}


def why(error: requests.RequestException) -> str:
    """Say in words why nobody was reached; a message of requests may hold the address."""
    if isinstance(error, Rests):
        return str(error)
    found = list(causes(error))
    for kinds, words in _WORDS.items():
        if any(isinstance(one, kinds) for one in found):
            return words
    return type(error).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came of, which urllib3 keeps in `reason`."""
    while error is not None:
        yield error
        inner = getattr(error.args[0], "reason", None) if error.args else None
        error = inner if isinstance(inner, BaseException) else error.__context__


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
