"""The programs a person starts: `make demo`, `make up`, and the `haulage` command."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from local.home import PROJECT
from local.system import BIN
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP

ODD_NAMES = [
    "tab\there", "right-to-left \u202e gpj", "q'uo\"te", "con", "CON", "trailing...", " space ", "x" * 200, "中文文件",
    "😀.txt", "é composed", "e\u0301 decomposed", "é DECOMPOSED", "e\u0301 composed", "new\nline", "back\\slash", "%41",
    "a%22b", "?#&=;+", "...", "-rf", "$HOME", "`ls`", "'; DROP TABLE corporate.uploads; --",
]  # fmt: skip


def fill(folder: Path, number: int) -> None:
    """Make files with odd names in odd folders, some empty, some that collide in case or composition only."""
    for one in range(number):
        name = ODD_NAMES[one % len(ODD_NAMES)]
        below = folder.joinpath(
            *(f"d {ODD_NAMES[(one // len(ODD_NAMES) + depth) % 7]}" for depth in range(one % 3))
        )
        below.mkdir(parents=True, exist_ok=True)
        target = below / (name if one < 3 * len(ODD_NAMES) else f"{one} {name}")
        if not target.exists():
            target.write_bytes(b"" if one % 10 == 0 else f"{one}".encode() * one)


def files_in(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HAULAGE_DEMO_DIR": str(folder)}
    command = [sys.executable, "-m", "local.demo"]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("number", [120, pytest.param(2000, marks=pytest.mark.prove)])
@pytest.mark.timeout(600)
def test_the_demo_gives_its_verdict_on_odd_files(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "DIR $(x) 'y'"
    fill(folder, number)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff")).write_bytes(b"x")

    done = demo(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    files = files_in(folder) - 1  # without the one whose name is refused
    assert re.search(rf"uploads stored +{files}\n", done.stdout)
    assert re.search(rf"equal to their source, sha256 +{files}\n", done.stdout)
    assert "Everything is stored, once." in done.stdout
    assert "not valid UTF-8" in done.stdout
    assert "SSL" in done.stdout.split("The classic fault")[1]


def test_the_demo_says_that_a_folder_is_none(tmp_path: Path) -> None:
    done = demo(tmp_path / "missing")

    assert done.returncode == 1
    assert "is not a folder" in done.stderr


def test_make_up_answers_and_leaves_no_process_behind(tmp_path: Path) -> None:
    home = Path("/tmp" if os.geteuid() == 0 else tmp_path) / f"haulage-up-{os.getpid()}"
    environment = os.environ | {"HAULAGE_HOME": str(home)}
    output = (tmp_path / "output").open("w+")
    up = subprocess.Popen(
        [sys.executable, "-m", "local.up"],
        cwd=PROJECT,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: "Haulage is up" in (tmp_path / "output").read_text() or up.poll() is not None, "it is up"
        )
        said = (tmp_path / "output").read_text()
        web = re.search(r"web +(\S+)", said)[1]
        token = re.search(r"token +(\S+)", said)[1]
        request = urllib.request.Request(
            f"{web}/api/v1/corporations/1/uploads?name=x",
            data=b"content",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert urllib.request.urlopen(request, timeout=10).status == 202
        running = everything(up.pid, home)

        up.send_signal(signal.SIGINT)

        assert up.wait(60) == 0, (tmp_path / "output").read_text()
        assert [process for process in running if is_running(process)] == []
    finally:
        output.close()
        up.kill()
        up.wait()
        subprocess.run([sys.executable, "-m", "local", "clean"], cwd=PROJECT, env=environment, check=True)


def everything(pid: int, home: Path) -> list[psutil.Process]:
    """Return all processes that `make up` is made of: its children, and the servers that work in its home."""
    found = psutil.Process(pid).children(recursive=True)
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(home)):
                found.append(process)
        except psutil.Error:
            continue
    assert len(found) > 6
    return found


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def run(haulage: Haulage, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(haulage.system.environment)
    environment["DATABASE_URL"] = environment["WEB_DATABASE_URL"]
    return subprocess.run(
        [BIN / "haulage", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_command_sends_a_folder_and_says_what_failed(haulage: Haulage, tmp_path: Path) -> None:
    haulage.start_beat()
    haulage.start_worker()
    folder = tmp_path / "folder"
    fill(folder, 30)
    (folder / "link").symlink_to("x")
    corp = ("--corp", str(CORP))

    first = run(haulage, "upload", str(folder), *corp, "--into", "in/here", "--on-conflict", "rename")
    (folder / "con").write_bytes(b"other content")
    second = run(haulage, "upload", str(folder / "con"), *corp, "--into", "in/here/folder")

    assert (first.returncode, first.stderr.count("failed")) == (0, 0), first.stderr
    assert f"{files_in(folder)} stored, 0 failed" in first.stdout
    assert "a symbolic link" in first.stderr
    assert second.returncode == 1
    assert "con is there already, a file with other content" in second.stderr
    [failed] = re.findall(r"upload ([0-9a-f-]{36})", second.stderr)
    assert "name_taken" in run(haulage, "status", failed, *corp).stdout
    assert "failed        1" in run(haulage, "status", *corp).stdout
    assert run(haulage, "retry", failed, *corp).returncode == 0
    assert run(haulage, "retry", "00000000-0000-0000-0000-000000000000", *corp).returncode == 1
    assert "folder/" in run(haulage, "tree", *corp).stdout
    verified = run(haulage, "verify", *corp)
    assert (verified.returncode, "0 differences" in verified.stdout) == (0, True), verified.stderr


def test_verify_sees_every_kind_of_difference(haulage: Haulage) -> None:
    haulage.hand_in(3)
    haulage.start_beat()
    haulage.start_worker()
    haulage.wait_until_stored(3)
    place = haulage.installation.drive_dir / str(CORP)
    (place / "file 0").write_bytes(b"changed")
    (place / "file 1").unlink()
    (place / "foreign").write_bytes(b"")
    haulage.installation.query("UPDATE corporate.vmb_items SET child_count = 9 WHERE parent_id IS NULL")

    verified = run(haulage, "verify", "--corp", str(CORP))

    assert verified.returncode == 1
    for problem in ("other bytes", "not to be read", "not in the catalogue", "child_count is 9"):
        assert problem in verified.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["upload", "x", "--corp", "99"], "there is no corporation 99"),
        (["upload", "x", "--corp", str(CORP), "--into", "../x"], "is not a name"),
        (["upload", "missing", "--corp", str(CORP)], "No such file"),
        (["tree", "--corp", "99"], "there is no corporation 99"),
        (["verify", "--corp", "99"], "there is no corporation 99"),
        (["status", "nonsense", "--corp", "7"], "is not a valid UUID"),
        (["token", "create", "--corp", "99"], "there is no corporation 99"),
        (["corp", "add", str(CORP), "again"], "exists already"),
    ],
)
def test_the_command_says_what_is_wrong_without_a_stack(
    haulage: Haulage, arguments: list[str], says: str
) -> None:
    done = run(haulage, *arguments)

    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_says_when_postgresql_is_not_there(haulage: Haulage) -> None:
    environment = dict(haulage.system.environment) | {
        "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/x"
    }
    done = subprocess.run(
        [BIN / "haulage", "tree", "--corp", "7"], env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == os.EX_TEMPFAIL
    assert "PostgreSQL cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_process_with_a_bad_environment_lists_every_problem(haulage: Haulage) -> None:
    environment = dict(haulage.system.environment) | {
        "REDIS_URL": "http://x",
        "LEASE_SECONDS": "0",
        "INBOX_DIR": "inbox",
    }
    for program in (["celery", "-A", "tasks.worker", "worker"], ["haulage", "tree", "--corp", "7"]):
        done = subprocess.run(
            [BIN / program[0], *program[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=PROJECT,
        )

        assert done.returncode != 0
        for name in ("REDIS_URL", "LEASE_SECONDS", "INBOX_DIR"):
            assert name in done.stderr


def test_a_worker_refuses_another_staging_in_one_sentence(haulage: Haulage) -> None:
    (haulage.installation.staging_dir / ".haulage-staging").write_text(
        "00000000-0000-0000-0000-000000000000\n"
    )

    haulage.system.start("worker", BIN / "celery", "-A", "tasks.worker", "worker", "-c", "1")

    assert haulage.system.processes.pop("worker").wait(30) != 0
    assert "belongs to another installation of Haulage" in haulage.log()
    assert "Traceback" not in haulage.log()


def test_a_second_database_cannot_take_over_a_staging(haulage: Haulage) -> None:
    haulage.installation.query("DELETE FROM corporate.staging_identity")

    done = run(haulage, "migrate")

    assert done.returncode == 2
    assert "is the staging of another database" in done.stderr
