"""`haulage doctor --app`, against small foreign projects, each with a real worker in an interpreter of its own."""

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from local.home import PROJECT
from local.servers import Servers
from tests import environments
from tests.acceptance.conftest import wait_until
from tests.acceptance.foreign import Project, keys, processes_of, project, told
from tests.installation import Installation

BROKEN = {
    "import_query": ("fault", "app/store.py:8 <module>"),
    "dispose_closing": ("fault", "project.py:13 <module>"),
    "weak_receiver": ("fault", "project.py:13 <module>"),
    "scoped_session": ("fault waits", "project.py:15 <module>"),
    "flask_sqlalchemy": ("fault", "project.py:16 <module>"),
}
SOUND = ("lazy_engine", "dispose_without_closing", "null_pool", "forksafe_copied", "pid_guard")
OFTEN = ("import_query", "dispose_closing", "scoped_session", "dispose_without_closing")


def often_or_proved(names: Iterable[str]) -> list[Any]:
    return [name if name in OFTEN else pytest.param(name, marks=pytest.mark.prove) for name in names]


def sample(name: str, to: Path, servers: Servers) -> Project:
    python = environments.interpreter("flask") if name == "flask_sqlalchemy" else Path(sys.executable)
    return project(name, to, servers, python=python)


def line_of(place: str, root: Path) -> str:
    file, number = re.match(r"([^:]+):(\d+) ", place).groups()
    return (root / file).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("name", often_or_proved(BROKEN))
def test_it_names_the_fault_and_the_line_in_a_broken_project(
    name: str, tmp_path: Path, servers: Servers
) -> None:
    broken, (verdict, opened_at) = sample(name, tmp_path, servers), BROKEN[name]
    broken.send(3)
    before = keys(servers)

    ended = broken.doctor("--yes", "--json")

    found = told(ended)
    assert (found["verdict"], ended.returncode) == (verdict, 1), ended.stdout + ended.stderr
    assert found["replaced"] >= 1, "children that were forked later must have been looked into, too"
    assert {one["opened_at"][0] for one in found["faults"] + found["waiting"]} == {opened_at}
    assert re.search(r"with |execute\(", line_of(opened_at, broken.root))
    assert broken.ran == set()
    assert keys(servers) == before, "the project's own messages wait as before, and nothing of ours is left"
    broken.forget()


@pytest.mark.parametrize("name", often_or_proved(SOUND))
def test_it_finds_no_fault_in_a_sound_project(name: str, tmp_path: Path, servers: Servers) -> None:
    sound = sample(name, tmp_path, servers)

    ended = sound.doctor("--yes", "--json")

    found = told(ended)
    assert (found["verdict"], ended.returncode) == ("sound", 0), ended.stdout + ended.stderr
    assert found["engines"]
    assert found["replaced"] >= 1
    assert bool(found["notes"]) == (name in {"dispose_without_closing", "pid_guard"})


@pytest.mark.prove
def test_a_goodbye_is_told_with_the_line_that_said_it(tmp_path: Path, servers: Servers) -> None:
    broken = sample("dispose_closing", tmp_path, servers)

    ended = broken.doctor("--yes")

    assert "sent a goodbye over a connection" in ended.stdout
    assert re.search(r"sent at +project\.py:19 renew", ended.stdout)
    assert re.search(r"opened at +project\.py:13 <module>", ended.stdout)
    assert "forksafe.install()" in ended.stdout


def test_our_own_worker_is_sound(installation: Installation) -> None:
    extra = {**installation.environment, "PYTHONPATH": "."}
    ours = Project("haulage", PROJECT, installation.servers)
    before = keys(installation.servers)

    ended = subprocess.run(
        [
            *ours.command[:3],
            "tasks.worker:app",
            "--dir",
            PROJECT,
            "--python",
            sys.executable,
            "--yes",
            "--json",
        ],
        cwd=PROJECT,
        env={**os.environ, **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    found = told(ended)
    assert (found["verdict"], ended.returncode) == ("sound", 0), ended.stdout + ended.stderr
    assert found["engines"]
    assert found["notes"] == []
    assert keys(installation.servers) == before


def test_it_asks_before_anything_is_imported_and_again_before_the_worker_starts(
    tmp_path: Path, servers: Servers
) -> None:
    asked = sample("no_database", tmp_path, servers)
    with (asked.root / "project.py").open("a") as file:
        file.write('\nPath(os.environ["SAMPLE_DIR"], "imported").touch()\n')

    ended = asked.doctor()
    assert ended.returncode == 2
    assert "nothing was started" in ended.stderr
    assert "add --yes" in ended.stderr
    assert not (asked.root / "imported").exists()

    try:
        master, terminal = pty.openpty()
    except OSError:
        pytest.skip("there are no pseudo-terminals here, as in some containers")
    with subprocess.Popen(
        asked.command, cwd=PROJECT, env=asked.environment, stdin=terminal, stderr=subprocess.PIPE, text=True
    ) as doctor:
        os.write(master, b"y\n")
        wait_until((asked.root / "imported").exists, "the project is imported")
        os.write(master, b"n\n")
        said = doctor.communicate(timeout=60)[1]
    os.close(master)
    os.close(terminal)
    assert doctor.returncode == 2
    assert "Start the worker?" in said
    assert f"127.0.0.1:{servers.redis_url.rsplit(':', 1)[1].split('/')[0]}" in said
    assert servers.redis_url.split(":")[2].split("@")[0] not in said, "no password"


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.prove)])
def test_a_doctor_that_is_stopped_leaves_no_process_no_key_and_no_file(
    number: signal.Signals, tmp_path: Path, servers: Servers
) -> None:
    killed = sample("scoped_session", tmp_path, servers)
    with (killed.root / "project.py").open("a") as file:
        file.write(
            textwrap.dedent("""
            @signals.worker_process_init.connect
            def wait(**_):
                import time
                Path(os.environ["SAMPLE_DIR"], f"child-{os.getpid()}").touch()
                time.sleep(600)
            """)
        )
    before = keys(servers)
    doctor = subprocess.Popen(
        [*killed.command, "--yes"],
        cwd=PROJECT,
        env=killed.environment | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  make may run in the background
    )
    wait_until(lambda: list(killed.root.glob("child-*")), "a child runs the project's own code")
    (folder,) = tmp_path.glob("haulage-doctor-*")
    assert len(processes_of(folder.name)) >= 3

    doctor.send_signal(number)
    assert doctor.wait() in {-signal.SIGKILL, 2}

    wait_until(lambda: processes_of(folder.name) == [], "all its processes have ended")
    wait_until(lambda: not folder.exists(), "its folder is gone")
    assert keys(servers) == before


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("failing:app", "ZeroDivisionError: division by zero (at failing.py:2)"),
        ("project:QUEUE", "no Celery app"),
        pytest.param("nowhere:app", "No module named 'nowhere'", marks=pytest.mark.prove),
        pytest.param("project:nothing", "has no attribute nothing", marks=pytest.mark.prove),
        pytest.param("leaving:app", "SystemExit: a sentence of the project", marks=pytest.mark.prove),
    ],
)
def test_a_project_that_cannot_be_imported_is_told_in_a_sentence(
    app: str, expected: str, tmp_path: Path, servers: Servers
) -> None:
    odd = sample("no_database", tmp_path, servers)
    (odd.root / "failing.py").write_text('"""Fails."""\n1 / 0\n')
    (odd.root / "leaving.py").write_text('raise SystemExit("a sentence of the project")\n')
    with (odd.root / "project.py").open("a") as file:
        file.write('\nQUEUE = "sample"\n')

    ended = subprocess.run(
        [*odd.command[:3], app, *odd.command[4:], "--yes"],
        env=odd.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert expected in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_an_app_without_a_database_is_nothing_to_judge(tmp_path: Path, servers: Servers) -> None:
    ended = sample("no_database", tmp_path, servers).doctor("--yes")

    assert ended.returncode == 2
    assert "NOTHING TO JUDGE" in ended.stdout
    assert "Sound" not in ended.stdout


def test_a_broker_that_is_down_is_told_in_a_sentence(tmp_path: Path, servers: Servers) -> None:
    began = time.monotonic()

    ended = sample("no_database", tmp_path, servers).doctor(
        "--yes", SAMPLE_BROKER="redis://:secret@127.0.0.1:1/0"
    )

    assert ended.returncode == 2
    assert re.search(r"the project's broker, redis://\*\*\*@127\.0\.0\.1:1/0, cannot be used", ended.stderr)
    assert "secret" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - began < 60


def test_a_worker_that_dies_at_its_start_is_told_with_the_end_of_its_log(
    tmp_path: Path, servers: Servers
) -> None:
    dying = sample("no_database", tmp_path, servers)
    with (dying.root / "project.py").open("a") as file:
        file.write(
            textwrap.dedent("""
            from celery import signals

            @signals.worker_init.connect
            def die(**_):
                print("the project's last words", flush=True)
                os._exit(9)
            """)
        )

    ended = dying.doctor("--yes")

    assert ended.returncode == 2
    assert "the project's worker ended before the worker is ready" in ended.stderr
    assert "the project's last words" in ended.stderr


@pytest.mark.parametrize("python", ["/nowhere/python", "bare"])
def test_an_interpreter_without_celery_or_none_at_all_is_told(
    python: str, tmp_path: Path, servers: Servers
) -> None:
    if python == "bare":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        python = str(tmp_path / "bare" / "bin" / "python")
    patient = project("no_database", tmp_path, servers, python=Path(python))

    ended = patient.doctor("--yes")

    assert ended.returncode == 2
    assert re.search("cannot be run: No such file|has no Celery", ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.prove
def test_a_broker_that_is_no_redis_will_do_as_well(tmp_path: Path, servers: Servers) -> None:
    patient = sample("dispose_closing", tmp_path, servers)
    for folder in ("messages", "control"):
        (tmp_path / folder).mkdir()
    change(
        patient,
        "app.conf.task_default_queue",
        "app.conf.broker_transport_options = FILES\napp.conf.task_default_queue",
    )
    change(
        patient,
        "app = Celery",
        """FILES = dict.fromkeys(("data_folder_in", "data_folder_out"), os.environ["SAMPLE_FILES"] + "/messages")
FILES["control_folder"] = os.environ["SAMPLE_FILES"] + "/control"
app = Celery""",
    )

    ended = patient.doctor("--yes", "--json", SAMPLE_BROKER="filesystem://", SAMPLE_FILES=str(tmp_path))

    assert told(ended)["verdict"] == "fault", ended.stderr
    assert list((tmp_path / "messages").iterdir()) == []


PRE_PING = (
    'create_engine(os.environ["SAMPLE_DATABASE"])',
    'create_engine(os.environ["SAMPLE_DATABASE"], pool_pre_ping=True)',
)
RAISE_ONLY = ("record.dbapi_connection = proxy.dbapi_connection = None", "pass")
REMOVE = ("engine.dispose(close=False)", "Session.remove()")
COLLECT = ("engine.dispose(close=False)", "Session.registry.clear()")
WITH = "with engine.connect() as connection:\n"
RAW = 'import psycopg2\nkept = psycopg2.connect(os.environ["SAMPLE_DATABASE"].replace("+psycopg2", ""))\n'


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("pid_guard", PRE_PING, "a pre-ping"),
        ("pid_guard", RAISE_ONLY, "a goodbye"),
        ("scoped_session", REMOVE, "a ROLLBACK"),
        ("scoped_session", COLLECT, "a ROLLBACK"),
        ("null_pool", (WITH, RAW + WITH), None),
    ],
)
def test_it_hears_whoever_speaks_on_anothers_connection(
    name: str, edit: tuple[str, str], said: str | None, tmp_path: Path, servers: Servers
) -> None:
    broken = sample(name, tmp_path, servers)
    change(broken, *edit)

    found = told(broken.doctor("--yes", "--json"))

    assert found["verdict"] == ("fault" if said else "fault waits")
    assert said in {one.get("said") for one in found["faults"] + found["waiting"]}


def change(patient: Project, old: str, new: str) -> None:
    text = (patient.root / "project.py").read_text()
    assert old in text
    (patient.root / "project.py").write_text(text.replace(old, new))
