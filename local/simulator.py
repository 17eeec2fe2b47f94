"""A stand-in for Microsoft Graph on this machine, over TLS by a CA of its own, for the length of a block."""

import os
import secrets
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.fernet import Fernet

from local import tls
from local.home import PROJECT, write_private
from local.process import NotStarted

DRIVE = "library"  # the name of its drive in the settings of a Haulage that uses it
FOLDER = "Haulage"  # where that Haulage keeps its corporations
ROOMY = ("--resource-units=0",)  # as if Microsoft set no limit


@dataclass(frozen=True)
class Simulator:
    """One that runs. The application it knows may write to its one drive."""

    url: str
    process: subprocess.Popen[str]
    ca_file: Path
    tenant: str
    client_id: str
    client_secret: str
    control_key: str  # for the requests that docs/graph-simulator.md lists
    drive_id: str

    @property
    def authority(self) -> str:
        return f"{self.url}/{self.tenant}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raise NotStarted if it has ended by itself."""
        if self.process.poll() is not None:
            raise NotStarted(f"the simulator of Microsoft Graph has ended with {self.process.returncode}")

    def settings(self) -> dict[str, str]:
        """Return what makes its drive one of a Haulage's, as environment."""
        own = {
            "KIND": "onedrive",
            "TENANT_ID": self.tenant,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "DRIVE_ID": self.drive_id,
            "FOLDER": FOLDER,
            "GRAPH_URL": f"{self.url}/v1.0",
            "LOGIN_URL": self.url,
            "UPLOAD_HOSTS": urlsplit(self.url).netloc,
            "CA_FILE": str(self.ca_file),
        }
        named = {f"DRIVE_{DRIVE.upper()}_{name}": value for name, value in own.items()}
        return {**named, "DRIVES": DRIVE, "SESSION_KEYS": Fernet.generate_key().decode()}

    def control(self, request: str, **given: Any) -> Any:
        """Ask its control for something ("POST faults") that docs/graph-simulator.md lists; return what it told."""
        method, command = request.split(" ")
        body: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
        verify = ssl.create_default_context(cafile=self.ca_file)
        headers = {"X-Control-Key": self.control_key}
        with httpx.Client(headers=headers, timeout=60, trust_env=False, verify=verify) as http:
            return http.request(method, f"{self.url}/_control/{command}", **body).raise_for_status().json()


@contextmanager
def running(home: Path, *options: str) -> Iterator[Simulator]:
    """Run one that keeps its bytes, certificate and log in `home`; `python -m tests.graph --help` has the options.

    Raises NotStarted with what it said if it does not come up.
    """
    home.mkdir(parents=True, exist_ok=True)
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    words = [secrets.token_urlsafe(24) for _ in range(3)]
    drive_id = f"b!{words[2]}"
    given = ("--tenant", ids[0], "--client-id", ids[1], f"--drive={drive_id}", "--state", str(home / "state"))
    # By the environment: whoever lists the processes of this machine reads their arguments.
    told = {"GRAPH_CLIENT_SECRET": words[0], "GRAPH_CONTROL_KEY": words[1], "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "tests.graph", *given, *_certificate(home), *options]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=_without_coverage() | told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        url = _url(process, home / "log")
        yield Simulator(url, process, home / "ca.pem", ids[0], ids[1], words[0], words[1], drive_id)
    finally:
        process.terminate()
        process.communicate()


def _url(process: subprocess.Popen[str], log: Path) -> str:
    said = process.stdout.readline().split() if process.stdout else []
    if len(said) != 2 or said[0] != "ready":
        raise NotStarted(f"the simulator of Microsoft Graph did not start:\n{log.read_text()[-1500:]}")
    return said[1]


def _certificate(home: Path) -> tuple[str, ...]:
    issued = tls.issue()
    (home / "ca.pem").write_text(issued.authority)
    (home / "certificate.pem").write_text(issued.chain)
    write_private(home / "key.pem", issued.key)
    return "--tls-certificate", str(home / "certificate.pem"), "--tls-key", str(home / "key.pem")


def _without_coverage() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
