"""The `haulage` command."""

import logging
import os
import sys

import click

from app import database
from app.cli import admin, doctor, drives, health, look, send, steer
from app.cli.shown import put_json, without_secrets
from app.diagnosis.findings import first_line
from app.errors import HaulageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="haulage")
def haulage() -> None:
    """Move files into a drive and catalogue them in PostgreSQL, once."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    database.play("command", pool_size=2)


for command in (
    *send.COMMANDS,
    *look.COMMANDS,
    *steer.COMMANDS,
    *doctor.COMMANDS,
    *health.COMMANDS,
    drives.drive,
    *admin.COMMANDS,
):
    haulage.add_command(command)


def main() -> None:
    """Run the command; what is wrong is told in one sentence, with exit code 2 for what the caller can mend."""
    try:
        haulage(standalone_mode=True)
    except HaulageError as error:
        if "--json" in sys.argv:
            put_json({"error": {"code": error.code, "message": str(error)}})
        click.echo(f"haulage: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        if not database.is_passing(error):
            raise
        away = "PostgreSQL cannot be reached, or refuses the connection; is DATABASE_URL right?"
        held_up = "somebody else's transaction is in the way; try again in a moment"
        click.echo(f"haulage: {away if database.is_out_of_reach(error) else held_up}", err=True)
        click.echo(f"  {without_secrets(first_line(error))}", err=True)
        sys.exit(os.EX_TEMPFAIL)
    finally:
        database.dispose()
