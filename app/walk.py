"""Finds the files below the paths that a person named, and says of everything else why it is not sent."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app import names
from app.errors import Refused


@dataclass(frozen=True)
class Found:
    """A regular file to send: `name` into `folder`, a path of names below the destination."""

    path: Path
    folder: tuple[str, ...]
    name: str
    size: int


@dataclass(frozen=True)
class LeftOut:
    """Something that is not sent. `wanted` is true if the person would expect it to be."""

    path: Path
    reason: str
    wanted: bool


def walk(paths: Iterable[Path]) -> Iterator[Found | LeftOut]:
    """Yield what the paths hold: a file goes by its own name, a folder with its name and everything below it."""
    for path in paths:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow a link and lose its name
        yield from _visit(absolute, ())


def walk_inside(folder: Path) -> Iterator[Found | LeftOut]:
    """Yield what a folder holds, without the folder's own name."""
    yield from _visit_folder(folder, ())


def _visit(path: Path, folder: tuple[str, ...]) -> Iterator[Found | LeftOut]:
    try:
        status = path.lstat()
        names.check(path.name)
        names.check_path(folder, path.name)
    except (OSError, Refused) as error:
        yield LeftOut(path, getattr(error, "strerror", None) or str(error), wanted=True)
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _visit_folder(path, (*folder, path.name))
    elif stat.S_ISREG(status.st_mode):
        yield Found(path, folder, path.name, status.st_size)
    else:
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
        yield LeftOut(path, what, wanted=False)


def _visit_folder(path: Path, folder: tuple[str, ...]) -> Iterator[Found | LeftOut]:
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        yield LeftOut(path, error.strerror or str(error), wanted=True)
        return
    if not entries:
        yield LeftOut(path, "an empty folder", wanted=False)
    for entry in entries:
        yield from _visit(entry, folder)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            yield chunk
