"""Compares catalogue and drive from the outside: what is recorded against what is there, byte for byte."""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from app import asked, catalogue, database, names, uploads
from app.database import session_scope
from app.drives.base import Drive, DriveItem
from app.errors import (
    DriveFull,
    DriveHalted,
    DriveItemBusy,
    DriveMissing,
    DriveRefuses,
    DriveThrottled,
    DriveUnavailable,
    Hopeless,
    Setback,
)
from app.models import Item, Kind

STOPS = {one.code for one in (DriveFull, DriveRefuses, DriveMissing)}  # what only a person ends
OF_ONE_ITEM = (OSError, Setback, Hopeless, DriveItemBusy)  # what a drive says, and goes on
MOST_FAILURES = 5  # in a row, at one item, of a drive that does not answer
ONE_WAIT = timedelta(minutes=1)  # then it is looked whether somebody has ended the pause by hand

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass
class Findings:
    """What was compared, and every difference as a sentence; `stopped` says why it ended before its end, if it did."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    without_hash: int = 0
    altered_again: int = 0
    problems: list[str] = field(default_factory=list)
    stopped: str | None = None


def corporation(drive: Drive, corp_index: int, at_each_item: Callable[[], None] = lambda: None) -> Findings:
    """Read every file of a corporation in the drive, count every folder's children; return what was found.

    Uploads may be under way meanwhile: what looks like a difference is looked at again before it is called one. Waits
    while the drive is throttled; a drive that stops for longer ends it, with what was found so far.
    """
    findings = Findings()
    try:
        _compare(drive, corp_index, findings, at_each_item)
    except DriveUnavailable as error:
        findings.stopped = f"{error.code}: {error}"
    except Exception as error:
        if not database.is_passing(error):
            raise
        log.warning("PostgreSQL is away, or busy with others: %s", error)
        findings.stopped = "database_unavailable: PostgreSQL is away, or busy with others"
    return findings


def _compare(drive: Drive, corp_index: int, findings: Findings, at_each_item: Callable[[], None]) -> None:
    folders: list[Item] = []
    counted: Counter[str | None] = Counter()
    known: set[str] = set()
    for item in _items(corp_index):
        counted[item.parent_id] += 1
        known.add(item.drive_item_id)
        at_each_item()
        if item.kind == Kind.FILE:
            _check_file(drive, item, findings)
        else:
            folders.append(item)
    for folder in folders:
        _check_count(folder, counted[folder.drive_item_id], findings)
        _check_folder(drive, folder, known, findings)
        at_each_item()


def _items(corp_index: int) -> Iterator[Item]:
    last = 0
    while True:
        with session_scope() as session:
            page = catalogue.page(session, corp_index, last)
        if not page:
            return
        yield from page
        last = page[-1].id


def _patiently(drive: Drive, look: Callable[[], Result]) -> Result:
    """Look at the drive as soon as it may be asked, and again after what passes by itself; raise what does not."""
    failures = 0
    while True:
        try:
            with session_scope() as session:
                asked.heed(session, drive.name, is_look=True)
            return look()
        except DriveUnavailable as error:
            failures += error.code != DriveThrottled.code
            if isinstance(error, DriveHalted):
                asked.tell(drive.name, error)
            if error.code in STOPS or failures == MOST_FAILURES:
                raise
            _wait(drive, error)


def _wait(drive: Drive, error: DriveUnavailable) -> None:
    # What this process was told itself it waits out, whether or not the others could be told.
    delay = error.delay if isinstance(error, DriveHalted) else min(error.delay, ONE_WAIT)
    log.warning("drive %s: %s; waiting for %.0f s", drive.name, error, delay.total_seconds())
    time.sleep(delay.total_seconds())


def _check_file(drive: Drive, item: Item, findings: Findings) -> None:
    try:
        is_same = _is_same(drive, item, findings)
    except OF_ONE_ITEM as error:
        findings.problems.append(f"{_shown(item)}: recorded, but not to be read in the drive: {_why(error)}")
    else:
        if not is_same:
            findings.problems.append(f"{_shown(item)}: the drive holds other bytes than were received")
    findings.files += 1


def _shown(item: Item) -> str:
    return names.printable(item.drive_item_id)


def _why(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) else str(error)
    return told or type(error).__name__


def _is_same(drive: Drive, item: Item, findings: Findings) -> bool:
    is_same = _patiently(drive, lambda: drive.is_same(item.drive_item_id, item.drive_info))
    if is_same:
        findings.bytes += item.size or 0
        return True
    if (item.drive_info or {}).get("verified") == "altered":
        return _may_be_altered_again(drive, item, findings)
    return is_same is None and _is_read_the_same(drive, item, findings)


def _may_be_altered_again(drive: Drive, item: Item, findings: Findings) -> bool:
    """Tell a file that is empty from one that SharePoint may have altered once more: of that one nothing can be told."""
    if _patiently(drive, lambda: drive.size_now(item.drive_item_id)) == 0:
        return False
    findings.altered_again += 1
    return True


def _is_read_the_same(drive: Drive, item: Item, findings: Findings) -> bool:
    digest, size = _patiently(drive, lambda: _read(drive, item))
    findings.bytes += size
    if item.sha256 is None:
        findings.without_hash += 1
        return True
    return (digest, size) == (item.sha256, item.size)


def _read(drive: Drive, item: Item) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in drive.read(item.drive_item_id):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _check_count(folder: Item, counted: int, findings: Findings) -> None:
    findings.folders += 1
    if folder.child_count == counted:
        return
    with session_scope() as session:
        noted, counted = catalogue.counts(session, folder)
    if noted != counted:
        findings.problems.append(f"{_shown(folder)}: child_count is {noted}, it has {counted} children")


def _check_folder(drive: Drive, folder: Item, known: set[str], findings: Findings) -> None:
    try:
        there = _patiently(drive, lambda: _children(drive, folder))
    except OF_ONE_ITEM as error:
        findings.problems.append(f"{_shown(folder)}: recorded, but not a folder in the drive: {_why(error)}")
        return
    for child_id in sorted(there.keys() - known):
        with session_scope() as session:
            is_new = catalogue.has(session, folder.corp_index, child_id)
            is_coming = uploads.is_placing(session, drive.name, folder, there[child_id].name)
        if not is_new and not is_coming:
            findings.problems.append(f"{names.printable(child_id)}: in the drive, but not in the catalogue")


def _children(drive: Drive, folder: Item) -> dict[str, DriveItem]:
    return {child.id: child for child in drive.children(folder.drive_item_id)}
