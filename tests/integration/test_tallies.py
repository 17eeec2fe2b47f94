"""What happened is added up exactly, whenever somebody asks and however transactions overlap."""

import re
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

import psycopg2
import psycopg2.extensions
import pytest

from app import tallies
from app.database import session_scope
from local.home import PROJECT
from tests.factories import DriveDouble, attempt_at, claimed, expire_lease, make_means, make_upload, race, row
from tests.installation import Installation


@pytest.fixture
def other(installation: Installation) -> Iterator[psycopg2.extensions.connection]:
    """A session whose transaction stays open."""
    opened = psycopg2.connect(installation.environment["DATABASE_URL"])
    yield opened
    opened.close()


def total(what: str, drive: str = "") -> int:
    with session_scope() as session:
        return tallies.totals(session).get((what, drive), 0)


def totals() -> Mapping[tuple[str, str], int]:
    with session_scope() as session:
        return tallies.totals(session)


def fold() -> bool:
    with session_scope() as session:
        return tallies.fold(session)


def note(opened: psycopg2.extensions.connection, upload_id: UUID, kind: str) -> None:
    with opened.cursor() as cursor:
        cursor.execute(
            "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt) VALUES (7, %s, %s, 0)",
            (str(upload_id), kind),
        )


def test_what_happened_counts_at_once_and_after_folding(installation: Installation) -> None:
    for _ in range(3):
        make_upload(installation)
    before = total("queued")

    fold()

    assert (before, total("queued")) == (3, 3)
    assert installation.query("SELECT amount FROM corporate.tallies WHERE what = 'queued'") == [(3,)]
    fold()
    make_upload(installation)
    assert total("queued") == 4


def test_a_stored_upload_counts_its_bytes_and_its_time(installation: Installation) -> None:
    attempt_at(make_upload(installation, b"x" * 1000), make_means(installation))

    assert (total("stored", "filesystem"), total("bytes", "filesystem")) == (1, 1000)
    assert 0 < total("milliseconds", "filesystem") < 60_000
    fold()
    assert (total("stored", "filesystem"), total("bytes", "filesystem")) == (1, 1000)


def test_a_transaction_that_commits_late_is_not_left_out(
    installation: Installation, other: psycopg2.extensions.connection
) -> None:
    upload_id = make_upload(installation)
    note(other, upload_id, "late")
    note_of_another = make_upload(installation)

    fold()
    other.commit()

    assert (total("late"), total("queued")) == (1, 2)
    fold()
    assert (total("late"), total("queued")) == (1, 2)
    assert row(note_of_another).state == "queued"


def test_control_a_horizon_at_the_newest_event_leaves_it_out(
    installation: Installation, other: psycopg2.extensions.connection
) -> None:
    upload_id = make_upload(installation)
    note(other, upload_id, "late")
    make_upload(installation)

    installation.query(
        "UPDATE corporate.tally_horizon SET xid = (SELECT max(xid::text::bigint) + 1 FROM corporate.upload_events)::text::xid8"
    )
    other.commit()

    assert total("late") == 0


def test_many_folds_at_once_count_each_event_once(installation: Installation) -> None:
    for _ in range(20):
        make_upload(installation)

    assert set(race([fold] * 4)) == {False}
    fold()

    assert total("queued") == 20


def test_a_long_past_is_folded_a_part_at_a_time(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "FOLDED_AT_A_TIME", 3)
    for _ in range(10):
        make_upload(installation)

    folds = 1
    while fold():
        assert total("queued") == 10
        folds += 1

    assert folds > 2
    assert total("queued") == 10


def test_a_horizon_that_is_yet_to_come_counts_nothing_twice(installation: Installation) -> None:
    """A dump restored into a new cluster brings one."""
    make_upload(installation)
    installation.query("UPDATE corporate.tally_horizon SET xid = '1000000000'")

    assert not fold()
    assert total("queued") == 0


def after_a_restore(installation: Installation) -> None:
    """Do what the page on this decision says."""
    (page,) = (PROJECT / "docs" / "decisions").glob("0012-*.md")
    (script,) = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    installation.query(script)


def test_after_a_restore_everything_counts_once(installation: Installation) -> None:
    """The dump brings folded events, one that was not, and a horizon; all of transactions that are yet to come here."""
    upload_id = make_upload(installation)
    for kind, xid in (("old", 10**9), ("old", 10**9 + 1), ("late", 10**9 + 5)):
        installation.query(
            "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, xid)"
            " VALUES (7, %s, %s, 0, %s::text::xid8)",
            str(upload_id),
            kind,
            xid,
        )
    installation.query("INSERT INTO corporate.tallies VALUES ('old', '', 2), ('wake_ups', '', 5)")
    installation.query(f"UPDATE corporate.tally_horizon SET xid = '{10**9 + 3}'")
    make_upload(installation)  # before anybody sees to it

    after_a_restore(installation)

    wanted = {("queued", ""): 2, ("old", ""): 2, ("late", ""): 1, ("wake_ups", ""): 5}
    assert totals() == wanted
    fold()
    assert totals() == wanted
    make_upload(installation)
    fold()
    assert totals() == wanted | {("queued", ""): 3}


def test_when_the_new_cluster_has_caught_up_everything_still_counts_once(installation: Installation) -> None:
    upload_id = make_upload(installation)
    installation.query(
        "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, xid) SELECT 7, %s, 'old', 0,"
        " (pg_current_xact_id()::text::bigint + n)::text::xid8 FROM generate_series(1, 30) n",
        str(upload_id),
    )

    for _ in range(31):  # transactions of this cluster pass them, one after the other
        installation.query("SELECT pg_current_xact_id()")
        fold()
        assert total("old") == 30

    assert installation.query("SELECT amount FROM corporate.tallies WHERE what = 'old'") == [(30,)]


def test_an_attempt_that_was_fenced_counts(installation: Installation) -> None:
    upload_id = make_upload(installation)

    def put(real: Callable[..., int], *arguments: object) -> int:
        expire_lease(installation, upload_id)
        claimed(upload_id)  # by another worker
        return real(*arguments)

    drive = DriveDouble(installation, put=put)
    attempt_at(upload_id, make_means(installation, drive=drive))

    assert (total("fenced"), total("transferring")) == (1, 2)


def test_wake_ups_are_added(installation: Installation) -> None:
    def add() -> None:
        with session_scope() as session:
            tallies.add_wake_ups(session, 5)

    assert race([add] * 8) == [None] * 8

    assert total(tallies.WAKE_UPS) == 40
