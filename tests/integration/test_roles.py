"""What the roles of web and worker may do, and what they may not."""

import psycopg2
import pytest

from app import catalogue, overdue, readiness, steering, tokens, uploads
from app.database import session_scope
from app.models import State
from app.settings import settings
from tests.factories import ROOT, attempt_at, make_inbox_upload, make_means, make_upload, row
from tests.installation import CORP, Installation


def ask_as(installation: Installation, role: str, statement: str) -> None:
    name = {"web": "WEB_DATABASE_URL", "worker": "DATABASE_URL"}[role]
    connection = psycopg2.connect(installation.environment[name])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def is_refused(installation: Installation, role: str, statement: str) -> bool:
    try:
        ask_as(installation, role, statement)
    except psycopg2.errors.InsufficientPrivilege:
        return True
    return False


@pytest.fixture
def as_web(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("DATABASE_URL", installation.environment["WEB_DATABASE_URL"])
    installation.forget_process_state()
    return installation


FORBIDDEN_TO_THE_WEB = [
    (
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind)"
        " VALUES (7, 'x', '7', 'x', 'x', 'file')"
    ),
    "UPDATE corporate.vmb_items SET child_count = 9",
    "DELETE FROM corporate.vmb_items",
    "DELETE FROM corporate.uploads",
    "UPDATE corporate.uploads SET item_id = '7'",
    "UPDATE corporate.uploads SET sha256 = repeat('a', 64)",
    "UPDATE corporate.uploads SET staged_id = gen_random_uuid()",
    "UPDATE corporate.uploads SET corp_index = 8",
    "UPDATE corporate.uploads SET drive_session = '{}'",
    "UPDATE corporate.uploads SET parent_id = '7', name = 'x'",
    "INSERT INTO corporate.api_tokens VALUES (gen_random_uuid(), 7, 'x', 'x')",
    "UPDATE corporate.api_tokens SET revoked_at = NULL",
    "INSERT INTO corporate.corporations VALUES (9, 'x')",
    "UPDATE corporate.staging_identity SET identity = gen_random_uuid()",
    "DELETE FROM corporate.upload_events",
    "CREATE TABLE corporate.x ()",
    "DROP TABLE corporate.uploads",
    "ALTER TABLE corporate.upload_events DISABLE TRIGGER ALL",
]


def test_the_web_may_not_do_what_is_not_its_work(installation: Installation) -> None:
    allowed = [one for one in FORBIDDEN_TO_THE_WEB if not is_refused(installation, "web", one)]

    assert allowed == []


FORBIDDEN_TO_THE_WORKER = [
    "SELECT * FROM corporate.api_tokens",
    "INSERT INTO corporate.api_tokens VALUES (gen_random_uuid(), 7, 'x', 'x')",
    "INSERT INTO corporate.corporations VALUES (9, 'x')",
    "UPDATE corporate.staging_identity SET identity = gen_random_uuid()",
    "DELETE FROM corporate.uploads",
    "DELETE FROM corporate.vmb_items",
    "UPDATE corporate.upload_events SET kind = 'x'",
    "DELETE FROM corporate.upload_events",
    "UPDATE corporate.alembic_version SET version_num = 'x'",
    "CREATE TABLE corporate.x ()",
    "ALTER TABLE corporate.upload_events DISABLE TRIGGER ALL",
    "SELECT corporate.enqueue_upload(7, 'a.txt')",
]


def test_the_worker_may_not_do_what_is_not_its_work(installation: Installation) -> None:
    allowed = [one for one in FORBIDDEN_TO_THE_WORKER if not is_refused(installation, "worker", one)]

    assert allowed == []


def test_the_web_can_receive_look_cancel_and_retry(as_web: Installation) -> None:
    upload_id = make_upload(as_web, key="k")
    assert make_upload(as_web, key="k") == upload_id
    with session_scope() as session:
        assert catalogue.root_id(session, CORP) == ROOT
        uploads.get(session, CORP, upload_id)
        overdue.mark_woken(session, [upload_id])
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)

    assert row(upload_id).state == State.CANCELLED

    as_web.query("UPDATE corporate.uploads SET state = 'failed'")
    with session_scope() as session:
        steering.retry(session, CORP, upload_id)

    assert row(upload_id).state == State.QUEUED


def test_the_web_can_read_tokens(as_web: Installation) -> None:
    with session_scope() as session, pytest.raises(tokens.Unauthorised):
        tokens.owner(session, f"{tokens.PREFIX}abc{tokens._checksum('abc')}")


def test_the_web_can_use_the_sql_door(as_web: Installation) -> None:
    ask_as(as_web, "web", "SELECT corporate.enqueue_upload(7, 'a.txt')")


@pytest.mark.parametrize("role", ["web", "worker"])
def test_both_can_find_out_whether_they_may_run(
    installation: Installation, role: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if role == "web":
        monkeypatch.setenv("DATABASE_URL", installation.environment["WEB_DATABASE_URL"])
        installation.forget_process_state()

    readiness.check(settings(), 4)

    assert "owner" not in caplog.text


def test_one_role_for_all_works_with_a_warning(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", installation.environment["OWNER_DATABASE_URL"])
    installation.forget_process_state()

    readiness.check(settings(), 4)

    assert "connects as the owner" in caplog.text
    upload_id = make_upload(installation)
    attempt_at(upload_id, make_means(installation))
    assert row(upload_id).state == State.STORED


def test_the_worker_can_do_the_whole_work(installation: Installation) -> None:
    upload_id = make_inbox_upload(installation, "docs/a.txt")

    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
