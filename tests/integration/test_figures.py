"""What an operator is told, from a database where things happen."""

import os
from datetime import timedelta

import psycopg2
import pytest

from app import database, figures, steering, uploads
from app.database import session_scope
from app.figures import Figures, Minute
from app.models import State
from tests.factories import LEASE, attempt_at, make_means, make_upload, set_columns
from tests.installation import CORP, Installation


def gather() -> Figures:
    with session_scope() as session:
        return figures.gather(session)


def throughput() -> list[Minute]:
    with session_scope() as session:
        return list(figures.throughput(session))


def test_nothing_is_told_of_nothing(installation: Installation) -> None:
    found = gather()

    assert found.uploads == {State.STORED: 0}
    assert (found.oldest_waiting, found.since_sweep) == (None, None)
    assert set(found.waiting_by_age.values()) == {0}
    assert throughput() == [Minute(ago, 0, 0) for ago in range(59, -1, -1)]


def test_uploads_are_told_by_state_and_age(installation: Installation) -> None:
    attempt_at(make_upload(installation, name="stored"), make_means(installation))
    for number, age in enumerate(("1 second", "2 minutes", "2 minutes", "20 minutes", "3 hours")):
        waiting = make_upload(installation, name=f"{number}")
        set_columns(installation, waiting, due_at=f"now() - interval '{age}'")

    found = gather()

    assert found.uploads == {State.QUEUED: 5, State.STORED: 1}
    assert list(found.waiting_by_age.values()) == [1, 2, 1, 1]
    assert found.oldest_waiting == pytest.approx(3 * 3600, abs=60)


def oldest_waiting() -> float:
    found = gather().oldest_waiting
    assert found is not None
    return found


def test_an_upload_that_is_retried_waits_anew(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(
        installation,
        upload_id,
        state="'failed'",
        reason="'worn_out'",
        created_at="now() - interval '2 days'",
        due_at="now() - interval '2 days'",
        deadline_at="now() - interval '1 day'",
    )

    with session_scope() as session:
        steering.retry(session, CORP, upload_id)

    assert oldest_waiting() < 60


def test_an_upload_that_is_put_off_again_and_again_waits_since_it_was_first_tried(
    installation: Installation,
) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, deadline_at="now() + interval '21 hours'")

    with session_scope() as session:
        held = uploads.claim(session, upload_id, LEASE, 8)
        assert held is not None
        uploads.give_back(session, held, "drive_unavailable", "away", timedelta(seconds=30))

    assert oldest_waiting() == pytest.approx(3 * 3600, abs=60)


def test_a_transfer_between_two_slices_waits_since_the_last_one(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, deadline_at="now() + interval '1 hour'", transferred="5")

    assert oldest_waiting() < 60

    set_columns(installation, upload_id, due_at="now() - interval '2 hours'")

    assert oldest_waiting() == pytest.approx(2 * 3600, abs=60)


def test_what_was_stored_is_told_by_the_minute(installation: Installation) -> None:
    for name in ("a", "b"):
        attempt_at(make_upload(installation, b"x" * 100, name=name), make_means(installation))
    installation.query(
        "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, at, detail)"
        " SELECT corp_index, id, 'stored', 1, now() - interval '30 minutes', '{\"bytes\": 5}' FROM corporate.uploads"
    )
    installation.query(
        "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, at)"
        " SELECT corp_index, id, 'stored', 1, now() - interval '2 hours' FROM corporate.uploads"
    )

    found = throughput()

    assert len(found) == 60
    assert sum(one.uploads for one in found[-2:]) == 2
    assert sum(one.bytes for one in found[-2:]) == 200
    assert (found[29].uploads, found[29].bytes) == (2, 10)
    assert sum(one.uploads for one in found) == 4


def test_the_throughput_of_an_hour_does_not_read_all_events(installation: Installation) -> None:
    upload_id = make_upload(installation)
    installation.query(
        "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, at)"
        " SELECT 7, %s, 'old', 1, now() - interval '2 days' + n * interval '1 second' FROM generate_series(1, 50000) n",
        str(upload_id),
    )
    installation.query("SELECT brin_summarize_new_values('corporate.ix_upload_events_at')")
    installation.query("ANALYZE corporate.upload_events")

    plan = "\n".join(line for (line,) in installation.query("EXPLAIN " + str(figures._THROUGHPUT)))

    assert "ix_upload_events_at" in plan


def test_a_session_is_told_with_its_process_and_its_tls(installation: Installation) -> None:
    database.play("worker")
    try:
        found = [one for one in gather().connections if one.process == os.getpid()]
    finally:
        database.play("haulage")

    assert [(one.role, one.tls, one.state, one.is_visible) for one in found] == [
        ("worker", "TLSv1.3", "active", True)
    ]
    assert found[0].age is not None
    assert found[0].age >= 0


def test_another_roles_session_is_named_though_not_seen(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = psycopg2.connect(
        installation.environment["DATABASE_URL"], application_name="4711 worker@elsewhere"
    )
    monkeypatch.setenv("DATABASE_URL", installation.environment["WEB_DATABASE_URL"])
    installation.forget_process_state()
    try:
        (found,) = [one for one in gather().connections if one.host == "elsewhere"]
    finally:
        other.close()
        installation.forget_process_state()

    assert (found.process, found.role) == (4711, "worker")
    assert (found.is_visible, found.tls, found.state) == (False, None, None)
