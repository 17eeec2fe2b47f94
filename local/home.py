"""Where the servers of one checkout live on disk: the directory, its lock, its end."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Occupied(RuntimeError):
    """Somebody else works in this home."""


PROJECT = Path(__file__).resolve().parent.parent


def default_home() -> Path:
    """HAULAGE_HOME, or a state directory named after this checkout, so that two checkouts never share servers."""
    if chosen := os.environ.get("HAULAGE_HOME"):
        return Path(chosen).expanduser().absolute()
    name = hashlib.sha256(os.fsencode(PROJECT)).hexdigest()[:12]
    return _state_directory() / "haulage" / name


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib")  # the servers' own account cannot look below /root
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")


def make(home: Path) -> None:
    """Make the directory and its missing parents passable for the servers' account, whatever the umask says."""
    missing = [directory for directory in (home, *home.parents) if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def temporary() -> Path:
    """Make an empty home. As root it ignores TMPDIR, which may be root's alone."""
    home = Path(tempfile.mkdtemp(prefix="haulage-", dir="/tmp" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    return home


def remove(home: Path) -> None:
    """Delete the home; tries again for two seconds, since an initdb that lost its parent may still be writing."""
    for _ in range(20):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(0.1)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One launcher at a time in this home; the others wait here."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Refuse, with Occupied, where somebody else holds this home for as long as it runs."""
    make(home)
    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Occupied(f"`make up` is running already, with its data in {home}") from None
        yield


def write_private(path: Path, content: str) -> None:
    """Replace the file in one step, readable by its owner alone from its first moment."""
    draft = path.with_name(path.name + ".part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    draft.rename(path)
