"""`haulage doctor --pid`, against real workers of small foreign projects, and against our own."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import make_url

from app import forkdoctor
from local.servers import Servers
from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.evidence import crossing
from tests.acceptance.foreign import examine_until, project
from tests.acceptance.test_doctor_app import sample

CAN_BE_SEEN = ("weak_receiver", "scoped_session", "flask_sqlalchemy", "dispose_without_closing")


def plaintext(servers: Servers) -> str:
    url = make_url(servers.owner_url).set(query={"sslmode": "disable"})
    return url.render_as_string(hide_password=False)


def examine(pid: int, servers: Servers, seconds: float = 1) -> dict[str, Any]:
    """Let a copy of the one file look, as an engineer on a server would; return what it says, and its exit code."""
    port = str(make_url(servers.owner_url).port)
    command = [sys.executable, "-I", forkdoctor.__file__, str(pid), "--port", port, "--seconds", str(seconds)]
    ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return {"ended": ended.returncode, **forkdoctor.json.loads(ended.stdout)}


def holders(inode: int, pids: list[int]) -> set[int]:
    """Return who has this socket among its files, whether or not it is connected to anything."""
    held = {pid: list(Path(f"/proc/{pid}/fd").iterdir()) for pid in pids}
    return {
        pid
        for pid, files in held.items()
        if f"socket:[{inode}]" in {link for file in files for link in target(file)}
    }


def target(file: Path) -> list[str]:
    try:
        return [str(file.readlink())]
    except FileNotFoundError:
        return []


def test_a_connection_that_two_children_use_in_turn_is_the_fault_at_work(
    tmp_path: Path, servers: Servers
) -> None:
    broken = project("import_query", tmp_path, servers, url=plaintext(servers))
    with broken.worker() as worker:
        broken.send(2)
        wait_until(lambda: len(broken.ran) == 2, "both children are at work")

        for _ in range(20):  # on a busy machine both may run in every moment that is looked at
            found = examine(worker.pid, servers, seconds=2)
            (shared,) = found["shared"]
            assert set(shared["used_by"]) <= broken.ran, "never the parent"
            if found["verdict"] == "used by several":
                break

        assert (found["verdict"], found["ended"]) == ("used by several", 1)
        assert set(shared["holders"]) == broken.ran | {worker.pid}
        first = min(psutil.Process(pid).create_time() for pid in broken.ran)
        since = time.mktime(time.strptime(shared["since"], "%Y-%m-%d %H:%M:%S"))
        assert abs(since - first) < 5
        (broken.root / "stop").touch()


@pytest.mark.parametrize(
    "name", ["weak_receiver", *(pytest.param(name, marks=pytest.mark.prove) for name in CAN_BE_SEEN[1:])]
)
def test_what_crossed_the_fork_and_lies_idle_is_seen(name: str, tmp_path: Path, servers: Servers) -> None:
    broken = sample(name, tmp_path, servers)
    with broken.worker() as worker:
        found = examine(worker.pid, servers)
        children = {child.pid for child in worker.children()}

    assert (found["verdict"], found["ended"]) == ("idle", 1)
    assert {pid for shared in found["shared"] for pid in shared["holders"]} == children | {worker.pid}


@pytest.mark.parametrize("_again", range(3))
def test_a_fault_that_comes_and_heals_while_it_watches_is_told(
    _again: int, tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, port = project("weak_receiver", tmp_path, servers), make_url(servers.owner_url).port
    with broken.worker() as worker:
        shared_at_first = crossing(worker.pid, port)
        (inode,) = shared_at_first[worker.pid]

        def has_healed() -> bool:
            broken.send(20)
            return holders(inode, list(shared_at_first)) == {worker.pid}

        report = examine_until(worker.pid, port, lambda: None, has_healed, monkeypatch)
        children = {child.pid for child in worker.children()}
        log = (broken.root / "worker.log").read_text()
        after = examine(worker.pid, servers)

    assert len(shared_at_first) == 3
    assert "OperationalError" in log, "the fault was there"
    assert (report.verdict, report.exit_code) == ("happened", 1), report.as_text()
    (shared,) = report.shared
    assert set(shared["let_go"]) == children
    assert shared["held_still_by"] == [worker.pid]
    assert "THE FAULT HAS HAPPENED" in report.as_text()
    assert (after["verdict"], after["ended"]) == ("nothing shared", 0), "from now on nobody can tell"
    assert "in a broken one once the fault has come and healed" in after["meaning"]


def test_children_that_come_and_go_in_a_sound_worker_are_not_blamed(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, port = project("forksafe_copied", tmp_path, servers), make_url(servers.owner_url).port
    with sound.worker("--max-tasks-per-child", "1") as worker:
        report = examine_until(
            worker.pid, port, lambda: sound.send(12), lambda: len(sound.ran) >= 10, monkeypatch
        )

    assert (report.verdict, report.exit_code) == ("nothing shared", 0), report.as_text()
    assert report.connections >= 1, "its parent is careless, and was at every fork"


@pytest.mark.parametrize("name", ["lazy_engine", pytest.param("forksafe_copied", marks=pytest.mark.prove)])
def test_a_sound_worker_at_its_work_shares_nothing(name: str, tmp_path: Path, servers: Servers) -> None:
    sound = project(name, tmp_path, servers)
    with sound.worker() as worker:
        before = examine(worker.pid, servers)
        sound.send(6)
        # This is also the control of every `ran == set()`: these messages do run where a worker reads their queue.
        wait_until(lambda: sound.ran, "its tasks run")
        wait_until(lambda: examine(worker.pid, servers)["connections"], "a child has a connection")
        after = examine(worker.pid, servers)

    if name == "lazy_engine":
        assert (before["verdict"], before["ended"]) == ("nothing to judge", 2), "which is not to say: healthy"
    assert (after["verdict"], after["ended"]) == ("nothing shared", 0)


def test_our_own_worker_shares_nothing_though_its_parent_is_careless(
    haulage: Haulage, tmp_path: Path
) -> None:
    haulage.hand_in(4)
    haulage.start_beat()
    haulage.start_worker(sample="tests.acceptance.samples.import_time_query", SAMPLE_DIR=str(tmp_path))
    haulage.wait_until_stored(4)

    found = examine(haulage.pid(), haulage.installation.servers)

    assert (found["verdict"], found["ended"]) == ("nothing shared", 0)
    assert found["connections"] >= 2, "the parent's own, and a child's"
