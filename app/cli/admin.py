"""The commands that change things: `migrate`, `corp add`, `token create`, `retry`, `cancel`, `sweep`, `flower`."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import catalogue, database, queue, results, schema, tokens, uploads
from app.database import session_scope
from app.drives.filesystem import FilesystemDrive
from app.errors import HaulageError, WrongStaging
from app.models import StagingIdentity, State, Upload
from app.settings import settings
from app.staging import IDENTITY_FILE, Staging


def _owner_url() -> str:
    return settings().owner_database_url or settings().database_url


@click.command()
def migrate() -> None:
    """Create or upgrade the schema, and make STAGING_DIR the staging of this database."""
    click.echo(f"The schema is at revision {schema.migrate(_owner_url())}.")
    chosen = settings()
    staging = Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes)
    with Session(database.short_lived_engine(_owner_url())) as session, session.begin():
        recorded = session.get(StagingIdentity, True)
        if recorded is None:
            _refuse_anothers(staging)
            session.add(StagingIdentity(identity=staging.prepare()))
        elif staging.identity() != recorded.identity:
            raise WrongStaging(
                f"STAGING_DIR ({chosen.staging_dir}) is not the staging that this database belongs to"
            )
    click.echo(f"Its staging is {chosen.staging_dir}.")


def _refuse_anothers(staging: Staging) -> None:
    """A second database on the same staging would take the first one's bytes for litter."""
    if staging.identity() is not None:
        raise WrongStaging(
            f"STAGING_DIR ({staging.root}) is the staging of another database; use an empty directory "
            f"(or remove {IDENTITY_FILE} from it, if a first `haulage migrate` was interrupted here)"
        )


@click.group()
def corp() -> None:
    """Corporations."""


@corp.command()
@click.argument("corp_index", type=click.IntRange(min=1))
@click.argument("name")
def add(corp_index: int, name: str) -> None:
    """Add a corporation, its root folder in the drive and its inbox."""
    chosen = settings()
    root = FilesystemDrive(chosen.drive_dir).make_root(corp_index)
    with Session(database.short_lived_engine(_owner_url())) as session, session.begin():
        catalogue.add_corporation(session, corp_index, name, root.id)
    (chosen.inbox_dir / str(corp_index)).mkdir(parents=True, exist_ok=True)
    click.echo(f"Corporation {corp_index} is ready.")


@click.group()
def token() -> None:
    """Bearer tokens for the HTTP interface."""


@token.command()
@click.option("--corp", "corp_index", type=int, required=True)
@click.option("--label", default="", help="Who it is for.")
@click.option("--days", type=click.IntRange(min=1), help="How long it is valid; for ever if not given.")
def create(corp_index: int, label: str, days: int | None) -> None:
    """Make a token and print it, this one time."""
    valid_for = None if days is None else timedelta(days=days)
    with Session(database.short_lived_engine(_owner_url())) as session, session.begin():
        catalogue.root_id(session, corp_index)
        made = tokens.create(session, corp_index, label, valid_for)
    click.echo(made)


@click.command()
@click.argument("upload_ids", type=click.UUID, nargs=-1)
@click.option("--corp", "corp_index", type=int, required=True)
@click.option("--all", "all_failed", is_flag=True, help="Every failed upload of the corporation.")
def retry(upload_ids: tuple[UUID, ...], corp_index: int, all_failed: bool) -> None:
    """Queue failed uploads again. Exit code 1 if one cannot be."""
    if all_failed == bool(upload_ids):
        raise click.UsageError("name the uploads, or say --all")
    chosen = upload_ids or _failed(corp_index)
    sys.exit(_each(chosen, corp_index, uploads.retry, "queued again"))


def _failed(corp_index: int) -> tuple[UUID, ...]:
    with session_scope() as session:
        failed = select(Upload.id).where(Upload.corp_index == corp_index, Upload.state == State.FAILED)
        return tuple(session.scalars(failed))


@click.command()
@click.argument("upload_ids", type=click.UUID, nargs=-1, required=True)
@click.option("--corp", "corp_index", type=int, required=True)
def cancel(upload_ids: tuple[UUID, ...], corp_index: int) -> None:
    """Cancel uploads that are not finished; one that is being transferred ends at its next step."""
    wrong = _each(upload_ids, corp_index, uploads.cancel, "cancelled, or asked to be")
    for upload_id in upload_ids:
        results.report(upload_id)
    sys.exit(wrong)


def _each(upload_ids: tuple[UUID, ...], corp_index: int, change: uploads.Change, done: str) -> int:
    wrong = 0
    for upload_id in upload_ids:
        try:
            with session_scope() as session:
                change(session, corp_index, upload_id)
        except HaulageError as error:
            wrong = 1
            click.echo(f"{upload_id}: {error}", err=True)
        else:
            click.echo(f"{upload_id}: {done}")
    return wrong


@click.command()
def sweep() -> None:
    """Ask a worker to sweep now: to take uploads back from lost workers and to wake what is due."""
    try:
        queue.ask_for_sweep()
    except queue.UNREACHABLE as error:
        raise click.ClickException(f"Redis cannot be reached: {error}") from error
    click.echo("A worker has been asked.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def flower(arguments: tuple[str, ...]) -> None:
    """Start Flower for this installation; needs FLOWER_BASIC_AUTH=user:password."""
    celery = Path(sys.executable).with_name("celery")
    address = () if any(one.startswith("--address") for one in arguments) else ("--address=127.0.0.1",)
    os.execv(celery, [str(celery), "-A", "tasks.worker", "flower", *address, *arguments])  # noqa: S606  our own program


COMMANDS = (migrate, corp, token, retry, cancel, sweep, flower)
