"""The commands for who runs an installation: `migrate`, `corp`, `token`, `flower`, `completion`."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import click
from click.shell_completion import get_completion_class
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import catalogue, database, schema, tokens
from app.adoption import takeover
from app.cli.drives import drive_of_choice
from app.cli.shown import as_json_option, put_json
from app.drive_settings import FILESYSTEM, drive_settings
from app.drives.registry import Drives
from app.errors import WrongStaging
from app.models import Corporation, StagingIdentity
from app.settings import settings
from app.staging import IDENTITY_FILE, Staging

SHOWN = 20  # corrected counts; there may be as many as rows


def _owner_url() -> str:
    return settings().owner_database_url or settings().database_url


def _as_owner() -> Session:
    return Session(database.short_lived_engine(_owner_url()), expire_on_commit=False)


@click.command()
@click.option(
    "--adopt", is_flag=True, help="Take over a corporate.vmb_items that another application has made."
)
@click.option(
    "--dry-run", is_flag=True, help="With --adopt: do it, show what was done, and take it all back."
)
@as_json_option
def migrate(*, adopt: bool, dry_run: bool, as_json: bool) -> None:
    """Create or upgrade the schema, and make STAGING_DIR the staging of this database."""
    if dry_run and not adopt:
        raise click.UsageError("--dry-run goes with --adopt")
    adopted = _adopt(dry_run=dry_run) if adopt else None
    told: dict[str, object] = {} if adopted is None else {"adopted": adopted}
    if dry_run:
        told["dry_run"] = True
    elif adopted is None or not adopted.differences:
        takeover.refuse_strangers(_owner_url())
        told |= {"revision": schema.migrate(_owner_url()), "staging": _the_staging()}
    else:  # its transaction has done all this, and nothing can fail after it
        told |= {"revision": schema.newest(), "staging": settings().staging_dir}
    if as_json:
        put_json(told)
    else:
        _show_migrated(told, adopted)


def _adopt(*, dry_run: bool) -> takeover.Adopted:
    chosen = settings()
    drive, staging = Drives(drive_settings()).named(FILESYSTEM), _staging()

    def make_places(corp_index: int) -> str:
        (chosen.inbox_dir / str(corp_index)).mkdir(parents=True, exist_ok=True)
        return drive.make_root(corp_index).id

    def make_staging() -> UUID:
        _refuse_anothers(staging)
        return staging.prepare()

    try:
        return takeover.adopt(_owner_url(), make_places, make_staging, rehearse=dry_run)
    except OSError as error:
        raise WrongStaging(
            f"{error.filename}: {error.strerror}; STAGING_DIR, DRIVE_DIR and INBOX_DIR must be there, and nothing was adopted"
        ) from error


def _staging() -> Staging:
    chosen = settings()
    return Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes)


def _the_staging() -> Path:
    """Make STAGING_DIR the staging of this database, unless it is; return it."""
    staging = _staging()
    with _as_owner() as session, session.begin():
        recorded = session.get(StagingIdentity, True)
        if recorded is None:
            _refuse_anothers(staging)
            session.add(StagingIdentity(identity=staging.prepare()))
        elif staging.identity() != recorded.identity:
            raise WrongStaging(
                f"STAGING_DIR ({staging.root}) is not the staging that this database belongs to"
            )
    return staging.root


def _show_migrated(told: dict[str, object], adopted: takeover.Adopted | None) -> None:
    if adopted is not None:
        _show_adopted(adopted)
    if "dry_run" in told:
        click.echo("This was a rehearsal: everything is as it was before.")
    else:
        click.echo(f"The schema is at revision {told['revision']}.\nIts staging is {told['staging']}.")


def _show_adopted(adopted: takeover.Adopted) -> None:
    if not adopted.differences:
        click.echo("There is nothing to adopt.")
        return
    kinds = {
        "Put right in corporate.vmb_items:": adopted.differences,
        "Corrected:": _first(adopted.corrected),
        "Left as it was:": adopted.stays,
    }
    for title, lines in kinds.items():
        click.echo("\n".join([title, *(f"  - {line}" for line in lines)]) if lines else "", nl=bool(lines))


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} more, which --json tells"] if more > 0 else lines


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
@click.option("--drive", "drive_name", help="By its name in the settings; needed if they name several.")
@as_json_option
def add(*, corp_index: int, name: str, drive_name: str | None, as_json: bool) -> None:
    """Add a corporation, its root folder in its drive, which stays its drive for good, and its inbox."""
    drive = drive_of_choice(drive_name)
    root = drive.make_root(corp_index)
    with _as_owner() as session, session.begin():
        catalogue.add_corporation(session, corp_index, name, root.id, drive.name)
    (settings().inbox_dir / str(corp_index)).mkdir(parents=True, exist_ok=True)
    if as_json:
        put_json({"corp_index": corp_index, "root_id": root.id, "drive": drive.name})
    else:
        click.echo(f"Corporation {corp_index} is ready.")


@corp.command("list")
@as_json_option
def list_corporations(*, as_json: bool) -> None:
    """List the corporations."""
    with _as_owner() as session:
        found = session.scalars(select(Corporation).order_by(Corporation.corp_index)).all()
    if as_json:
        put_json([{"corp_index": one.corp_index, "name": one.name, "drive": one.drive} for one in found])
        return
    for one in found:
        click.echo(f"{one.corp_index:8}  {one.drive:12}  {one.name}")


@click.group()
def token() -> None:
    """Bearer tokens for the HTTP interface."""


@token.command()
@click.option("--corp", "corp_index", type=int, help="The corporation that it opens.")
@click.option("--operator", is_flag=True, help="For who runs the installation: operations page and metrics.")
@click.option("--label", default="", help="Who it is for.")
@click.option("--days", type=click.IntRange(min=1), help="How long it is valid; for ever if not given.")
@as_json_option
def create(*, corp_index: int | None, operator: bool, label: str, days: int | None, as_json: bool) -> None:
    """Make a token and print it, this one time."""
    if operator == (corp_index is not None):
        raise click.UsageError("say --corp and its number, or --operator")
    valid_for = None if days is None else timedelta(days=days)
    with _as_owner() as session, session.begin():
        if corp_index is not None:
            catalogue.root_id(session, corp_index)
        made = tokens.create(session, corp_index, label, valid_for)
    if as_json:
        put_json({"token": made})
    else:
        click.echo(made)


@token.command("list")
@as_json_option
def list_tokens(*, as_json: bool) -> None:
    """List the tokens: whose they are and how long they are valid. What they are, nobody knows any more."""
    with _as_owner() as session:
        found = tokens.all_of_them(session)
    if as_json:
        put_json(found)
        return
    for one in found:
        whose = "operator" if one.corp_index is None else f"corporation {one.corp_index}"
        ends = "revoked" if one.revoked_at else f"until {one.expires_at:%Y-%m-%d}" if one.expires_at else ""
        click.echo(f"{one.id}  {whose}  {one.label}  {ends}".rstrip())


@token.command()
@click.argument("token_id", type=click.UUID)
@as_json_option
def revoke(*, token_id: UUID, as_json: bool) -> None:
    """Revoke a token, by the id that `token list` shows."""
    with _as_owner() as session, session.begin():
        tokens.revoke(session, token_id)
    if as_json:
        put_json({"revoked": token_id})
    else:
        click.echo(f"{token_id}: revoked")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def flower(arguments: tuple[str, ...]) -> None:
    """Start Flower for this installation; needs FLOWER_BASIC_AUTH=user:password."""
    celery = Path(sys.executable).with_name("celery")
    address = () if any(one.startswith("--address") for one in arguments) else ("--address=127.0.0.1",)
    os.execv(celery, [str(celery), "-A", "tasks.worker", "flower", *address, *arguments])  # noqa: S606  our own program


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write what makes a shell complete this command, as in: eval "$(haulage completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows the three
    click.echo(kind(context.find_root().command, {}, "haulage", "_HAULAGE_COMPLETE").source())


COMMANDS = (migrate, corp, token, flower, completion)
