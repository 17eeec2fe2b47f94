"""The commands that look: `tree`, `status`, `uploads`, `verify`."""

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from uuid import UUID

import click

from app import asked, catalogue, listing, names, pauses, uploads
from app import verify as verification
from app.cli.drives import drives_noted_at_end
from app.cli.shown import as_json_option, put_json
from app.database import session_scope
from app.listing import Cursor
from app.models import Item, Json, Kind, State, Upload

FAILED_SHOWN = 20
PAGE = 1000


@click.command()
@click.option("--corp", "corp_index", type=int, required=True)
@click.option("--depth", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--width", type=click.IntRange(min=1), default=20, show_default=True, help="Entries shown per folder."
)
@as_json_option
def tree(*, corp_index: int, depth: int, width: int, as_json: bool) -> None:
    """Show a corporation's folders and files, with each folder's child_count."""
    with session_scope() as session:
        root = catalogue.item(session, corp_index, catalogue.root_id(session, corp_index))
    if as_json:
        put_json(_branch(root, depth, width))
        return
    click.echo(f"{names.printable(root.name)}/  ({root.child_count})")
    _show_below(root, depth, width, "")


def _children(folder: Item, width: int) -> list[Item]:
    with session_scope() as session:
        return list(catalogue.children(session, folder.corp_index, folder.drive_item_id, limit=width))


def _branch(item: Item, depth: int, width: int) -> Json:
    told: Json = {"id": item.drive_item_id, "name": item.name, "kind": item.kind}
    if item.kind == Kind.FILE:
        return told | {"size": item.size, "sha256": item.sha256}
    told["child_count"] = item.child_count
    if depth > 0:  # fewer than child_count if the folder has more than were asked for
        told["children"] = [_branch(child, depth - 1, width) for child in _children(item, width)]
    return told


def _show_below(folder: Item, depth: int, width: int, margin: str) -> None:
    children = _children(folder, width)
    for child in children:
        count = f"/  ({child.child_count})" if child.kind == Kind.FOLDER else f"  {child.size} bytes"
        click.echo(f"{margin}├── {names.printable(child.name)}{count}")
        if child.kind == Kind.FOLDER and depth > 1:
            _show_below(child, depth - 1, width, margin + "│   ")
    if folder.child_count > len(children):
        click.echo(f"{margin}└── … {folder.child_count - len(children)} more")


@click.command()
@click.argument("upload_id", type=click.UUID, required=False)
@click.option("--corp", "corp_index", type=int, required=True)
@as_json_option
def status(*, upload_id: UUID | None, corp_index: int, as_json: bool) -> None:
    """Show one upload, or how many uploads are in which state and why the failed ones failed."""
    if upload_id is None:
        _show_summary(corp_index, as_json=as_json)
        return
    with session_scope() as session:
        one, paused = uploads.get(session, corp_index, upload_id), pauses.now(session)
    told = listing.describe(one, paused)
    if as_json:
        put_json(told)
    else:
        _show_upload(one, told)


def _show_summary(corp_index: int, *, as_json: bool) -> None:
    with session_scope() as session:
        catalogue.root_id(session, corp_index)
        counts = listing.counts(session, corp_index)
        drive = catalogue.drive_name(session, corp_index)
        pause = pauses.now(session).get(drive)
        waits = listing.waits(session, corp_index)
        failed = listing.page(session, corp_index, [State.FAILED], None, FAILED_SHOWN)
    if as_json:
        told = {"name": drive, "paused": pause and pauses.describe(pause)}
        waiting = [dict(zip(("number", "reason", "message"), one, strict=True)) for one in waits]
        put_json(
            {
                "uploads": counts,
                "drive": told,
                "waiting": waiting,
                "failed": [listing.describe(one) for one in failed],
            }
        )
        return
    if pause is not None:
        click.echo(f"the drive {drive} {pauses.sentence(pause)}")
    for state in State:
        if counts.get(state):
            click.echo(f"{state:13} {counts[state]}")
    for number, reason, message in waits:
        click.echo(f"waiting, {number}: {reason}: {message}")
    for one in failed:
        click.echo(f"failed: {one.id}  {names.printable(one.name)}: {one.reason}: {one.message}")


def _show_upload(one: Upload, told: Json) -> None:
    shown = {
        "upload": one.id,
        "state": one.state,
        "name": names.printable(one.name),
        "folder": names.printable(told["folder"]),
        "size": one.size,
        "sha256": one.sha256,
        "transferred": f"{told['transferred']}{_pace(told)}",
        "attempts": one.attempts,
        "item": one.item_id and names.printable(one.item_id),
        "reason": told["reason"],
        "message": told["message"],
        "next try": one.due_at if one.state == State.QUEUED else None,
        "request": one.request_id,
    }
    for label, value in shown.items():
        if value is not None and value != "":
            click.echo(f"{label:12} {value}")


def _pace(told: Json) -> str:
    if told["bytes_per_second"] is None:
        return ""
    pace = f" ({told['bytes_per_second'] / 2**20:.1f} MiB/s"
    return f"{pace})" if told["seconds_left"] is None else f"{pace}, {told['seconds_left']:.0f} s left)"


def _pages(corp_index: int, states: list[State], limit: int) -> Iterator[Sequence[Upload]]:
    """Read one page after the other, each in a transaction of its own."""
    behind: Cursor | None = None
    while True:
        with session_scope() as session:
            found = listing.page(session, corp_index, states, behind, limit)
        yield found
        if len(found) < limit:
            return
        behind = Cursor(found[-1].created_at, found[-1].id)


@click.command("uploads")
@click.option("--corp", "corp_index", type=int, required=True)
@click.option(
    "--state", "states", type=click.Choice([one.value for one in State]), multiple=True, help="Only these."
)
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True)
@click.option("--all", "all_of_them", is_flag=True, help="Every one, however many there are.")
@as_json_option
def list_uploads(
    *, corp_index: int, states: tuple[str, ...], limit: int, all_of_them: bool, as_json: bool
) -> None:
    """List uploads, the newest first."""
    with session_scope() as session:
        catalogue.root_id(session, corp_index)
        paused = pauses.now(session)
    wanted = [State(one) for one in states]
    found = chain.from_iterable(_pages(corp_index, wanted, PAGE if all_of_them else limit))
    chosen = found if all_of_them else islice(found, limit)
    if as_json:
        put_json([listing.describe(one, paused) for one in chosen])
        return
    for one in chosen:
        told = listing.describe(one, paused)
        path = names.printable("/".join((*one.folder, one.name)))
        why = f"  {told['reason']}: {told['message']}" if told["reason"] else ""
        size = "" if one.size is None else f"  {told['transferred']} of {one.size} bytes{_pace(told)}"
        click.echo(f"{one.id}  {one.state:12}  {path}{size}{why}")


@click.command()
@click.option("--corp", "corp_index", type=int, required=True)
@as_json_option
def verify(*, corp_index: int, as_json: bool) -> None:
    """Compare catalogue and drive from the outside: every file's bytes, every folder's count.

    Of an Office file that SharePoint has altered since it was stored, only that it is there, and not empty.

    Exit code 1 if they differ; 75 if not, but the drive stopped before everything was compared.
    """
    drives = drives_noted_at_end()
    with session_scope() as session:
        drive = drives.named(catalogue.drive_name(session, corp_index))
    findings = verification.corporation(drive, corp_index, partial(asked.note_soon, drives))
    if as_json:
        put_json(findings)
    else:
        for problem in findings.problems:
            click.echo(problem, err=True)
        unknown = f", {findings.without_hash} recorded without a sha256" if findings.without_hash else ""
        unknown += (
            f", {findings.altered_again} altered again, not comparable" if findings.altered_again else ""
        )
        click.echo(
            f"{findings.files} files ({findings.bytes} bytes{unknown}) and {findings.folders} folders compared, "
            f"{len(findings.problems)} differences"
        )
        if findings.stopped:
            click.echo(f"haulage: it ended before everything was compared: {findings.stopped}", err=True)
    sys.exit(1 if findings.problems else os.EX_TEMPFAIL if findings.stopped else 0)


COMMANDS = (tree, status, list_uploads, verify)
