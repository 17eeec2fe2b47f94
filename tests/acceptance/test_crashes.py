"""A worker that is killed at any point of a file's way: the file is stored once, or failed with nothing half-made left."""

import hashlib
import os
from collections.abc import Iterator

import pytest
import redis

from app import queue
from local.servers import Servers
from local.system import System
from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.crashing import (
    ACKNOWLEDGEMENT,
    DISK_POINTS,
    FRAGMENT,
    LIBRARY_POINTS,
    MOST_ATTEMPTS,
    SIZE,
    House,
    Scene,
)
from tests.graph.launch import running
from tests.installation import CORP, LIBRARY_CORP, fresh_installation, make_database, with_library

UNSAVED, SAVED, MIDDLE, UNANSWERED, UNCOMMITTED, UNACKNOWLEDGED = LIBRARY_POINTS
POINTS = [(LIBRARY_CORP, point) for point in LIBRARY_POINTS] + [(CORP, point) for point in DISK_POINTS]
SAMPLE = [(LIBRARY_CORP, UNSAVED), (LIBRARY_CORP, MIDDLE), (LIBRARY_CORP, UNANSWERED), (CORP, UNCOMMITTED)]
BEFORE_THE_ANSWER = [one for one in POINTS if one[1] in (*LIBRARY_POINTS[:4], *DISK_POINTS[:4])]


def cases(points: list[tuple[int, str]], sample: list[tuple[int, str]]) -> list[object]:
    def name(corp_index: int, point: str) -> str:
        return f"{'library' if corp_index == LIBRARY_CORP else 'disk'}: {point}"

    return [
        pytest.param(*one, id=name(*one), marks=() if one in sample else pytest.mark.prove) for one in points
    ]


@pytest.fixture(scope="module")
def running_house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("crashes")
    installation = fresh_installation(servers, make_database(servers), folder)
    for name in ("graph", "logs", "stops"):
        (folder / name).mkdir()
    with running("--resource-units=0", folder=folder / "graph") as simulator:
        installation = with_library(installation, simulator)
        # A lease that never ends by itself: it is over when a test says so, so that no slow machine decides anything.
        environment = (
            os.environ | installation.environment | {"LEASE_SECONDS": "300", "PYTHONUNBUFFERED": "1"}
        )
        haulage = Haulage(installation, System(folder, environment, folder / "logs"))
        made = House(haulage, simulator, folder / "stops")
        made.hold_commits()
        haulage.start_beat()
        made.start_worker()
        yield made
        haulage.kill_all()


@pytest.fixture
def house(running_house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    installation = running_house.haulage.installation
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    installation.forget_process_state()
    yield running_house
    installation.forget_process_state()


def go_on(scene: Scene, point: str) -> None:
    """Let the next attempt come. Where a session was lost it meets the name held, and waits: see what that costs."""
    if (scene.corp_index, point) == (LIBRARY_CORP, UNSAVED):
        for _ in range(2):
            held = scene.events("transferring")
            scene.wake()
            wait_until(lambda held=held: scene.events("transferring") > held, "it was tried")
            scene.wait_until("queued")
        assert scene.column("reason", "attempts") == ("drive_item_busy", scene.kills)
        assert scene.column("due_at > now() + interval '20 seconds'")
        scene.house.simulator.control("POST sessions/expire", name=scene.name)


def assert_stored_once(scene: Scene) -> None:
    scene.wait_until("stored")
    assert scene.in_drive() == [hashlib.sha256(scene.content).hexdigest()]
    assert (scene.items(), scene.events("stored"), scene.miscounted()) == (1, 1, [])
    assert "open" not in {one["state"] for one in scene.sessions()}
    scene.house.haulage.installation.query(
        "UPDATE corporate.uploads SET cleanup_due_at = now() WHERE id = %s AND cleanup_due_at IS NOT NULL",
        str(scene.id),
    )
    queue.celery.send_task(queue.CLEAN_UP, queue=queue.Queue.UPKEEP.value)
    wait_until(lambda: scene.column("staged_id") is None, "its traces are gone")
    assert scene.drafts() == []


@pytest.mark.parametrize(("corp_index", "point"), cases(POINTS, SAMPLE))
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.prove)])
def test_a_worker_killed_stores_the_file_once(house: House, corp_index: int, point: str, times: int) -> None:
    scene = house.hand_in(corp_index)

    for _ in range(times):
        scene.kill_at(point)
        go_on(scene, point)
    scene.wake()

    assert_stored_once(scene)
    if point == ACKNOWLEDGEMENT:
        assert scene.column("attempts") == 1, "a message that comes again finds nothing to do"
        return
    assert scene.column("attempts") == times + 1
    if corp_index == LIBRARY_CORP:
        assert scene.sent_twice() <= (times * FRAGMENT if point == MIDDLE else 0)
        assert (scene.sent_twice() > 0) == (point == MIDDLE)


@pytest.mark.prove
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("point", [SAVED, UNANSWERED, UNCOMMITTED])
def test_the_same_for_a_file_of_one_request(house: House, point: str, times: int) -> None:
    scene = house.hand_in(LIBRARY_CORP, 100_000)

    for _ in range(times):
        scene.kill_at(point)
    scene.wake()

    assert_stored_once(scene)
    assert scene.column("attempts") == times + 1


@pytest.mark.parametrize(("corp_index", "point"), cases(BEFORE_THE_ANSWER, []))
def test_a_worker_killed_always_fails_and_leaves_nothing_half_made(
    house: House, corp_index: int, point: str
) -> None:
    scene = house.hand_in(corp_index)

    for _ in range(MOST_ATTEMPTS - 1):
        scene.kill_at(point)
        go_on(scene, point)
    scene.kill_at(point)
    scene.wake()

    scene.wait_until("failed")
    assert scene.column("reason", "attempts") == ("worn_out", MOST_ATTEMPTS)
    wait_until(lambda: scene.column("cleanup_due_at") is None, "it is cleaned up")
    assert (scene.in_drive(), scene.items(), scene.miscounted(), scene.drafts()) == ([], 0, [], [])
    assert scene.column("drive_session", "reserved_name") == (None, None)
    assert len(scene.staged()) == 1, "what a retry needs"
    half_made = {one["kept"] for one in scene.sessions() if one["state"] == "open"}
    # Nobody knows the address of one that was not saved: it holds nothing, and ends by itself.
    assert half_made == ({0} if (corp_index, point) == (LIBRARY_CORP, UNSAVED) else set())

    house.simulator.control("POST sessions/expire", name=scene.name)
    house.haulage.system.run("retry", str(scene.id), "--corp", str(corp_index))
    queue.wake([scene.id])  # and no more: a sweep may have been first, and its claim would be taken away
    assert_stored_once(scene)


@pytest.mark.prove
def test_without_saved_sessions_a_killed_worker_loses_its_upload_to_a_session_that_nobody_knows(
    house: House,
) -> None:
    """The control: what the first test would find if the session were not saved before the first byte."""
    house.kill_worker()
    house.start_worker(sample="tests.acceptance.samples.forgetful")
    scene = house.hand_in(LIBRARY_CORP)
    try:
        scene.kill_at(MIDDLE)
        go_on(scene, UNSAVED)

        assert scene.sent_twice() + SIZE == 500_000, "it was sent for nothing"
    finally:
        house.kill_worker()
        house.start_worker()
    scene.wake()
    assert_stored_once(scene)


@pytest.mark.prove
def test_a_message_that_nobody_acknowledged_is_still_there(house: House) -> None:
    """What the last point stands for: Redis would give it out again after an hour."""
    scene = house.hand_in(CORP)
    broker = redis.Redis.from_url(house.haulage.installation.servers.redis_url)
    before = broker.hlen("unacked")

    scene.kill_at(ACKNOWLEDGEMENT)

    assert broker.hlen("unacked") > before
    queue.wake([scene.id])
    assert_stored_once(scene)
