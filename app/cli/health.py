"""The command `health`: whether the worker on this host, or beat, makes progress; for whatever restarts what does not.

A ping proves little: a worker that has gone deaf to its queues still answers it. So what counts is what has been done, as
PostgreSQL saw it, and whether anything waits to be done. What cannot be told is no reason to restart anything.
"""

import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import click
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError

from app import database, figures, queue
from app.cli.shown import as_json_option, put_json, without_secrets
from app.database import session_scope
from app.diagnosis import broker
from app.diagnosis.findings import first_line
from app.models import UpkeepRun
from app.queue import Queue
from app.settings import settings

SILENCE_SECONDS = 120  # of a worker; a child that works speaks to PostgreSQL every third of the lease
PAUSE_SECONDS = 60  # between two sweeps, or ten times their interval
NAME_BYTES = 63  # of a PostgreSQL session; a host's name is cut short where it has no more room
LOOKS = 10  # a second apart: a queue is empty and full by turns, so one look proves nothing


@click.group()
def health() -> None:
    """Say whether a process makes progress. Exit code 0 if it does, or if that cannot be told; 1 if it does not."""


@health.command()
@click.option(
    "-Q",
    "--queues",
    default=",".join(Queue),
    show_default=True,
    help="Those that they read, as the worker's own -Q has them.",
)
@as_json_option
def worker(*, queues: str, as_json: bool) -> None:
    """The workers on this host: ill if messages wait while none of their children does anything."""
    limit = max(SILENCE_SECONDS, settings().lease_seconds)
    is_ill = partial(_ill_worker, [one.strip() for one in queues.split(",")])
    _tell(is_ill, f"messages wait, and no child has spoken to PostgreSQL for {limit} s", as_json=as_json)


@health.command()
@as_json_option
def beat(*, as_json: bool) -> None:
    """Beat: ill if there was no sweep, and none waits for a worker either."""
    pause = _longest_pause().total_seconds()
    _tell(_ill_beat, f"there was no sweep for {pause:.0f} s, and none is waiting", as_json=as_json)


def _tell(is_ill: Callable[[], bool], why: str, *, as_json: bool) -> None:
    try:
        ill = _every_time(is_ill)
    except (SQLAlchemyError, *queue.UNREACHABLE) as error:
        if isinstance(error, SQLAlchemyError) and not database.is_passing(error):
            raise
        _say(None, f"cannot be told: {without_secrets(first_line(error))}", as_json=as_json)
        return
    _say(not ill, why if ill else "makes progress", as_json=as_json)
    sys.exit(1 if ill else 0)


def _say(healthy: bool | None, why: str, *, as_json: bool) -> None:
    if as_json:
        put_json({"healthy": healthy, "why": why})
    else:
        click.echo(why)


def _every_time(is_ill: Callable[[], bool]) -> bool:
    for look in range(LOOKS):
        if look:
            time.sleep(1)
        if not is_ill():
            return False
    return True


def _ill_worker(queues: Sequence[str]) -> bool:
    return _wait_in(queues) and _is_silent()


def _wait_in(queues: Sequence[str]) -> bool:
    with broker.connected(settings().redis_url) as connection:
        return any(connection.default_channel.client.llen(one) for one in queues)


def _is_silent() -> bool:
    """True unless a child of a worker on this host has used its PostgreSQL session a short while ago."""
    with session_scope() as session:
        found = figures.connections(session)
    ages = [one.state_age for one in found if one.role == "worker" and _is_here(one)]
    limit = max(SILENCE_SECONDS, settings().lease_seconds)
    return not any(age is not None and age < limit for age in ages)


def _is_here(session: figures.Connection) -> bool:
    host, name = socket.gethostname(), f"{session.process} {session.role}@{session.host}"
    is_cut = len(name.encode()) >= NAME_BYTES
    return bool(session.host) and (host.startswith(session.host) if is_cut else host == session.host)


def _ill_beat() -> bool:
    return not queue.waiting(Queue.UPKEEP) and not _swept()


def _swept() -> bool:
    with session_scope() as session:
        ran = session.get(UpkeepRun, queue.SWEEP)
        return ran is not None and ran.ran_at > session.scalar(func.clock_timestamp()) - _longest_pause()


def _longest_pause() -> timedelta:
    return timedelta(seconds=max(PAUSE_SECONDS, 10 * settings().sweep_seconds))


COMMANDS = (health,)
