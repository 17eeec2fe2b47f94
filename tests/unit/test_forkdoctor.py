"""The doctor that looks from outside, by itself: any socket towards a port that it is told counts as PostgreSQL's."""

import ast
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import forkdoctor
from app.cli.main import haulage
from tests.acceptance.conftest import wait_until
from tests.acceptance.foreign import examine_until

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")

ROOT = Path(__file__).parents[2]
FILE = ROOT / "app" / "forkdoctor.py"
# Connects, forks two children, and lets those whose numbers are named (0 is the parent) send a byte now and then.
FAMILY = """
import os, signal, socket, sys, time
where, speakers, end = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
if where.isdigit():
    connection = socket.create_connection(("127.0.0.1", int(where)))
else:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(where)
def live(number):
    os.write(1, f"{os.getpid()}\\n".encode())
    while True:
        time.sleep(0.05 + 0.02 * int(number) if number in speakers else 60)
        connection.send(b"x")
connection.send(b"x")
time.sleep(0.2)
for number in ("1", "2"):
    if os.fork() == 0:
        live(number)
if end == "orphans":
    os._exit(0)
live("0")
"""


@contextmanager
def listener(path: Path | None = None) -> Iterator[str]:
    """Take whatever is sent to a port, or to a unix-domain socket; yield its number or path."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as server:
        server.bind(str(path) if path else ("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=_drain, args=[server], daemon=True).start()
        yield str(path or server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def _drain(server: socket.socket) -> None:
    try:
        connection, _ = server.accept()
    except OSError:
        return
    with connection:
        while connection.recv(1000):
            pass


@contextmanager
def family(where: str, speakers: str = "", end: str = "") -> Iterator[list[int]]:
    """Run a parent with two children that share one connection; yield their pids, the parent's first if it lives."""
    started = subprocess.Popen(
        [sys.executable, "-c", FAMILY, where, speakers, end],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pids = [int(started.stdout.readline()) for _ in range(2 if end == "orphans" else 3)]
        yield sorted(pids, key=lambda pid: (pid != started.pid, pid))
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        started.stdout.close()


def examine(pid: int, port: str, seconds: float = 0.6) -> forkdoctor.Report:
    return forkdoctor.examine(str(pid), [int(port)], seconds)


# Connects, and plays a scene with children, whose second act comes when there is a file `go`.
SCENE = """
import os, pathlib, socket, subprocess, sys, time
connection, here = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), pathlib.Path(sys.argv[2])
connection.setblocking(False)
def second_act():
    while not (here / "go").exists():
        time.sleep(0.01)
def fork(act):
    pid = os.fork()
    if pid == 0:
        act()
        (here / f"done-{os.getpid()}").touch()
        time.sleep(60)
    return pid
def hold_on():
    second_act()
def give_up():
    second_act()
    connection.close()
def use_and_give_up():
    second_act()
    for _ in range(10):
        connection.send(b"x")
        time.sleep(0.03)
    connection.close()
def end():
    second_act()
    (here / f"done-{os.getpid()}").touch()
    os._exit(0)
def use_and_end():
    for _ in range(20):
        connection.send(b"x")
        time.sleep(0.03)
    (here / f"done-{os.getpid()}").touch()
    os._exit(0)
def work_and_run_others():
    while True:
        connection.send(b"x")
        subprocess.run(["true"])
        (here / f"done-{time.monotonic()}").touch()
def one_after_another():
    while True:
        os.waitpid(fork(use_and_end), 0)
        for _ in range(10):
            connection.send(b"x")
            time.sleep(0.03)
connection.send(b"x")
time.sleep(0.2)
print(flush=True)
exec(sys.argv[3])
time.sleep(60)
"""
TWO = "fork({0}); fork({0})"


def is_done(folder: Path, acts: int, *, ended: bool) -> bool:
    """True once so many have written that they are done, and have ended if that is their act: they write it before."""
    done = [one.name.removeprefix("done-") for one in folder.glob("done-*")]
    # Not _has_ended: root sees the sockets of a process for a moment after its memory has gone.
    return len(done) >= acts and not (ended and {*map(int, done)} & forkdoctor._processes().keys())


def play(
    scene: str, folder: Path, patch: pytest.MonkeyPatch, *, acts: int = 2, begin: int = 3
) -> forkdoctor.Report:
    """Watch a scene until so many acts are done, from when so many processes are on the stage."""
    with listener() as port:
        command = [sys.executable, "-c", SCENE, port, folder, scene]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
            try:
                parent.stdout.readline()
                wait_until(
                    lambda: len(forkdoctor._family(parent.pid, forkdoctor._processes())) >= begin,
                    "all are here",
                )
                return examine_until(
                    parent.pid,
                    int(port),
                    (folder / "go").touch,
                    lambda: is_done(folder, acts, ended=scene == TWO.format("end")),
                    patch,
                )
            finally:
                os.killpg(parent.pid, signal.SIGKILL)


def test_what_is_used_and_given_up_while_it_watches_has_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = play(TWO.format("use_and_give_up"), tmp_path, monkeypatch)

    (shared,) = report.shared
    assert (report.verdict, report.exit_code) == ("happened", 1)
    assert len(shared["let_go"]) == 2
    assert shared["held_still_by"] == [report.asked]
    assert "THE FAULT HAS HAPPENED" in report.as_text()
    assert f"held still by {report.asked}" in report.as_text()


@pytest.mark.parametrize(("act", "words"), [("give_up", "given up by"), ("end", "ended while this watched")])
def test_what_is_given_up_unused_is_told_without_blame(
    act: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = play(TWO.format(act), tmp_path, monkeypatch)

    assert (report.verdict, report.exit_code) == ("given up", 1)
    assert "FAULT" not in report.as_text()
    assert "nobody was seen to use it" in " ".join(report.as_text().split())
    assert words in report.as_text()


def test_an_opener_that_uses_and_closes_its_own_is_not_said_to_have_brought_the_fault_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = "fork(hold_on); use_and_give_up(); (here / 'done-1').touch()"

    report = play(scene, tmp_path, monkeypatch, begin=2)

    assert (report.verdict, report.exit_code) == ("used by one", 1)
    assert report.shared[0]["used_by"] == [report.asked]
    assert report.shared[0]["let_go"] == [report.asked]


def test_children_that_come_one_after_another_are_seen_to_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = play("one_after_another()", tmp_path, monkeypatch, acts=3, begin=1)

    assert (report.verdict, report.exit_code) == ("used by several", 1)
    assert len(report.shared[0]["holders"]) >= 2


def test_what_holds_everything_for_a_moment_before_it_runs_a_program_shares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = play("work_and_run_others()", tmp_path, monkeypatch, acts=300, begin=1)

    assert (report.verdict, report.exit_code) == ("nothing shared", 0), report.as_text()
    assert "in a broken one once the fault has come and healed" in " ".join(report.as_text().split())


def test_two_children_that_use_one_connection_are_the_fault_at_work() -> None:
    with listener() as port, family(port, speakers="1,2") as pids:
        for _ in range(20):  # where the two always run at the same moments it cannot tell, and says so
            report = examine(pids[0], port)
            (shared,) = report.shared
            assert set(shared["holders"]) == set(pids)
            assert set(shared["used_by"]) <= set(pids[1:]), "never the parent, which only holds it"
            if report.verdict == "used by several":
                break

    assert (report.verdict, report.exit_code) == ("used by several", 1)
    assert "THE FAULT IS HAPPENING" in report.as_text()


def test_a_connection_that_the_parent_alone_uses_is_said_to_be_its() -> None:
    with listener() as port, family(port, speakers="0") as pids:
        report = examine(pids[0], port)

    assert report.verdict == "used by one"
    assert report.shared[0]["used_by"] == [pids[0]]


def test_a_connection_that_nobody_has_used_since_the_fork_is_idle() -> None:
    with listener() as port, family(port) as pids:
        report = examine(pids[0], port)
        began = Path(f"/proc/{pids[1]}").stat().st_ctime

    (shared,) = report.shared
    assert (report.verdict, report.exit_code) == ("idle", 1)
    assert shared["since_pid"] in pids[1:]
    assert abs(time.mktime(time.strptime(shared["since"], "%Y-%m-%d %H:%M:%S")) - began) < 5
    assert "harmless so far" in report.as_text()


def test_a_use_since_the_fork_is_seen_even_if_nobody_watched() -> None:
    with listener() as port, family(port, speakers="1") as pids:

        def told_while_all_rest() -> bool:
            """Stop the children and look; let them go on if the speaker had not come to speak yet."""
            for child in pids[1:]:
                os.kill(child, signal.SIGSTOP)
            verdict = examine(pids[0], port).verdict
            for child in pids[1:]:
                os.kill(child, signal.SIGCONT)
            assert verdict in {"idle", "used earlier"}
            return verdict == "used earlier"

        wait_until(told_while_all_rest, "a use that nobody watched is told")


def test_children_whose_parent_was_killed_are_found_to_share_what_it_opened() -> None:
    with listener() as port, family(port, end="orphans") as pids:
        report = examine(pids[0], port)

    (shared,) = report.shared
    assert set(shared["holders"]) == set(pids)
    assert shared["opener_is_gone"]
    assert "or is gone" in report.as_text()


def test_a_child_leads_to_its_parent() -> None:
    with listener() as port, family(port) as pids:
        report = examine(pids[1], port)

    assert {one["pid"] for one in report.looked_at} == set(pids)
    assert f"{pids[1]} is a child" in report.as_text()


def test_a_unix_domain_socket_is_found_by_its_servers_name(tmp_path: Path) -> None:
    with listener(tmp_path / ".s.PGSQL.5432") as path, family(path, speakers="1") as pids:
        report = examine(pids[0], "5432")

    (shared,) = report.shared
    assert shared["where"] == path
    assert set(shared["holders"]) == set(pids)
    assert report.verdict == "not watched"
    assert "unix-domain sockets was not watched" in report.as_text()


def test_what_it_says_fits_a_terminal_and_names_the_ports_that_matter() -> None:
    with listener() as port, listener() as other, family(port) as pids:
        report = forkdoctor.examine(str(pids[0]), [int(port), int(other)], 0)

    assert all(len(line) <= 110 for line in report.as_text().splitlines())
    assert f"they held 1 connection to PostgreSQL (port {port}; others: --port N)" in report.as_text()
    assert sorted(json.loads(report.as_json())["ports"]) == sorted([int(port), int(other)])
    assert "\n" not in json.loads(report.as_json())["meaning"]


def test_one_process_and_no_connection_are_told_in_the_singular() -> None:
    with subprocess.Popen(["sleep", "60"]) as alone:
        report = forkdoctor.examine(str(alone.pid), [1], 0)
        alone.kill()

    assert "Looked at 1 process:" in report.as_text()
    assert "they held no connection to PostgreSQL (port 1; others: --port N)" in report.as_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--seconds", "nan"],
        ["--seconds", "-1"],
        ["--seconds", "3601"],
        ["--seconds", "soon"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--port", "five"],
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        forkdoctor.main(["1", *options])

    assert ended.value.code == 2
    assert "give a number" in capsys.readouterr().err


def test_a_reader_that_goes_away_and_a_terminal_without_letters_are_no_error(tmp_path: Path) -> None:
    program = "import pathlib, time; pathlib.Path('/proc/self/comm').write_text('b\u00f6s\\nname'); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        command = [sys.executable, FILE, str(process.pid), "--port", "1"]
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        read = subprocess.run(command, capture_output=True, text=True, env=ascii_only)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unread:
            unread.stdout.close()
            said = unread.stderr.read()
        process.kill()

    assert (read.returncode, read.stderr) == (2, "")
    assert "b\\xf6s\\nname" in read.stdout
    assert (unread.returncode, said) == (2, b"")


def test_sockets_towards_other_ports_do_not_count() -> None:
    with listener() as port, family(port, speakers="1,2") as pids:
        report = examine(pids[0], str(int(port) - 1))

    assert (report.verdict, report.exit_code) == ("nothing to judge", 2)
    assert "not the same as healthy" in report.as_text()


def test_a_process_without_children_is_said_to_be_one() -> None:
    with listener() as port, socket.create_connection(("127.0.0.1", int(port))):
        program = "import socket, sys, time; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        alone = [sys.executable, "-c", f"{program}; print(flush=True); time.sleep(60)", port]
        with subprocess.Popen(alone, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            report = examine(process.pid, port)
            process.kill()

    assert (report.verdict, report.exit_code) == ("nothing shared", 0)
    assert "has no child processes" in report.as_text()


def test_where_the_kernel_tells_nothing_the_sharing_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(forkdoctor, "_netlink", refuse)
    with listener() as port, family(port, speakers="1,2") as pids:
        report = examine(pids[0], port)

    assert (report.verdict, report.exit_code) == ("not watched", 1)
    assert "Use was not watched: the kernel does not tell (Operation not permitted)" in report.as_text()


def test_ports_come_from_the_environment_and_nothing_else_does() -> None:
    environment = [
        "PGPORT=5544",
        "DATABASE_URL=postgresql+psycopg2://user:p%401234:99@db.example:6001/name",
        "SPARE=postgres://u:777@[::1]:6002",
        "SEVERAL=postgresql://u:888@/name?host=h1:6003&host=h2:6004",
        "LIST=postgresql://u:555@h1:6005,h2:6006/name",
        "POSTGRES_SERVICE_PORT=6007",
        "POSTGRES_PORT=tcp://10.0.0.1:6009",
        "SLASHED=postgres://u:12345/abc@h:6008/db",
        "PGPORT=\u00b2",
        "REDIS_URL=redis://:pw@127.0.0.1:6379/0",
        "HTTP_PORT=8000",
        "PATH=/bin",
    ]

    assert forkdoctor._ports_named("\0".join(environment)) == {5544, *range(6001, 6009)}


def test_a_port_in_the_workers_environment_is_looked_at_unasked() -> None:
    with listener() as port:
        os.environ["SOME_URL"] = f"postgresql://nobody:secret@127.0.0.1:{port}/x"
        try:
            with family(port) as pids:
                report = forkdoctor.examine(str(pids[0]), [], 0)
        finally:
            del os.environ["SOME_URL"]

    assert len(report.shared) == 1
    assert "secret" not in report.as_text() + report.as_json()


@pytest.mark.parametrize(
    ("pid", "expected"),
    [
        ("celery", "is no process id"),
        ("0", "is no process id"),
        ("\u00b2", "is no process id"),
        ("-1", "is no process id"),
        ("4194999", "no process"),
    ],
)
def test_what_is_no_running_process_is_told_in_a_sentence(pid: str, expected: str) -> None:
    with pytest.raises(forkdoctor.CannotLook, match=expected):
        forkdoctor.examine(pid, [], 0)


def test_a_process_on_its_way_out_holds_nothing_and_is_nobody_elses() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it stays a zombie

    try:
        assert forkdoctor._has_ended(child)
        assert forkdoctor._sockets(child) == set()
    finally:
        os.waitpid(child, 0)

    assert forkdoctor._has_ended(child)
    assert not forkdoctor._has_ended(os.getpid())


def test_another_users_process_is_told_with_its_owner() -> None:
    look = "import os, sys; from app import forkdoctor; os.getuid() or os.setuid(65534); sys.exit(forkdoctor.run('1', [], 0, as_json=False))"

    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    if Path("/proc/1").stat().st_uid != 0:
        pytest.skip("the first process is not root's here, as in some containers")

    ended = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, env=unmeasured
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "belongs to root" in ended.stderr
    assert "sudo -u root" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_proc_it_says_where_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(forkdoctor, "PROC", tmp_path)

    with pytest.raises(forkdoctor.CannotLook, match="Linux"):
        forkdoctor.examine("1", [], 0)


@pytest.mark.parametrize("name", ["forkdoctor", "forkkeeper", "forkprobe"])
def test_what_runs_in_foreign_interpreters_is_written_for_old_ones(name: str) -> None:
    source = (ROOT / "app" / f"{name}.py").read_text()

    ast.parse(source, feature_version=(3, 8))

    assert "from __future__ import annotations" in source
    assert source.startswith("# SPDX-License-Identifier: MIT\n")


def pythons() -> list[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {path.parts[-3]: path for path in sorted(pyenv.glob("versions/3.*/bin/python3"))}
    return [path for version, path in found.items() if int(version.split(".")[1]) >= 8]


@pytest.mark.parametrize(
    "python",
    [Path(sys.executable), *(pytest.param(one, marks=pytest.mark.prove) for one in pythons())],
    ids=str,
)
def test_a_copy_of_the_one_file_works_alone(python: Path, tmp_path: Path) -> None:
    copy = tmp_path / "forkdoctor.py"
    copy.write_bytes(FILE.read_bytes())
    with listener() as port, family(port, speakers="1,2") as pids:
        command = [python, "-I", "-W", "error", copy, str(pids[0]), "--port", port, "--seconds", "0.5"]
        ended = subprocess.run([*command, "--json"], capture_output=True, text=True)
        read = subprocess.run(command, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (1, "")
    assert json.loads(ended.stdout)["shared"][0]["state"] in {"used by several", "used"}
    assert read.stdout.startswith("Looked at 3 processes:")
    assert ended.stdout.isascii()


def test_the_command_runs_the_same_without_any_settings() -> None:
    with listener() as port, family(port) as pids:
        options = ["doctor", "--pid", str(pids[0]), "--port", port, "--seconds", "0", "--json"]
        ended = CliRunner().invoke(haulage, options)

    assert ended.exit_code == 1
    assert json.loads(ended.stdout)["verdict"] == "idle"


def test_both_a_process_and_a_project_is_a_usage_error() -> None:
    ended = CliRunner().invoke(haulage, ["doctor", "--pid", "1", "--app", "project:app"])

    assert ended.exit_code == 2
    assert "Give either --pid PID, of a running worker, or --app" in ended.output


def test_what_cannot_be_looked_at_is_json_too() -> None:
    ended = CliRunner().invoke(haulage, ["doctor", "--pid", "none", "--json"])

    assert ended.exit_code == 2
    assert json.loads(ended.stdout)["verdict"] == "could not look"
