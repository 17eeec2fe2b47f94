"""The commands that change uploads and folders: `retry`, `cancel`, `mkdir`, `sweep`."""

import sys
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import click
from sqlalchemy import func, select

from app import asked, catalogue, folders, names, queue, results, steering
from app.cli.drives import drives_noted_at_end
from app.cli.shown import as_json_option, put_json
from app.database import session_scope
from app.errors import DriveHalted, HaulageError


@click.command()
@click.argument("upload_ids", type=click.UUID, nargs=-1)
@click.option("--corp", "corp_index", type=int, required=True)
@click.option("--all", "all_failed", is_flag=True, help="Every failed upload of the corporation.")
@as_json_option
def retry(*, upload_ids: tuple[UUID, ...], corp_index: int, all_failed: bool, as_json: bool) -> None:
    """Queue failed uploads again. Exit code 1 if one cannot be."""
    if all_failed == bool(upload_ids):
        raise click.UsageError("name the uploads, or say --all")
    if all_failed:
        _retry_all(corp_index, as_json=as_json)
    else:
        sys.exit(_each(upload_ids, corp_index, steering.retry, "queued again", as_json=as_json))


def _retry_all(corp_index: int, *, as_json: bool) -> None:
    with session_scope() as session:
        begun = session.scalars(select(func.now())).one()
    done: list[UUID] = []
    while batch := _retry_some(corp_index, begun):
        done += batch
    with session_scope() as session:
        left = steering.retriable(session, corp_index, begun)
    if as_json:
        put_json({"retried": done, "left": left})
        return
    for upload_id in done:
        click.echo(f"{upload_id}: queued again")
    if left:
        click.echo(f"{left} are just being cleaned up; try again in a minute", err=True)


def _retry_some(corp_index: int, failed_before: datetime) -> list[UUID]:
    with session_scope() as session:
        return [upload.id for upload in steering.retry_failed(session, corp_index, failed_before)]


@click.command()
@click.argument("upload_ids", type=click.UUID, nargs=-1, required=True)
@click.option("--corp", "corp_index", type=int, required=True)
@as_json_option
def cancel(*, upload_ids: tuple[UUID, ...], corp_index: int, as_json: bool) -> None:
    """Cancel uploads that are not finished; one that is being transferred ends at its next step."""
    wrong = _each(upload_ids, corp_index, steering.cancel, "cancelled, or asked to be", as_json=as_json)
    for upload_id in upload_ids:
        results.report(upload_id)
    sys.exit(wrong)


def _each(
    upload_ids: Iterable[UUID], corp_index: int, change: steering.Change, done: str, *, as_json: bool
) -> int:
    good: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for upload_id in upload_ids:
        try:
            with session_scope() as session:
                change(session, corp_index, upload_id)
        except HaulageError as error:
            wrong[str(upload_id)] = str(error)
        else:
            good[str(upload_id)] = done
    if as_json:
        put_json({"done": list(good), "failures": wrong})
    for told, is_error in ((good, False), (wrong, True)):
        for upload_id_text, what in told.items() if not as_json else ():
            click.echo(f"{upload_id_text}: {what}", err=is_error)
    return 1 if wrong else 0


@click.command()
@click.argument("path")
@click.option("--corp", "corp_index", type=int, required=True)
@as_json_option
def mkdir(*, path: str, corp_index: int, as_json: bool) -> None:
    """Make a folder, and what is missing of the path to it; one that is there is fine too."""
    above, name = names.split(path)
    with session_scope() as session:
        root = catalogue.root_id(session, corp_index)
        drive = drives_noted_at_end().named(catalogue.drive_name(session, corp_index))
        asked.heed(session, drive.name)
    try:
        made, is_new = folders.make_path(drive, corp_index, root, (*above, name))
    except DriveHalted as error:
        asked.tell(drive.name, error)
        raise
    if as_json:
        put_json({"id": made, "new": is_new})
    else:
        click.echo(f"{names.printable(made)}: {'made' if is_new else 'was there'}")


@click.command()
@as_json_option
def sweep(*, as_json: bool) -> None:
    """Ask a worker to sweep now: to take uploads back from lost workers and to wake what is due."""
    try:
        queue.ask_for_sweep()
    except queue.UNREACHABLE as error:
        raise click.ClickException(f"Redis cannot be reached: {error}") from error
    if as_json:
        put_json({"asked": True})
    else:
        click.echo("A worker has been asked.")


COMMANDS = (retry, cancel, mkdir, sweep)
