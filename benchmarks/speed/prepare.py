"""Stages files, commits their rows and sends their wake-ups: `python -m benchmarks.speed.prepare UPLOADS BYTES [CORPORATION]`."""

import secrets
import sys

from app import catalogue, folders, overdue, queue, uploads
from app.database import session_scope
from app.drive_settings import drive_settings
from app.drives.registry import Drives
from app.settings import settings
from app.staging import Staging

CORP = 7
FOLDERS = 16


def main(number: int, size: int, corporation: int = CORP) -> None:
    chosen = settings()
    staging = Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes)
    with session_scope() as session:
        root = catalogue.root_id(session, corporation)
        drive = Drives(drive_settings()).named(catalogue.drive_name(session, corporation))
    paths = [(f"folder {one:02}",) for one in range(FOLDERS)]
    for path in paths:  # made once: what is measured begins when they are there
        folders.make_path(drive, corporation, root, path)
    made = []
    with session_scope() as session:
        for one in range(number):
            to = uploads.Destination(corporation, root, paths[one % FOLDERS], f"{secrets.token_hex(8)}.bin")
            staged = staging.put([secrets.token_bytes(size)])
            made.append(uploads.register(session, to, staged).id)
        overdue.mark_woken(session, made)
    queue.wake(made)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
