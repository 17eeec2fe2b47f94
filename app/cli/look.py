"""The commands that look: `tree`, `status`, `verify`."""

import sys
from uuid import UUID

import click
from sqlalchemy import func, select

from app import catalogue, names, uploads
from app import verify as verification
from app.database import session_scope
from app.drives.filesystem import FilesystemDrive
from app.models import Item, Kind, State, Upload
from app.settings import settings


@click.command()
@click.option("--corp", "corp_index", type=int, required=True)
@click.option("--depth", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--width", type=click.IntRange(min=1), default=20, show_default=True, help="Entries shown per folder."
)
def tree(corp_index: int, depth: int, width: int) -> None:
    """Show a corporation's folders and files, with each folder's child_count."""
    with session_scope() as session:
        root = catalogue.item(session, corp_index, catalogue.root_id(session, corp_index))
    click.echo(f"{names.printable(root.name)}/  ({root.child_count})")
    _show_below(root, depth, width, "")


def _show_below(folder: Item, depth: int, width: int, margin: str) -> None:
    with session_scope() as session:
        children = catalogue.children(session, folder.corp_index, folder.drive_item_id, limit=width)
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
def status(upload_id: UUID | None, corp_index: int) -> None:
    """Show one upload, or how many uploads are in which state and why the failed ones failed."""
    if upload_id is not None:
        _show_upload(corp_index, upload_id)
        return
    with session_scope() as session:
        catalogue.root_id(session, corp_index)
        by_state = (
            select(Upload.state, func.count()).where(Upload.corp_index == corp_index).group_by(Upload.state)
        )
        counts = {state: number for state, number in session.execute(by_state)}  # noqa: C416  a Result is no mapping
        failed = session.scalars(
            select(Upload)
            .where(Upload.corp_index == corp_index, Upload.state == State.FAILED)
            .order_by(Upload.finished_at.desc())
            .limit(20)
        ).all()
    for state in State:
        if counts.get(state):
            click.echo(f"{state:13} {counts[state]}")
    for one in failed:
        click.echo(f"failed: {one.id}  {names.printable(one.name)}: {one.reason}: {one.message}")


def _show_upload(corp_index: int, upload_id: UUID) -> None:
    with session_scope() as session:
        one = uploads.get(session, corp_index, upload_id)
    shown = {
        "upload": one.id,
        "state": one.state,
        "name": names.printable(one.name),
        "folder": names.printable("/".join(one.folder)),
        "size": one.size,
        "sha256": one.sha256,
        "transferred": one.transferred,
        "attempts": one.attempts,
        "item": one.item_id and names.printable(one.item_id),
        "reason": one.reason,
        "message": one.message,
        "next try": one.due_at if one.state == State.QUEUED else None,
    }
    for label, value in shown.items():
        if value is not None and value != "":
            click.echo(f"{label:12} {value}")


@click.command()
@click.option("--corp", "corp_index", type=int, required=True)
def verify(corp_index: int) -> None:
    """Compare catalogue and drive from the outside: every file's bytes, every folder's count. Exit code 1 if they differ."""
    with session_scope() as session:
        catalogue.root_id(session, corp_index)
    findings = verification.corporation(FilesystemDrive(settings().drive_dir), corp_index)
    for problem in findings.problems:
        click.echo(problem, err=True)
    unknown = f", {findings.without_hash} recorded without a sha256" if findings.without_hash else ""
    click.echo(
        f"{findings.files} files ({findings.bytes} bytes{unknown}) and {findings.folders} folders compared, "
        f"{len(findings.problems)} differences"
    )
    sys.exit(1 if findings.problems else 0)


COMMANDS = (tree, status, verify)
