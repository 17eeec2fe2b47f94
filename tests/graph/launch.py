"""Starts the simulator for a test, as a process of its own, and speaks to its control. Knows nothing of its inside."""

import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trustme

PROJECT = Path(__file__).parents[2]
SCOPE = "https://graph.microsoft.com/.default"


@dataclass
class Simulator:
    """A running one. `control("POST faults", path=..., action=...)` scripts it."""

    process: subprocess.Popen[str]
    url: str
    ca_file: Path | None
    tenant: str
    client_id: str
    client_secret: str
    control_key: str
    drive: str
    _tokens: dict[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        return f"{self.url}/{self.tenant}"

    def http(self, **headers: str) -> httpx.Client:
        """Return a client without a token, as an upload URL wants it."""
        verify = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else True
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=verify)

    def token(self, client_id: str = "", client_secret: str = "") -> str:
        form = {"grant_type": "client_credentials", "scope": SCOPE, "client_id": client_id or self.client_id}
        form["client_secret"] = client_secret or self.client_secret
        with self.http() as http:
            answer = http.post(f"/{self.tenant}/oauth2/v2.0/token", data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def graph(self, client_id: str = "", client_secret: str = "") -> httpx.Client:
        """Return a client with a token of its own."""
        return self.http(Authorization=f"Bearer {self.token(client_id, client_secret)}")

    def control(self, request: str, /, **given: Any) -> Any:
        method, command = request.split(" ", 1)
        body = {"params": given} if method == "GET" else {"json": given} if given else {}
        with self.http(**{"X-Control-Key": self.control_key}) as http:
            answer = http.request(method, f"/_control/{command}", **body)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return answer.json()

    def new_drive(self, **given: Any) -> str:
        return str(self.control("POST drives", **given)["id"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@contextmanager
def running(*options: str, folder: Path | None = None) -> Iterator[Simulator]:
    """Run a simulator with one drive; with a folder it speaks TLS, and its CA is there as ca.pem.

    Nothing it says on standard error is expected: a fault of its own shows there.
    """
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    secret, key, drive = (
        secrets.token_urlsafe(20),
        secrets.token_urlsafe(20),
        f"b!{secrets.token_urlsafe(20)}",
    )
    tls = _certificate(folder) if folder else []
    command = [
        sys.executable,
        "-m",
        "tests.graph",
        "--tenant",
        ids[0],
        "--client-id",
        ids[1],
        f"--client-secret={secret}",
    ]
    command += [f"--drive={drive}", f"--control-key={key}", *tls, *options]
    process = subprocess.Popen(command, cwd=PROJECT, env=_environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        word, _, url = process.stdout.readline().strip().partition(" ")
        assert word == "ready", "the simulator did not start"
        ca_file = folder / "ca.pem" if folder else None
        yield Simulator(process, url, ca_file, ids[0], ids[1], secret, key, drive)
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def item_url(drive: str, path: str, tail: str = "") -> str:
    """Return the address of an item by its path from the root."""
    return f"/v1.0/drives/{drive}/root:/{quote(path)}{':' if tail else ''}{tail}"


def code(answer: httpx.Response) -> tuple[int, str, str]:
    """Return what a client may branch on: the status, the code and the inner code."""
    error = json.loads(answer.text)["error"]
    return answer.status_code, error["code"], error["innererror"].get("code", "")


def _environment() -> dict[str, str]:
    """Leave out the measuring of coverage: it would only slow down what is measured beside it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return kept | {"PYTHONPATH": str(PROJECT)}


def _certificate(folder: Path) -> list[str]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "certificate.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    return ["--tls-certificate", str(folder / "certificate.pem"), "--tls-key", str(folder / "key.pem")]
