"""Scaled by adding workers, watched with Flower, frugal with PostgreSQL's sessions."""

import base64
import json
import urllib.request

import pytest

from app import queue
from local import system
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP

SLOW = "tests.acceptance.samples.slow"


def ask_flower(url: str, path: str, password: str) -> dict:
    request = urllib.request.Request(
        f"{url}{path}", headers={"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_second_worker_takes_its_part_and_flower_shows_both(haulage: Haulage) -> None:
    password = f"haulage:{system.new_password()}"
    flower = haulage.system.start_flower(system.free_port(), password)
    haulage.start_beat()
    haulage.start_worker(name="first", sample=SLOW, PUT_SECONDS="0.3")
    uploads = haulage.hand_in(30)
    wait_until(lambda: haulage.states().get("stored", 0) > 3, "the first worker works")

    haulage.start_worker(name="second", sample=SLOW, PUT_SECONDS="0.3")
    haulage.wait_until_stored(len(uploads))

    second = {process.pid for process in haulage.children("second")}
    served = {int(one.split("@")[0]) for users in haulage.served_by().values() for one in users}
    assert served & second
    assert haulage.problems() == []
    workers = ask_flower(flower, "/api/workers?refresh=1", password)
    assert {name.split("@")[0] for name in workers} == {"first", "second"}
    tasks = ask_flower(flower, "/api/tasks", password).values()
    shown = {
        task["args"] for task in tasks if task["name"] == queue.TRANSFER_UPLOAD and task["state"] == "SUCCESS"
    }
    assert any(str(uploads[-1]) in arguments for arguments in shown)
    assert "tasks.upkeep.sweep" not in {task["name"] for task in tasks}


def test_flower_does_not_start_without_a_password(haulage: Haulage) -> None:
    haulage.system.start(
        "flower", system.BIN / "celery", "-A", "tasks.worker", "flower", f"--port={system.free_port()}"
    )

    assert haulage.system.processes.pop("flower").wait(30) != 0
    assert "Flower must have a password" in haulage.log("flower")


@pytest.mark.parametrize("tasks", [500, pytest.param(2000, marks=pytest.mark.prove)])
def test_many_tasks_open_no_more_sessions_than_their_children_need(haulage: Haulage, tasks: int) -> None:
    recycled_after, children = 100, 2
    haulage.start_worker("--max-tasks-per-child", str(recycled_after))
    before = haulage.server_log().count("connection authorized: user=haulage_worker")
    with queue.celery.connection_for_write() as connection:
        for number in range(tasks):
            arguments = [CORP, f"{CORP}/{number}", str(CORP), f"file {number}"]
            queue.celery.send_task(queue.RECORD_ITEM, arguments, queue="uploads", connection=connection)

    def recorded() -> int:
        return haulage.installation.query(
            "SELECT child_count FROM corporate.vmb_items WHERE parent_id IS NULL"
        )[0][0]

    wait_until(lambda: recorded() == tasks, "all items are recorded", tell=recorded)

    opened = haulage.server_log().count("connection authorized: user=haulage_worker") - before
    generations = tasks // recycled_after + children
    assert opened <= generations + 5, (
        "one session for each child that ever lived; the heartbeat's was not needed"
    )
    assert haulage.problems() != [], "the check from outside does see that these files are not in the drive"
    counted = haulage.installation.query(
        "SELECT count(*) FROM corporate.vmb_items WHERE parent_id = %s", str(CORP)
    )
    assert counted == [(tasks,)]
