"""The doors for other applications: Celery by the task's name, SQL inside a transaction of their own."""

import os
import signal
from uuid import NAMESPACE_URL, uuid5

import psycopg2
import pytest
from celery import Celery
from celery.exceptions import TimeoutError as NotReady

from local import servers as local_servers
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP

NAME = "tasks.uploads.upload_file"


@pytest.fixture
def stranger(haulage: Haulage) -> Celery:
    """A Celery application that knows nothing of ours but the broker and a task's name."""
    redis_url = haulage.installation.environment["REDIS_URL"]
    return Celery("stranger", broker=redis_url, backend=redis_url)


def put_into_inbox(haulage: Haulage, path: str, content: bytes) -> None:
    target = haulage.installation.inbox / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def test_whoever_waits_gets_the_stored_item(haulage: Haulage, stranger: Celery) -> None:
    haulage.start_worker()
    put_into_inbox(haulage, "reports/x.pdf", b"content")

    result = stranger.send_task(NAME, args=[CORP, "reports/x.pdf"], queue="uploads").get(timeout=30)

    upload_id = str(uuid5(uuid5(NAMESPACE_URL, "haulage:task"), f"{CORP}:{result_id(haulage)}"))
    assert result == {
        "id": f"{CORP}/reports/x.pdf",
        "parent_id": f"{CORP}/reports",
        "name": "x.pdf",
        "upload_id": upload_id,
        "state": "stored",
    }
    assert (haulage.installation.drive_dir / result["id"]).read_bytes() == b"content"
    assert (haulage.installation.inbox / "reports/x.pdf").exists(), "the inbox is its owner's"


def result_id(haulage: Haulage) -> str:
    return haulage.installation.query("SELECT task_id FROM corporate.uploads")[0][0]


def test_whoever_waits_for_what_cannot_be_gets_the_reason(haulage: Haulage, stranger: Celery) -> None:
    haulage.start_worker()
    put_into_inbox(haulage, "folder/x", b"")
    (haulage.installation.inbox / "link").symlink_to("/etc/passwd")

    for filename, reason in {
        "missing.pdf": "inbox_file_missing",
        "link": "inbox_file_refused",
        "folder": "inbox_file_refused",
    }.items():
        result = stranger.send_task(NAME, args=[CORP, filename], queue="uploads").get(timeout=30)

        assert (result["state"], result["reason"], result["id"]) == ("failed", reason, None)


def test_an_upload_that_can_have_no_row_is_an_error_of_the_task(haulage: Haulage, stranger: Celery) -> None:
    haulage.start_worker()

    for arguments, says in (
        ([99, "x"], "no corporation 99"),
        ([CORP, "../x"], "is not a name"),
        ([CORP, ""], "is not a name"),
        ([CORP, "x", "99"], "no item with that id"),
    ):
        waiting = stranger.send_task(NAME, args=arguments, queue="uploads")

        with pytest.raises(Exception, match=says):
            waiting.get(timeout=30)
    assert haulage.states() == {}


def test_the_result_comes_from_whichever_process_finishes(haulage: Haulage, stranger: Celery) -> None:
    drive = haulage.installation.drive_dir
    haulage.start_beat()
    haulage.start_worker(RETRY_SECONDS="1")
    put_into_inbox(haulage, "x", b"content")
    (drive / ".haulage").rename(drive / ".elsewhere")  # the drive is not mounted, it seems
    waiting = stranger.send_task(NAME, args=[CORP, "x"], queue="uploads")
    wait_until(
        lambda: (
            haulage.installation.query("SELECT reason FROM corporate.uploads") == [("drive_unavailable",)]
        ),
        "the first attempt is taken back",
    )
    with pytest.raises(NotReady):
        waiting.get(timeout=1)

    (drive / ".elsewhere").rename(drive / ".haulage")
    haulage.system.stop("worker")
    haulage.installation.query("UPDATE corporate.uploads SET due_at = now()")
    haulage.start_worker(name="other")

    assert waiting.get(timeout=30)["state"] == "stored"


def test_a_redelivered_task_is_one_upload(haulage: Haulage, stranger: Celery) -> None:
    haulage.start_worker()
    put_into_inbox(haulage, "x", b"content")

    for _ in range(5):
        stranger.send_task(NAME, args=[CORP, "x"], queue="uploads", task_id="the-same").get(timeout=30)

    assert haulage.states() == {"stored": 1}
    assert haulage.attempts() == [1]


def test_a_transaction_of_another_application_decides_over_its_upload(haulage: Haulage) -> None:
    haulage.start_beat()
    haulage.start_worker()
    for name in ("kept", "dropped"):
        put_into_inbox(haulage, name, name.encode())
    connection = psycopg2.connect(haulage.installation.environment["WEB_DATABASE_URL"])
    try:
        for name, decide in (("dropped", connection.rollback), ("kept", connection.commit)):
            connection.cursor().execute("SELECT corporate.enqueue_upload(%s, %s)", (CORP, name))
            decide()
    finally:
        connection.close()

    haulage.wait_until_stored(1)

    assert [path.name for path in (haulage.installation.drive_dir / str(CORP)).iterdir()] == ["kept"]


def test_messages_wait_for_a_postgresql_that_is_away(haulage: Haulage, stranger: Celery) -> None:
    number = 12
    haulage.start_beat()
    haulage.start_worker()
    servers = haulage.installation.servers
    for one in range(number):
        put_into_inbox(haulage, f"{one}", b"content")

    os.kill(local_servers.known(servers).postgres_pid, signal.SIGINT)  # PostgreSQL's fast shutdown
    waiting = [stranger.send_task(NAME, args=[CORP, f"{one}"], queue="uploads") for one in range(number)]
    wait_until(lambda: "this task waits" in haulage.log(), "a task has met a PostgreSQL that is away")
    local_servers.restart_postgres(servers)

    assert [one.get(timeout=60)["state"] for one in waiting] == ["stored"] * number
