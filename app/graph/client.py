"""The few kinds of request that Haulage makes: to Graph with a token, and to upload and download addresses without one.

An upload address holds its own credentials: Microsoft answers 401 to an Authorization header there, and whoever has the address
may write. So it has a client of its own, goes to known hosts alone, and is never logged.
"""

import base64
import errno
import logging
import re
import ssl
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from app.errors import Disconnected, DriveFault, DriveUnavailable
from app.graph.answers import SOON, Answer, trouble
from app.graph.http import Session, Silence, causes, was_never_begun, why
from app.models import Json

log = logging.getLogger(__name__)

# Where Microsoft's clouds put upload and download addresses (sharepoint.com and its national kin, and personal OneDrive).
MICROSOFT_HOSTS = (
    ".sharepoint.com",
    ".sharepoint.us",
    ".sharepoint-mil.us",
    ".sharepoint.cn",
    ".svc.ms",
    ".1drv.com",
    ".onedrive.com",
)
_READ_AT_ONCE = 2**20
_OF_ONE_FRAGMENT = {400, 401, 403, 404, 409, 416}
_LABEL = r"[a-z0-9-]{1,63}"
_HOST, _CROOKED = re.compile(rf"{_LABEL}(\.{_LABEL})*"), re.compile(r"[\s\x00-\x1f\\]")


class Tokens(Protocol):
    def token(self, *, renew: bool = False, claims: str | None = None) -> str: ...


class Meter(Protocol):
    drive: str  # by its name in our settings

    def count(self, units: int) -> None:
        """Note a request and what it costs in Microsoft's resource units."""


@dataclass(frozen=True)
class Request:
    """What is asked of Graph: a path below its address, or a whole one that it gave. `units` are resource units."""

    method: str
    path: str
    body: Json | None = None
    data: bytes | None = None
    units: int = 1
    wants_address: bool = False  # the answer is a redirect, which is not followed but told
    if_match: str | None = None  # the eTag that the item must still have

    @property
    def kind(self) -> str:
        """What a log may say: the last step of a path where it names a request; anything else may be somebody's name."""
        step = self.path.partition("?")[0].rpartition("/")[-1].rpartition(":")[-1]
        known = step in {"content", "children", "createUploadSession", "versions", "restoreVersion", "root"}
        return f"{self.method} of {step if known else 'an item'}"


class _Sessions(threading.local):
    """A session of requests for each thread, since none may be shared; made after the fork, since it holds connections."""

    def __init__(self, ca_file: str | None, silence: Silence) -> None:
        self.http = Session(ca_file, silence)


class Graph:
    """Requests to Graph itself, by any thread of the process that made this."""

    def __init__(self, url: str, tokens: Tokens, meter: Meter, ca_file: str | None) -> None:
        self._url, self._tokens, self._meter = url, tokens, meter
        self._sessions = _Sessions(ca_file, Silence())

    def ask(self, request: Request, *expect: str) -> Answer:
        """Return the answer, or raise what its refusal means.

        A refusal with one of the codes in `expect` (in lower case) is returned: what it means, the one who asks knows.
        """
        answer = self._sent(request, self._tokens.token())
        if answer.status == 401:  # once more, with a new token and with what the first one is said to lack
            claims = _claims(answer.headers.get("www-authenticate", ""))
            answer = self._sent(request, self._tokens.token(renew=True, claims=claims))
        if request.wants_address and answer.status == 302:
            return answer
        _check_size(answer, request.data)
        return _judged(answer, expect, request.kind)

    def _sent(self, request: Request, token: str) -> Answer:
        self._meter.count(request.units)
        url = request.path if request.path.startswith(f"{self._url}/") else self._url + request.path
        headers = {"Authorization": f"Bearer {token}"}
        if request.if_match is not None:
            headers["If-Match"] = request.if_match
        return _answered(
            self._sessions.http, request.method, url, headers=headers, json=request.body, data=request.data
        )


class Addresses:
    """Requests to addresses that Graph has given out, by any thread of the process that made this."""

    def __init__(self, hosts: Collection[str], meter: Meter, ca_file: str | None) -> None:
        self._hosts, self._meter = tuple(hosts), meter
        self._sessions = _Sessions(ca_file, Silence())

    def ask(
        self, method: str, url: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Return the answer, or raise what it means for the whole drive: see `trouble`.

        What refuses this one address is returned: to a fragment (PUT) 400, 401, 403, 404, 409 and 416, else any 4xx.
        """
        self._check(url)
        self._meter.count(1 if method == "GET" else 2)
        answer = _answered(self._sessions.http, method, url, headers=headers, data=data)
        if answer.is_refusal and (method != "PUT" or answer.status in _OF_ONE_FRAGMENT):
            return answer
        _check_size(answer, data)
        return _judged(answer, (), f"{method} of an upload's address")

    def read(self, url: str, first: int, length: int | None) -> Iterator[bytes]:
        """Yield the bytes behind a download's address, from `first` on."""
        self._check(url)
        self._meter.count(1)
        last = "" if length is None else first + length - 1
        headers = {"Range": f"bytes={first}-{last}"} if first or length is not None else {}
        try:
            with self._sessions.http.get(url, headers=headers, stream=True) as reply:
                if reply.status_code not in (200, 206):
                    raise _not_given(_parsed(reply))
                if headers and reply.status_code != 206:
                    raise DriveFault("the drive gave the whole file where a part was asked for")
                yield from reply.iter_content(_READ_AT_ONCE)
        except requests.RequestException as error:
            raise _unreachable(error, url) from None

    def _check(self, url: str) -> None:
        if not self.knows(url):
            raise DriveFault(
                f"the drive gave an address on {_host(url)}, which is none of Microsoft's over HTTPS: nothing was sent"
                f" there; a host that may get bytes is to be named in DRIVE_{self._meter.drive.upper()}_UPLOAD_HOSTS"
            )

    def knows(self, url: str) -> bool:
        """True if this is an address that may be asked. What two parsers may read in two ways is none."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        is_plain = "@" not in parts.netloc and not _CROOKED.search(url) and _HOST.fullmatch(host) is not None
        return (
            parts.scheme == "https"
            and is_plain
            and any(
                host.endswith(known) if known.startswith(".") else known in {host, f"{host}:{port}"}
                for known in self._hosts
            )
        )


def _host(url: str) -> str:
    """Return the host's name and nothing else of an address, which may hold a credential."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return f"the host {host}" if _HOST.fullmatch(host) else "a host without a proper name"


def _answered(http: requests.Session, method: str, url: str, **given: Any) -> Answer:
    try:
        reply = http.request(method, url, **given)
    except requests.RequestException as error:
        # Not from it: its text, which a log would show as the cause, has the address.
        raise _unreachable(error, url) from None
    return _parsed(reply)


def _parsed(reply: requests.Response) -> Answer:
    try:
        body = reply.json() if reply.content else {}
    except ValueError:
        body = None
    headers = {name.lower(): value for name, value in reply.headers.items()}
    is_page = "html" in headers.get("content-type", "") or reply.content.lstrip()[:1] == b"<"
    return Answer(reply.status_code, headers, body if isinstance(body, dict) else None, is_page)


def _check_size(answer: Answer, data: bytes | None) -> None:
    """Raise Disconnected if a request was too much for somebody on the way: a smaller one may come through."""
    if data and answer.is_too_much:
        raise Disconnected(
            f"a request of this size did not come through to the drive (HTTP {answer.status})", SOON
        )


def _not_given(answer: Answer) -> Exception:
    """A download's address stands for one file, and may have ended: what refuses it says nothing of the drive."""
    if answer.is_refusal and answer.status in (404, 410):
        return FileNotFoundError(errno.ENOENT, "no such file in the drive")
    if answer.is_refusal and answer.status in (401, 403):
        return DriveFault("the address that the drive gave for the file's bytes does not give them")
    return trouble(answer)


def _judged(answer: Answer, expect: Collection[str], asked: str) -> Answer:
    if answer.codes & set(expect) or (answer.status < 300 and answer.body is not None):
        return answer
    log.info(
        "drive: %s: HTTP %d %s, request %s", asked, answer.status, sorted(answer.codes), answer.request_id
    )
    raise trouble(answer)


def _unreachable(error: requests.RequestException, url: str) -> DriveUnavailable:
    """Tell what was never begun from what ended in the middle; a message of requests may hold the address."""
    is_untrusted = any(isinstance(one, ssl.SSLCertVerificationError) for one in causes(error))
    if is_untrusted or was_never_begun(error):
        return DriveUnavailable(f"the drive cannot be reached at {_host(url)}: {why(error)}", SOON)
    return Disconnected("the connection to the drive ended in the middle", SOON)


def _claims(challenge: str) -> str | None:
    """Return the claims that a 401 asks for (base64 in WWW-Authenticate), or None."""
    found = re.search(r'claims="([^"]+)"', challenge)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1] + "===").decode()
    except ValueError:
        return None
