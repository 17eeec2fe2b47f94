"""The soak, for a few seconds: clean with the safeguards, and the same soak without them, which finds what there is."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak_verdict import Verdict
from benchmarks.soak_watch import Watch


def run(folder: Path, *options: str) -> tuple[int, dict]:
    code = soak.main(["--minutes", "0.08", "--json", str(folder / "figures"), *options])
    return code, json.loads((folder / "figures").read_text())


def test_a_worker_that_forks_all_the_time_stays_clean(tmp_path: Path) -> None:
    code, found = run(tmp_path)

    assert (code, found["wrong"]) == (0, [])
    assert found["forks"] >= 10
    assert found["processes_seen"] > 0
    assert all(found["transactions"][who] > 0 for who in ("parent", "child", "grandchild"))


@pytest.mark.prove
def test_the_same_soak_without_safeguards_finds_the_fault(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--unguarded")

    assert code == 1
    assert any("bad record mac" in message for message in found["known_messages"])


PARENT = """
import os, socket, sys, time
from pathlib import Path
held = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    if sys.argv[2] == "closes":
        held.close()
    Path("/proc/self/comm").write_text("soak-child")
    print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("child", "found"), [("holds", 1), ("closes", 0)])
def test_the_watch_finds_a_socket_of_the_parent_in_a_child(child: str, found: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", PARENT, str(port), child]
        with subprocess.Popen(command, stdout=-1, start_new_session=True) as parent:
            try:
                assert parent.stdout is not None
                parent.stdout.readline()
                watch = Watch(parent.pid, port)
                watch.look()
            finally:
                os.killpg(parent.pid, signal.SIGKILL)

    assert (watch.looks, watch.processes_seen, len(watch.found)) == (1, 1, found)


def test_a_soak_that_did_nothing_is_not_clean() -> None:
    assert Verdict(1.0).wrong != []
    lived = {"looks": 9, "children_forked": 9, "grandchildren_forked": 4, "parent_began": 1, "parent_kept": 1}
    done = {"parent": 9, "child": 9, "grandchild": 8}
    assert Verdict(1.0, **lived, transactions=done, processes_seen=9).wrong == []
    assert Verdict(1.0, **lived, transactions=done, processes_seen=0).wrong != []
    assert Verdict(1.0, **lived, transactions={**done, "grandchild": 7}, processes_seen=9).wrong != []
    assert Verdict(1.0, **lived, transactions={**done, "parent": 0}, processes_seen=9).wrong != []


@pytest.mark.parametrize("given", ["0", "-1", "much", "nan"])
def test_minutes_that_cannot_be(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        soak.main(["--minutes", given])

    assert "--minutes" in capsys.readouterr().err
