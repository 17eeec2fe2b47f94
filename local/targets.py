"""Where the demonstration's files go: a folder, or a library of Microsoft's as the simulator has it; and who reads them back."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app import names
from app.drive_settings import FILESYSTEM, drive_settings
from app.drives.base import Drive
from app.drives.registry import Drives
from app.graph.names import mapped
from local import rclone, simulator
from local.rclone import NoRclone, Rclone
from local.simulator import Simulator
from local.verdict import Holding, sha256

ONEDRIVE = "onedrive"
KINDS = (FILESYSTEM, ONEDRIVE)


class NoSuchDrive(ValueError):
    """DRIVE asks for something else than there is."""


@dataclass(frozen=True)
class Target:
    """A drive by its name, what a Haulage needs to know of it, and how to look at what it holds when all is done.

    `key` tells which names may not stand beside each other there. `holding` is asked for in the installation's environment.
    """

    drive: str
    read_by: str  # in words; nothing if it goes without saying
    holding: Callable[[], Holding]
    key: Callable[[str], str] = names.key
    settings: dict[str, str] = field(default_factory=dict)


@contextmanager
def chosen(kind: str, data: Path, corp: int) -> Iterator[Target]:
    """Yield what `kind` asks for; a simulator runs for the length of the block. Raises NoSuchDrive or NotStarted."""
    if kind == FILESYSTEM:
        yield Target(FILESYSTEM, "", lambda: Holding(_drive(FILESYSTEM), _from_folder(data / "drive")))
        return
    if kind != ONEDRIVE:
        raise NoSuchDrive(f"DRIVE={names.printable(kind)} is none of: {', '.join(KINDS)}")
    with simulator.running(data / "simulator", *simulator.ROOMY) as running:
        print(f"A simulator of Microsoft Graph is up at {running.url}, over TLS by a CA of its own.")
        yield _library(running, data, corp)


def _drive(name: str) -> Drive:
    return Drives(drive_settings()).named(name)


def _from_folder(drive_dir: Path) -> Callable[[str], str | None]:
    def find(item_id: str) -> str | None:
        path = drive_dir / item_id
        return sha256(path) if path.is_file() else None

    return find


def _library(running: Simulator, data: Path, corp: int) -> Target:
    def key(name: str) -> str:
        return names.key(mapped(name))

    try:
        reader = rclone.of(running, data / "rclone")
    except NoRclone as problem:
        print(f"{problem}\nThe bytes will be read back by Haulage itself, which proves less.", flush=True)
        return Target(
            simulator.DRIVE, "Haulage itself, without rclone", _by_ourselves, key, running.settings()
        )
    version = reader.run("version").split()[1]
    return Target(
        simulator.DRIVE,
        f"rclone {version}",
        lambda: Holding(_drive(simulator.DRIVE), _by_rclone(reader, f"{simulator.FOLDER}/{corp}")),
        key,
        running.settings(),
    )


def _by_rclone(reader: Rclone, folder: str) -> Callable[[str], str | None]:
    """Let it download everything and say each file's sha256; an item's id leads to the path under which rclone knows it."""
    whence = f"{rclone.REMOTE}{folder}"
    listed = json.loads(reader.run("lsjson", "--recursive", "--files-only", whence))
    summed = reader.run("hashsum", "sha256", "--download", whence).splitlines()
    by_path = {path: digest for digest, _, path in (line.partition("  ") for line in summed)}
    by_id = {one["ID"].rpartition("#")[2]: by_path.get(one["Path"]) for one in listed}
    return by_id.get


def _by_ourselves() -> Holding:
    drive = _drive(simulator.DRIVE)

    def find(item_id: str) -> str | None:
        digest = hashlib.sha256()
        try:
            for chunk in drive.read(item_id):
                digest.update(chunk)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    return Holding(drive, find)
