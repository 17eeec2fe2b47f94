"""Compares catalogue and drive from the outside: what is recorded against what is there, byte for byte."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from app import catalogue, names, uploads
from app.database import session_scope
from app.drives.base import Drive
from app.models import Item, Kind


@dataclass
class Findings:
    """What was compared, and every difference as a sentence."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    without_hash: int = 0
    problems: list[str] = field(default_factory=list)


def corporation(drive: Drive, corp_index: int) -> Findings:
    """Read every file of a corporation in the drive, count every folder's children; return what was found.

    Uploads may be under way meanwhile: what looks like a difference is looked at again before it is called one.
    """
    findings = Findings()
    folders: list[Item] = []
    counted: Counter[str | None] = Counter()
    known: set[str] = set()
    for item in _items(corp_index):
        counted[item.parent_id] += 1
        known.add(item.drive_item_id)
        if item.kind == Kind.FILE:
            _check_file(drive, item, findings)
        else:
            folders.append(item)
    for folder in folders:
        _check_count(folder, counted[folder.drive_item_id], findings)
        _check_folder(drive, folder, known, findings)
    return findings


def _items(corp_index: int) -> Iterator[Item]:
    last = 0
    while True:
        with session_scope() as session:
            page = catalogue.page(session, corp_index, last)
        if not page:
            return
        yield from page
        last = page[-1].id


def _check_file(drive: Drive, item: Item, findings: Findings) -> None:
    findings.files += 1
    shown = names.printable(item.drive_item_id)
    try:
        is_same = drive.is_same(item.drive_item_id, item.drive_info)
        if is_same is None:
            is_same = _is_read_the_same(drive, item, findings)
        else:
            findings.bytes += item.size or 0
    except OSError as error:
        findings.problems.append(f"{shown}: recorded, but not to be read in the drive: {error.strerror}")
        return
    if not is_same:
        findings.problems.append(f"{shown}: the drive holds other bytes than were received")


def _is_read_the_same(drive: Drive, item: Item, findings: Findings) -> bool:
    digest, size = hashlib.sha256(), 0
    for chunk in drive.read(item.drive_item_id):
        digest.update(chunk)
        size += len(chunk)
    findings.bytes += size
    if item.sha256 is None:
        findings.without_hash += 1
        return True
    return (digest.hexdigest(), size) == (item.sha256, item.size)


def _check_count(folder: Item, counted: int, findings: Findings) -> None:
    findings.folders += 1
    if folder.child_count == counted:
        return
    with session_scope() as session:
        noted, counted = catalogue.counts(session, folder)
    if noted != counted:
        shown = names.printable(folder.drive_item_id)
        findings.problems.append(f"{shown}: child_count is {noted}, it has {counted} children")


def _check_folder(drive: Drive, folder: Item, known: set[str], findings: Findings) -> None:
    try:
        there = {child.id: child for child in drive.children(folder.drive_item_id)}
    except OSError as error:
        shown = names.printable(folder.drive_item_id)
        findings.problems.append(f"{shown}: recorded, but not a folder in the drive: {error.strerror}")
        return
    for child_id in sorted(there.keys() - known):
        with session_scope() as session:
            is_new = catalogue.has(session, folder.corp_index, child_id)
            is_coming = uploads.is_placing(session, folder, there[child_id].name)
        if not is_new and not is_coming:
            findings.problems.append(f"{names.printable(child_id)}: in the drive, but not in the catalogue")
