"""The commands about drives: `drive list`, `drive test`, `drive resume`, `drive key`."""

import sys
from functools import partial
from typing import Any

import click
from cryptography.fernet import Fernet

from app import asked, pauses
from app.cli.shown import as_json_option, put_json
from app.database import session_scope
from app.drive_settings import DriveSettings, OneDriveSettings, drive_settings
from app.drives import trial
from app.drives.base import Drive
from app.drives.registry import Drives
from app.errors import BadRequest
from app.models import DriveState


def drives_noted_at_end() -> Drives:
    """Return the drives of the settings; what the command asks of them is noted when it ends, however it does."""
    made = Drives(drive_settings())
    click.get_current_context().call_on_close(partial(asked.note, made))
    return made


def drive_of_choice(name: str | None) -> Drive:
    """Return the drive that is meant; without a name the only one that there is."""
    known = drive_settings()
    if name is None and len(known) > 1:
        raise BadRequest(f"the settings name several drives; say which one with --drive: {', '.join(known)}")
    wanted = name or next(iter(known))
    if wanted not in known:
        raise BadRequest(f"the settings name no drive {wanted!r}; they name {', '.join(known)}")
    return drives_noted_at_end().named(wanted)


@click.group()
def drive() -> None:
    """Drives, by their names in the settings."""


@drive.command("list")
@as_json_option
def list_drives(*, as_json: bool) -> None:
    """List the drives: whether they pause and why, and how much of Microsoft's budget the last minute took."""
    with session_scope() as session:
        paused, asked = pauses.now(session), pauses.requests(session)
    known = drive_settings()
    found = {name: known.get(name) for name in (*known, *sorted(paused.keys() - known.keys()))}
    if as_json:
        put_json([_told(name, chosen, paused.get(name), asked.get(name)) for name, chosen in found.items()])
        return
    for name, chosen in found.items():
        kind = "not set here" if chosen is None else chosen.kind
        click.echo(f"{name:16}  {kind:12}  {_state(paused.get(name))}{_budget(chosen, asked.get(name))}")


def _state(pause: DriveState | None) -> str:
    return "no pause" if pause is None else pauses.sentence(pause)


def _budget(chosen: object, asked: pauses.Asked | None) -> str:
    if not isinstance(chosen, OneDriveSettings):
        return ""
    used = asked or pauses.Asked(0, 0)
    return f"; in the last full minute {used.requests} request(s), {used.units} of {chosen.units_per_minute} units"


def _told(
    name: str, chosen: DriveSettings | None, pause: DriveState | None, asked: pauses.Asked | None
) -> dict[str, Any]:
    """Tell of a drive; `kind` is null for one that pauses and that this machine has no settings for."""
    told: dict[str, Any] = {"name": name, "kind": chosen and chosen.kind, "paused": None}
    if pause is not None:
        told["paused"] = pauses.describe(pause)
    if isinstance(chosen, OneDriveSettings):
        used = asked or pauses.Asked(0, 0)
        told["last_minute"] = {
            "requests": used.requests,
            "units": used.units,
            "units_allowed": chosen.units_per_minute,
        }
    return told


@drive.command("test")
@click.argument("name", required=False)
@as_json_option
def test_drive(*, name: str | None, as_json: bool) -> None:
    """Try what an upload needs, step by step, and clean up; exit code 1 at the first step that fails."""
    steps = list(trial.run(drive_of_choice(name)))
    if as_json:
        put_json([vars(step) for step in steps])
    for step in steps if not as_json else ():
        click.echo(f"{'good' if step.is_good else 'BAD ':4}  {step.name}: {step.message}")
    sys.exit(0 if all(step.is_good for step in steps) else 1)


@drive.command("resume")
@click.argument("name")
@as_json_option
def resume_drive(*, name: str, as_json: bool) -> None:
    """Let a drive that pauses be asked at once, after what was wrong with it has been mended."""
    with session_scope() as session:
        if not pauses.lift(session, name) and name not in drive_settings():
            raise BadRequest(f"there is no drive {name!r} in the settings, and none of that name ever paused")
    if as_json:
        put_json({"name": name})
    else:
        click.echo(f"{name}: what waits for it is taken up now.")


@drive.command("key")
@as_json_option
def make_key(*, as_json: bool) -> None:
    """Make a key for SESSION_KEYS. Put a new one before the old one, and drop that a day later."""
    made = Fernet.generate_key().decode()
    if as_json:
        put_json({"key": made})
    else:
        click.echo(made)
