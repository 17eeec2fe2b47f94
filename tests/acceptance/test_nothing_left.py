"""What a task leaves behind when it ends in the middle: no half-written row, nothing idle in transaction."""

import pytest

from app import intake, queue
from app.staging import Staging
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP

SAMPLE = "tests.acceptance.samples.faulty"
ENDINGS = ["raise", "exit", "hang"]


@pytest.fixture
def faulty(haulage: Haulage) -> Haulage:
    haulage.start_worker(sample=SAMPLE)
    return haulage


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_upload_task_that_ends_in_the_middle_leaves_no_row(faulty: Haulage, ending: str) -> None:
    for when in ("placed", "recorded"):
        staging = Staging(faulty.installation.staging_dir, 2**30, 0)
        upload = intake.accept(staging, intake.destination(CORP, f"{ending} {when}"), staging.put([b"x"]))
        queue.wake([upload.id])

    wait_until(
        lambda: (
            faulty.installation.query(
                "SELECT count(*) FROM corporate.upload_events WHERE kind IN ('set_back', 'given_back')"
            )
            == [(2,)]
        ),
        "both attempts have ended",
    )

    assert faulty.installation.query("SELECT name FROM corporate.vmb_items WHERE parent_id IS NOT NULL") == []
    assert faulty.installation.query("SELECT DISTINCT state FROM corporate.uploads") == [("queued",)]
    assert faulty.left_in_transaction() == set()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_database_task_that_ends_in_the_middle_leaves_no_row(faulty: Haulage, ending: str) -> None:
    queue.celery.send_task(
        queue.RECORD_ITEM,
        [CORP, f"{CORP}/x", str(CORP), ending],
        queue="uploads",
        soft_time_limit=None,  # the worker's own, also where an earlier test has made this process know the task
    )
    marks = {"raise": "as the name says", "exit": "Worker exited", "hang": "Soft time limit (2s) exceeded"}
    wait_until(lambda: marks[ending] in faulty.log(), "the task has ended")
    queue.celery.send_task(queue.RECORD_ITEM, [CORP, f"{CORP}/y", str(CORP), "fine"], queue="uploads")
    wait_until(
        lambda: faulty.installation.query("SELECT 1 FROM corporate.vmb_items WHERE name = 'fine'"),
        "a next task",
    )

    rows = faulty.installation.query("SELECT name, child_count FROM corporate.vmb_items ORDER BY id")
    assert rows == [(str(CORP), 1), ("fine", 0)]
    assert faulty.left_in_transaction() == set()
