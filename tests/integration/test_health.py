"""Whether `haulage health` tells a process that makes progress from one that does not. The sessions are real."""

import os
import socket
from contextlib import closing

import psycopg2
import pytest
import redis
from click.testing import CliRunner, Result

from app import queue
from app.cli import health
from app.cli.main import haulage
from tests.installation import Installation


def ask(*what: str) -> Result:
    return CliRunner().invoke(haulage, ["health", *what])


@pytest.fixture
def impatient(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOKS", 2)
    monkeypatch.setattr(health, "SILENCE_SECONDS", 0)  # then the lease of three seconds counts


@pytest.fixture
def session(installation: Installation) -> psycopg2.extensions.connection:
    """The session of a worker's child on this host, which spoke just now and says nothing more."""
    name = f"{os.getpid()} worker@{socket.gethostname()}"[:63]
    with closing(
        psycopg2.connect(installation.environment["DATABASE_URL"], application_name=name)
    ) as connection:
        connection.autocommit = True
        connection.cursor().execute("SELECT 1")
        yield connection


def push(installation: Installation, name: str) -> None:
    redis.Redis.from_url(installation.environment["REDIS_URL"]).lpush(name, "{}")


def test_a_worker_with_nothing_to_do_is_well(installation: Installation) -> None:
    done = ask("worker")

    assert (done.exit_code, done.output) == (0, "makes progress\n")


@pytest.mark.parametrize("name", ["uploads", "resume", "upkeep"])
def test_a_worker_is_ill_while_messages_wait_and_it_does_nothing(
    installation: Installation, impatient: None, name: str
) -> None:
    push(installation, name)

    done = ask("worker")

    assert done.exit_code == 1
    assert "messages wait" in done.output


def test_a_worker_that_spoke_just_now_is_well_though_messages_wait(
    installation: Installation, session: psycopg2.extensions.connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOKS", 2)
    push(installation, "uploads")

    assert ask("worker").exit_code == 0

    monkeypatch.setattr(health.socket, "gethostname", lambda: "elsewhere")
    assert ask("worker").exit_code == 1, "the children of other hosts do not count"


def test_a_worker_that_spoke_long_ago_is_ill(
    installation: Installation, impatient: None, session: psycopg2.extensions.connection
) -> None:
    push(installation, "uploads")
    installation.look("SELECT pg_sleep(3.5)")  # longer than this installation's lease

    assert ask("worker").exit_code == 1


def test_a_worker_is_judged_by_the_queues_that_it_reads(installation: Installation, impatient: None) -> None:
    push(installation, "uploads")
    assert ask("worker", "-Q", "letters").exit_code == 0, "others have to see to that"

    push(installation, "letters")
    assert ask("worker", "-Q", "resume,letters").exit_code == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "code"),
    [
        ("node1", "node10", 1),
        ("node10", "node1", 1),
        ("node1", "node1", 0),
        (f"a{'b' * 70}", f"a{'b' * 70}", 0),
        (f"a{'b' * 70}", "a", 1),
    ],
)
def test_only_sessions_of_this_host_count(  # noqa: PLR0913, PLR0917  parameters and fixtures
    installation: Installation,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    theirs: str,
    ours: str,
    code: int,
) -> None:
    monkeypatch.setattr(health, "SILENCE_SECONDS", 120)
    monkeypatch.setattr(health.socket, "gethostname", lambda: ours)
    push(installation, "uploads")
    name = f"{os.getpid()} worker@{theirs}"[:63]

    with closing(psycopg2.connect(installation.environment["DATABASE_URL"], application_name=name)):
        assert ask("worker").exit_code == code


def test_a_password_that_was_taken_for_a_host_is_not_told(
    installation: Installation, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(installation, "uploads")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:beginning@ending@127.0.0.1/db?sslmode=disable")
    installation.forget_process_state()

    done = ask("worker")

    assert done.exit_code == 0
    assert "cannot be told" in done.output
    assert "***" in done.output
    assert "ending" not in done.output


def test_who_is_held_up_is_not_restarted(installation: Installation, impatient: None) -> None:
    with closing(psycopg2.connect(installation.environment["OWNER_DATABASE_URL"])) as busy:
        busy.cursor().execute("LOCK TABLE corporate.upkeep_runs IN ACCESS EXCLUSIVE MODE")
        done = ask("beat")

    assert (done.exit_code, done.output.partition(":")[0]) == (0, "cannot be told")


def test_beat_is_ill_if_no_sweep_ran_and_none_waits(installation: Installation, impatient: None) -> None:
    assert ask("beat").exit_code == 1

    push(installation, "upkeep")
    assert ask("beat").exit_code == 0, "it is the workers that do not take it"


def test_beat_is_well_while_sweeps_run(installation: Installation, impatient: None) -> None:
    ran = "INSERT INTO corporate.upkeep_runs VALUES (%s, now() - %s::interval)"
    installation.query(ran, queue.SWEEP, "50 seconds")
    assert ask("beat").exit_code == 0

    installation.query("UPDATE corporate.upkeep_runs SET ran_at = now() - interval '61 seconds'")
    assert ask("beat").exit_code == 1


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("what", ["worker", "beat"])
def test_what_cannot_be_told_is_no_illness(
    installation: Installation, impatient: None, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    push(installation, "uploads")
    scheme = installation.environment[name].partition(":")[0]
    monkeypatch.setenv(name, f"{scheme}://nobody:secret@127.0.0.1:1/0")
    monkeypatch.setattr(queue.celery.conf, "broker_url", os.environ["REDIS_URL"])
    installation.forget_process_state()
    queue._drop()

    done = ask(what)

    queue._drop()
    assert (done.exit_code, done.output.partition(":")[0]) == (0, "cannot be told")
    assert "secret" not in done.output
