"""Sessions of requests as everything here uses them: TLS by the CA that was set, no passwords from files, no redirects followed."""

import logging
from typing import Any

import requests
from requests.adapters import HTTPAdapter

# Source: SharePoint's "How to avoid getting throttled or blocked", which asks for exactly this form.
USER_AGENT = "NONISV|Haulage|Haulage/1.0"
# In seconds: to connect, and to wait for a byte; the last fragment of a large file is answered late.
TIMEOUT = (10, 90)


class Session(requests.Session):
    """Used by one thread at a time, in the process that made it."""

    def __init__(self, ca_file: str | None) -> None:
        super().__init__()
        # It writes whole addresses: in debug of every request, as a warning of one whose answer has a crooked header.
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)
        self.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
        self.auth = _no_auth  # else requests would look for the host in ~/.netrc
        self._ca_file = ca_file
        self.mount("https://", HTTPAdapter(max_retries=0))  # only who asked knows what may be asked twice

    def request(self, method: Any, url: Any, **given: Any) -> requests.Response:  # type: ignore[override]
        given.setdefault("timeout", TIMEOUT)
        if self._ca_file is not None:  # said each time: a session's own is passed over for REQUESTS_CA_BUNDLE
            given["verify"] = self._ca_file
        return super().request(method, url, **given | {"allow_redirects": False})


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
