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
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from app import forkprobe
from app.checkup import GIVE_ANOTHER
from app.cli.main import haulage as haulage_command
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

    code, said = answered(asked, [b"y\n", b"n\n"])
    assert (asked.root / "imported").exists()
    assert code == 2
    assert "Start the worker?" in said
    assert "its worker not started, as you say" in said
    assert all(len(line) <= 110 for line in said.splitlines() if str(asked.root) not in line)
    assert f"127.0.0.1:{servers.redis_url.rsplit(':', 1)[1].split('/')[0]}" in said
    assert servers.redis_url.split(":")[2].split("@")[0] not in said, "no password"


INTERRUPT, END_OF_FILE = b"\x03", b"\x04"


@pytest.mark.parametrize(
    ("answers", "last_words"),
    [
        ([END_OF_FILE], "nothing was started"),
        pytest.param([INTERRUPT], "nothing was started", marks=pytest.mark.prove),
        ([b"y\n", INTERRUPT], "its worker not started"),
        pytest.param([b"y\n", END_OF_FILE], "its worker not started", marks=pytest.mark.prove),
    ],
)
def test_whoever_breaks_off_at_a_question_is_not_told_that_something_is_shared(
    answers: list[bytes], last_words: str, tmp_path: Path, servers: Servers
) -> None:
    code, said = answered(sample("no_database", tmp_path, servers), answers)

    assert code == 2
    assert last_words in said.splitlines()[-1]
    assert "Aborted!" not in said


QUESTIONS = ("Import the project?", "Start the worker?")


# Takes the terminal, and lets Ctrl-C through: make may run in the background.
ON_A_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def answered(patient: Project, answers: list[bytes]) -> tuple[int, str]:
    """Answer the doctor's questions on a terminal of its own; return its exit code, and all that it said."""
    try:
        ours, its = pty.openpty()
    except OSError:
        pytest.skip("there are no pseudo-terminals here, as in some containers")
    doctor = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *patient.command],
        cwd=PROJECT,
        env=patient.environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    said = b""
    try:
        for question, answer in zip(QUESTIONS, answers, strict=False):
            while question.encode() not in said:
                said += os.read(ours, 1000)
            # A signal that comes a moment before Python begins to read is noticed with the next key alone.
            wait_until(
                lambda: psutil.Process(doctor.pid).status() == psutil.STATUS_SLEEPING, "it waits for a key"
            )
            os.write(ours, answer)
        with suppress(OSError):  # how Linux tells that nobody has the terminal any more
            while more := os.read(ours, 1000):
                said += more
        return doctor.wait(), said.decode().replace("\r\n", "\n").strip()
    finally:
        doctor.kill()
        doctor.wait()
        os.close(ours)


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
        ("project:work", "project:work is a task, and no Celery app"),
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


@pytest.mark.parametrize("name", ["", ":", " :app"])
def test_a_name_that_names_nothing_is_refused_before_anything(name: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(haulage_command, ["doctor", "--app", name, "--dir", str(tmp_path)])

    assert ended.exit_code == 2
    assert ended.output == "haulage: --app wants MODULE:APP, as for `celery -A`\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--dir", "/nowhere"], "there is no directory /nowhere"),
        (["--python", "/nowhere/python"], "/nowhere/python cannot be run: No such file or directory"),
        (["--python", "/bin/false"], f"/bin/false is no Python interpreter: {GIVE_ANOTHER}"),
        (["--python", "/bin/true"], f"/bin/true is no Python interpreter: {GIVE_ANOTHER}"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_announcement(options: list[str], expected: str) -> None:
    ended = CliRunner().invoke(haulage_command, ["doctor", "--app", "project:app", *options])

    assert ended.exit_code == 2
    assert ended.output == f"haulage: {expected}\n"


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_that_never_forks_is_told_so(pool: str, tmp_path: Path, servers: Servers) -> None:
    patient = sample("import_query", tmp_path, servers)
    work = patient.root / "tasks" / "work.py"
    work.write_text(work.read_text() + f'\ncelery.conf.worker_pool = "{pool}"\n')

    ended = patient.doctor("--yes")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"this project's worker_pool is {pool}" in ended.stderr.splitlines()[-1]


@pytest.mark.prove
def test_a_connection_whose_driver_cannot_be_followed_is_not_called_sound(
    tmp_path: Path, servers: Servers
) -> None:
    patient = sample("lazy_engine", tmp_path, servers)
    url = make_url(servers.owner_url)
    change(
        patient,
        "engine = ",
        f"import socket\nkept = socket.create_connection(({url.host!r}, {url.port}))\nengine = ",
    )

    ended = patient.doctor("--yes")

    assert ended.returncode == 2
    said = " ".join(ended.stdout.split())
    assert "crossed the fork: its driver cannot be followed; look at the worker at its work" in said
    assert "NOT JUDGED" in said


def test_a_database_that_is_down_is_told_with_what_to_do(tmp_path: Path, servers: Servers) -> None:
    patient = project("lazy_engine", tmp_path, servers, url="postgresql://nobody:hush@127.0.0.1:1/none")

    ended = patient.doctor("--yes")

    said = " ".join(ended.stdout.split())
    assert ended.returncode == 2
    assert re.search(r"Could not be tried: 127\.0\.0\.1:1/none: OperationalError: connection to server", said)
    assert "start the database, and look again" in said
    assert "hush" not in ended.stdout + ended.stderr
    assert all(len(line) <= 110 for line in ended.stdout.splitlines())


@pytest.mark.prove
def test_a_pool_that_nobody_but_the_probe_has_asked_is_not_said_to_be_used(
    tmp_path: Path, servers: Servers
) -> None:
    broken = sample("weak_receiver", tmp_path, servers)

    ended = broken.doctor("--yes")

    said = " ".join(ended.stdout.split())
    assert ended.returncode == 1
    assert "and its pools hand them out there" in said
    assert "and uses them there" not in said


def test_a_file_that_shadows_a_library_is_told_in_one_line(tmp_path: Path, servers: Servers) -> None:
    patient = sample("no_database", tmp_path, servers)
    (patient.root / "amqp.py").write_text("")

    ended = patient.doctor("--yes")

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "does a file of the project bear a library's name?" in ended.stderr.splitlines()[-1]


def test_settings_that_cannot_be_used_elsewhere_neither_stop_it_nor_leave_anything(
    tmp_path: Path, servers: Servers
) -> None:
    patient = sample("lazy_engine", tmp_path, servers)
    change(
        patient,
        "engine = ",
        """def refuse(*_, **__):
    raise RuntimeError("no task of mine")


app.conf.task_routes = (refuse,)
app.amqp.router
app.conf.broker_transport_options = {"max_retries": 3, "on_error": lambda *_: None}
engine = """,
    )
    before = keys(servers)

    ended = patient.doctor("--yes", "--json")

    assert told(ended)["verdict"] == "sound", ended.stdout + ended.stderr
    assert keys(servers) == before


def test_a_broker_with_a_slash_in_its_password_keeps_it_to_itself(tmp_path: Path, servers: Servers) -> None:
    ended = sample("no_database", tmp_path, servers).doctor(
        "--yes", SAMPLE_BROKER="redis://:hunter2/xyzzy@127.0.0.1:1/0"
    )

    assert ended.returncode == 2
    assert re.search("cannot be (used|read)", ended.stderr)
    assert "hunter2" not in ended.stderr
    assert "xyzzy" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:se/cret@h/d",
        "connect(password='secret')",
        "password: secret",
        "host=h password=secret user=u",
        '{"passwd": "secret"}',
    ],
)
def test_no_password_is_shown(text: str) -> None:
    assert "cret" not in forkprobe.without_passwords(text)


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
    assert "the project's worker ended before the worker was ready" in ended.stderr
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
    assert re.search(f"cannot be run: No such file|has no Celery: {GIVE_ANOTHER}", ended.stderr)
    assert "This will" not in ended.stderr
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
