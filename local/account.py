"""Whom the servers run as: PostgreSQL refuses root, and another account may not reach our files."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLEAN = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}  # PGHOST, LANG and their like change what a server does


class NoAccount(RuntimeError):
    """There is no account to run the servers as, or it cannot work where it must."""


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def switch(self) -> dict[str, Any]:
        """Arguments for subprocess that make the child run as this account."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can(self, *command: str | Path) -> bool:
        """True if the command ends well when this account runs it."""
        try:
            subprocess.run(
                command,
                cwd="/",
                env=CLEAN,
                capture_output=True,
                check=True,
                **self.switch(),
            )
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


def for_directory(directory: Path) -> Account:
    """The account for a server with this data directory: ourselves or, as root, whoever owns it, else a system account."""
    if os.geteuid() != 0:
        return _by_uid(os.geteuid())
    owner = directory.stat().st_uid if directory.exists() else 0
    account = _by_uid(owner) if owner else _system_account()
    _require_passage(account, directory.parent)
    return account


def _by_uid(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise NoAccount(
            f"User id {uid} has no entry in the passwd database, and PostgreSQL's initdb refuses such a user. "
            "Run as a user that has one, or as root, or set DATABASE_URL and REDIS_URL to servers of your own."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _system_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoAccount(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody."
    )


def _require_passage(account: Account, directory: Path) -> None:
    if not account.can("test", "-x", directory):
        raise NoAccount(
            f"The servers run as {account.name}, who cannot enter {directory}. "
            "Set HAULAGE_HOME to a directory whose parents everybody may enter, for example below /var/lib."
        )


def reachable(account: Account, program: Path, parts: Iterable[Path], copy: Path) -> Path:
    """The program, or a copy of its parts below copy when the account cannot run the original.

    A virtual environment below /root is the usual case. Parts are files and directories that keep their
    places relative to each other, and the program is in one of them.
    """
    if account.can(program, "--version"):
        return program
    parts = list(parts)
    base = Path(os.path.commonpath([part.parent for part in parts]))
    if not copy.exists():
        _copy(account, parts, copy)
    copied = copy / program.relative_to(base)
    if not account.can(copied, "--version"):
        raise NoAccount(f"The account {account.name} can run neither {program} nor the copy {copied}.")
    return copied


def _copy(account: Account, parts: Iterable[Path], copy: Path) -> None:
    draft = copy.with_name(copy.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for part in parts:
        (shutil.copytree if part.is_dir() else shutil.copy2)(part, draft / part.name)
    for path in (draft, *draft.rglob("*")):
        account.give(path)
    draft.rename(copy)
