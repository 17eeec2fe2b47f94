"""Virtual environments of their own, for what must work beside other versions than ours, or without Haulage at all."""

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "tests" / "requirements"
KEPT_IN = Path(sys.prefix) / "environments"  # `make clean` removes them with the environment they belong to


def interpreter(name: str, python: str = sys.executable) -> Path:
    """Return the Python of the environment that tests/requirements/<name>.txt describes; make it if need be.

    It holds nothing else: neither Haulage nor what Haulage needs. Several test processes may ask at once.
    """
    required = REQUIREMENTS / f"{name}.txt"
    version = subprocess.check_output([python, "-VV"], text=True)
    digest = sha256(f"{version}{KEPT_IN}".encode() + required.read_bytes()).hexdigest()[:12]
    home = KEPT_IN / f"{name}-{digest}"
    KEPT_IN.mkdir(exist_ok=True)
    with (KEPT_IN / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _make(home, python, required)
    return home / "bin" / "python"


def _make(home: Path, python: str, required: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    if python == sys.executable:
        venv.create(home, with_pip=False, symlinks=True)
    else:
        subprocess.run([python, "-m", "venv", "--without-pip", home], check=True)
    # Our own pip installs for it: a pip of its own costs several seconds more.
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet"]
    options = ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes", "-r", required]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, env=_clean())
    if done.returncode != 0:
        raise RuntimeError(f"{required.name} could not be installed:\n{done.stderr}")
    (home / "complete").touch()


def _clean() -> dict[str, str]:
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "COVERAGE_PROCESS_START")
    return {name: value for name, value in os.environ.items() if name not in ours}


def other_pythons() -> list[str]:
    """Return the other CPythons from 3.11 that this machine has on its PATH or under pyenv, one for each version."""
    ours, found = _version(sys.executable), dict[tuple[int, ...], str]()
    for python in _candidates():
        version = _version(python)
        if version >= (3, 11) and version != ours:
            found.setdefault(version, python)
    return list(found.values())


def _candidates() -> Iterator[str]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 16)))
    yield from map(str, sorted(pyenv.glob("versions/3.*/bin/python3")))


def _version(python: str) -> tuple[int, ...]:
    """Ask it: a shim on the PATH proves little, and may refuse to run."""
    ask = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
