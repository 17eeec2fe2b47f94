"""What a name may be, and when two names are the same."""

import unicodedata
from pathlib import PurePosixPath

from app.errors import BadName, PathTooLong

MAX_NAME_BYTES = 255  # what ext4, XFS, APFS and NTFS have in common
MAX_SUFFIX_BYTES = 32  # what follows a dot and is longer is no suffix
MAX_PATH_BYTES = 900  # keeps (parent, name) inside PostgreSQL's largest index row, 2704 bytes


def check(name: str) -> str:
    """Return the name exactly as given, or raise BadName saying what is wrong with it."""
    if name in {"", ".", ".."}:
        raise BadName(f"{name!r} is not a name")
    if "/" in name or "\0" in name:
        raise BadName("a name cannot contain '/' or a NUL character")
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise BadName("the name is not valid UTF-8") from error
    if len(encoded) > MAX_NAME_BYTES:
        raise BadName(f"the name has {len(encoded)} bytes in UTF-8; {MAX_NAME_BYTES} are allowed")
    return name


def key(name: str) -> str:
    """Return what two names have in common when they differ in case or Unicode composition only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def parts(folder: str) -> tuple[str, ...]:
    """Split a folder's path ("a/b", "/a/b/", "") into checked names; the empty path is the root."""
    return tuple(check(part) for part in folder.split("/") if part)


def split(path: str) -> tuple[tuple[str, ...], str]:
    """Split a path ("a/b/x.pdf") into the folders' names above and its own; raises BadName or PathTooLong."""
    *folder, name = parts(path) or (check(path),)
    check_path(tuple(folder), name)
    return tuple(folder), name


def check_path(folder: tuple[str, ...], name: str) -> None:
    length = len("/".join((*folder, name)).encode())
    if length > MAX_PATH_BYTES:
        raise PathTooLong(f"the path has {length} bytes; {MAX_PATH_BYTES} are allowed")


def numbered(name: str, number: int) -> str:
    """Return `name` for 0, else "stem (number).suffix", shortened in the stem to stay a legal name."""
    if number == 0:
        return name
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > MAX_SUFFIX_BYTES:
        suffix = ""
    tail = f" ({number}){suffix}"
    stem = name[: len(name) - len(suffix)]
    room = MAX_NAME_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail


def printable(name: str) -> str:
    """Return the name for a terminal or a log: whatever could move the cursor or the reading direction is escaped."""
    return "".join(_shown(character) for character in name)


def _shown(character: str) -> str:
    visible = unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029"
    return character if visible else f"\\u{ord(character):04x}"
