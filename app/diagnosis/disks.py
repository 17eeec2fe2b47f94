"""The directories that every process shares: there, writable, and with room. Writes nothing into any of them."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.diagnosis.findings import Check, Verdict, bad, good, warning
from app.drive_settings import FILESYSTEM, DriveSettings, FilesystemSettings
from app.settings import Settings
from app.staging import IDENTITY_FILE

LITTLE = 0.1  # of a disk's room, free
FEW = 0.02  # of its inodes
MOUNTS = Path("/proc/self/mountinfo")
NO_LINKS = {
    "vfat",
    "exfat",
    "msdos",
    "fuse.gcsfuse",
    "fuse.s3fs",
    "fuse.mount-s3",
    "fuse.rclone",
    "fuse.goofys",
}
MAYBE_LINKS = {"cifs", "smb3", "9p", "fuse.sshfs", "fuseblk"}
_MOUNT = "Make it, or mount it, on this machine and every other; then look again."
_LET = "Let the user of web and workers do so (chown, or the options of the mount)."


def checks(chosen: Settings, known: Mapping[str, DriveSettings]) -> Sequence[Sequence[Check]]:
    """Return a row for each directory: a mount that hangs must not hide the others."""
    roots = directories(known)
    return [
        [
            Check("staging", partial(_staging, chosen, roots), is_gate=True),
            Check("staging-space", partial(_staging_space, chosen)),
        ],
        [Check("inbox", partial(inbox, chosen))],
        *(
            [
                Check(f"drive{_suffix(name)}", partial(drive, _setting(name), root), is_gate=True),
                Check(f"drive-space{_suffix(name)}", partial(space, root, 0)),
            ]
            for name, root in roots.items()
        ),
    ]


def directories(known: Mapping[str, DriveSettings]) -> dict[str, Path]:
    """Return the drives that are directories, by their names in the settings."""
    return {name: one.dir for name, one in known.items() if isinstance(one, FilesystemSettings)}


def _suffix(name: str) -> str:
    return "" if name == FILESYSTEM else f":{name}"


def _setting(name: str) -> str:
    return "DRIVE_DIR" if name == FILESYSTEM else f"DRIVE_{name.upper()}_DIR"


def _missing(name: str, folder: Path) -> Verdict | None:
    if not folder.exists():
        return bad(f"{name} ({folder}) is not there", _MOUNT)
    if not folder.is_dir():
        return bad(f"{name} ({folder}) is no directory", f"Let {name} name a directory.")
    return None


def _staging(chosen: Settings, roots: Mapping[str, Path]) -> Verdict:
    root = chosen.staging_dir
    if missing := _missing("STAGING_DIR", root):
        return missing
    drafts, kept = root / "drafts", root / "kept" / "00"
    if not (root / IDENTITY_FILE).exists() or not drafts.is_dir() or not kept.is_dir():
        return bad(
            f"STAGING_DIR ({root}) is not a staging",
            "Mount the staging there; or, for a new installation, run `haulage migrate`.",
        )
    if closed := [folder for folder in (drafts, kept) if not os.access(folder, os.W_OK | os.X_OK)]:
        return bad(f"this user may not write into {closed[0]}", _LET)
    if drafts.stat().st_dev != kept.stat().st_dev:
        return bad(
            "its drafts and its kept files are on two file systems, between which nothing can be renamed",
            "Put both on one: mount the staging as a whole.",
        )
    shared = _device(root) in map(_device, roots.values())
    note = "; note: it shares its file system with the drive, which may fill it" if shared else ""
    return good(f"{root} is there and writable{note}")


def _device(folder: Path) -> int | None:
    with suppress(OSError):
        return folder.stat().st_dev
    return None


def _staging_space(chosen: Settings) -> Verdict:
    return space(chosen.staging_dir, chosen.staging_reserve_bytes)


def space(folder: Path, reserve: int) -> Verdict:
    room = os.statvfs(folder)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if total == 0:  # some network file systems tell nothing
        return good(f"{folder} does not tell how much is free")
    told = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free in {folder}"
    do = "Make room there, or more of it."
    if reserve and free <= reserve:
        return bad(
            f"{told}, and STAGING_RESERVE_BYTES keeps {reserve / 2**30:.1f} GiB: every upload is refused", do
        )
    if free == 0 or (room.f_files and room.f_favail == 0):
        return bad(f"{told}, and nothing more can be written", do)
    if free < LITTLE * total:
        return warning(told, do)
    if room.f_files and room.f_favail < FEW * room.f_files:
        return warning(f"only {room.f_favail} of {room.f_files} inodes are free in {folder}", do)
    return good(told)


def inbox(chosen: Settings) -> Verdict:
    if missing := _missing("INBOX_DIR", chosen.inbox_dir):
        return missing
    if not os.access(chosen.inbox_dir, os.R_OK | os.X_OK):
        return bad(f"this user may not read {chosen.inbox_dir}", _LET)
    return good(f"{chosen.inbox_dir} is there and readable")


def drive(setting: str, root: Path) -> Verdict:
    if missing := _missing(setting, root):
        return missing
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        return bad(
            f"{setting} ({root}) is mounted read-only",
            "Mount it for writing; a failing disk may have done it.",
        )
    if not os.access(root, os.W_OK | os.X_OK):
        return bad(f"this user may not write into {root}", _LET)
    kind = file_system(root, MOUNTS.read_text() if MOUNTS.exists() else "")
    do = f"Let {setting} be on a file system with hard links: ext4, xfs, NFS; a file becomes visible by one."
    if kind in NO_LINKS or os.pathconf(root, "PC_LINK_MAX") < 2:
        return bad(f"{setting} ({root}) is on {kind or 'a file system'}, without hard links", do)
    if kind in MAYBE_LINKS:
        return warning(f"{setting} ({root}) is on {kind}, which may be without hard links", do)
    return good(f"{root} is there, writable, and on {kind or 'a file system'} with hard links")


def file_system(folder: Path, mounts: str) -> str:
    """Return the type of the file system that a directory is on, empty if `mounts` (mountinfo) does not tell."""
    at, best, kind = f"{folder.resolve()}/", "", ""
    for line in mounts.splitlines():
        first, _, second = line.partition(" - ")
        point = (
            first.split(" ")[4].encode().decode("unicode_escape").rstrip("/") + "/"
        )  # spaces are \040 there
        if at.startswith(point) and len(point) >= len(best):
            best, kind = point, second.split(" ")[0]
    return kind
