"""A foreign client judges the simulator of Microsoft Graph: rclone, as its makers built it, with nothing switched off."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from local.home import PROJECT
from local.rclone import environment as rclone_environment
from tests.acceptance.conftest import wait_until
from tests.environments import interpreter
from tests.graph.launch import Simulator, running

MEBIBYTE = 1 << 20
GRID = 327_680
SIZES = {
    "empty": 0,
    "one": 1,
    "grid": GRID,
    "more": GRID + 1,
    "exact": 10 * MEBIBYTE,
    "large": 21 * MEBIBYTE + 3,
}
ODD_NAMES = (
    "#1 100%.txt",
    "it's & more; really=yes, a+b@c!$(d)[e]{f}^`",
    " leading and trailing ",
    "~tilde",
    "period.",
    'a"b*c:d<e>f?g\\h|i',
    "ünï çødé 日本 😀",
    ".hidden",
    "new\nline",
)
Rclone = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running("--resource-units=0", folder=tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_faults_left(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.control("DELETE faults")
    simulator.control("POST settings", page=1000, session_default="fail")
    simulator.control("DELETE requests")


@pytest.fixture
def drive(simulator: Simulator) -> str:
    return simulator.new_drive()


@pytest.fixture
def rclone(simulator: Simulator, drive: str, tmp_path: Path) -> Rclone:
    return client_of(simulator, drive, tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


def client_of(simulator: Simulator, drive: str, home: Path, **settings: str) -> Rclone:
    """Return rclone with a remote `library:`. It gets its tokens from the simulator, too, and trusts only its CA."""
    program = interpreter("rclone").parent / "rclone"
    environment = rclone_environment(simulator, home, drive_id=drive, **settings)

    def run(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == expect, (
            f"rclone {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    return run


def fill(folder: Path) -> None:
    """Make files of all sizes, a name of every odd kind, and folders in folders."""
    random = Random(11)
    (folder / "sub" / "deep er").mkdir(parents=True)
    for name, size in SIZES.items():
        (folder / f"{name}.bin").write_bytes(random.randbytes(size))
    for name in ODD_NAMES:
        (folder / "sub" / name).write_bytes(random.randbytes(100))
    (folder / "sub" / "deep er" / "small.bin").write_bytes(b"deep")


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def stored(simulator: Simulator, drive: str) -> list[str]:
    """Return the SHA-256 of every file that lies in the drive, from the bytes on disk."""
    return sorted(item["sha256"] for item in simulator.control("GET tree", drive=drive) if not item["folder"])


def test_files_of_all_sizes_and_names_arrive_and_come_back(
    simulator: Simulator, rclone: Rclone, drive: str, source: Path, tmp_path: Path
) -> None:
    fill(source)
    sent = contents(source)

    rclone("copy", source, "library:a folder/target")
    rclone("copy", "library:a folder/target", tmp_path / "back")

    assert stored(simulator, drive) == sorted(sent.values())
    assert contents(tmp_path / "back") == sent
    listed = rclone(
        "lsf",
        "--recursive",
        "--files-only",
        "--format=p",
        "--separator=\t",
        "--csv",
        "library:a folder/target",
    )
    assert sum(listed.stdout.count(f"{name}.bin") for name in SIZES) == len(SIZES)
    sessions = {one["name"]: one for one in simulator.control("GET sessions") if one["drive"] == drive}
    assert [fragment["kept"] for fragment in sessions["large.bin"]["fragments"]] == [
        10 << 20,
        10 << 20,
        (1 << 20) + 3,
    ]
    assert sessions["large.bin"]["received"] == SIZES["large"]
    assert "empty.bin" not in sessions


def test_rclone_finds_the_same_hashes(
    simulator: Simulator, rclone: Rclone, drive: str, source: Path, tmp_path: Path
) -> None:
    fill(source)
    rclone("copy", source, "library:")

    checked = rclone("check", source, "library:", "--combined=-")
    ours = {line.split("  ", 1)[1]: line.split("  ")[0] for line in hashes(rclone, source)}
    theirs = {line.split("  ", 1)[1]: line.split("  ")[0] for line in hashes(rclone, "library:")}

    assert {line[0] for line in checked.stdout.splitlines() if line[1:2] == " "} == {"="}
    assert "0 differences found" in checked.stderr
    assert "hashes could not be checked" not in checked.stderr
    assert ours == theirs
    assert len(ours) >= len(SIZES) + len(ODD_NAMES)

    # The same size, other bytes: only the hash can tell.
    simulator.control("POST put", drive=drive, path="one.bin", text="?")
    differs = rclone("check", source, "library:", expect=1)
    assert "1 differences found" in differs.stderr
    assert re.search(r"one\.bin: quickxor differ", differs.stderr)


def hashes(rclone: Rclone, of: str | Path) -> list[str]:
    return [
        line
        for line in rclone("hashsum", "quickxor", of).stdout.splitlines()
        if re.match(r"[0-9a-f]{40}  ", line)
    ]


def test_a_listing_by_pages_and_by_delta_is_complete(
    simulator: Simulator, rclone: Rclone, source: Path
) -> None:
    for number in range(12):
        folder = source / f"folder {number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"file {number}").write_bytes(b"x" * number)
    rclone("copy", source, "library:")
    simulator.control("POST settings", page=3)

    by_pages = sorted(
        rclone("lsf", "--recursive", "--files-only", "--format=ps", "library:").stdout.splitlines()
    )
    by_delta = sorted(
        rclone(
            "lsf", "--recursive", "--files-only", "--format=ps", "--onedrive-delta", "library:"
        ).stdout.splitlines()
    )

    expected = sorted(f"folder {number % 3}/file {number};{number}" for number in range(12))
    assert by_pages == by_delta == expected


def test_folders_and_files_are_made_moved_and_deleted(
    simulator: Simulator, rclone: Rclone, drive: str, source: Path
) -> None:
    (source / "a").write_bytes(b"first")

    def paths() -> list[str]:
        return sorted(item["path"] for item in simulator.control("GET tree", drive=drive))

    rclone("mkdir", "library:one/two/three")
    assert paths() == ["one", "one/two", "one/two/three"]

    rclone("copyto", source / "a", "library:one/two/b")
    rclone("moveto", "library:one/two/b", "library:one/c")
    assert paths() == ["one", "one/c", "one/two", "one/two/three"]

    assert rclone("cat", "library:one/c").stdout == "first"
    (source / "a").write_bytes(b"second, longer")
    assert (
        "nameAlreadyExists" in rclone("copyto", "--retries=1", source / "a", "library:one/C", expect=1).stderr
    )
    simulator.control("POST settings", session_default="replace")  # what rclone relies on
    rclone("copyto", source / "a", "library:one/C")
    assert rclone("cat", "library:one/c").stdout == "second, longer"
    assert rclone("cat", "--offset=8", "--count=4", "library:one/c").stdout == "long"
    assert "one/C" not in paths()

    rclone("touch", "--timestamp=2001-02-03T04:05:06", "library:one/c")
    assert "2001-02-03 04:05:06" in rclone("lsl", "library:one/c").stdout

    rclone("rmdir", "library:one/two/three")
    rclone("rmdir", "library:one", expect=1)
    rclone("deletefile", "library:one/c")
    rclone("purge", "library:one")
    assert paths() == []
    assert '"used": 0' in rclone("about", "--json", "library:").stdout.replace("\t", "")


@pytest.mark.parametrize(
    ("fault", "twice"),
    [
        ({"action": "cut", "when": "body", "bytes": 5_000_000}, 5_000_000),
        ({"action": "cut", "when": "before"}, 10 << 20),
        ({"action": "answer", "status": 503, "headers": {"Retry-After": "1"}}, 10 << 20),
        ({"action": "answer", "status": 502, "body": "<html>Bad Gateway</html>"}, 10 << 20),
    ],
)
def test_a_broken_fragment_is_sent_again(
    simulator: Simulator, rclone: Rclone, source: Path, fault: dict[str, object], twice: int
) -> None:
    since = last_session(simulator)
    data = broken(source)
    simulator.control("POST faults", method="PUT", path="uploadSession", nth=2, **fault)

    rclone("copy", source, "library:")

    [session] = simulator.control("GET sessions")[since:]
    assert session["received"] - len(data) == twice
    assert stored(simulator, session["drive"]) == [sha256(data).hexdigest()]


def test_after_a_partly_kept_fragment_rclone_starts_over(
    simulator: Simulator, rclone: Rclone, drive: str, source: Path
) -> None:
    """rclone 1.75.2 asks the upload URL where to go on with an Authorization header, and is refused as it should be."""
    since = last_session(simulator)
    data = broken(source)
    cut = {"action": "cut", "when": "body", "bytes": 5_000_000, "keep": 1_234_567}
    simulator.control("POST faults", method="PUT", path="uploadSession", nth=2, **cut)

    rclone("copy", source, "library:")

    first, second = simulator.control("GET sessions")[since:]
    assert [one["status"] for one in first["fragments"]] == [202, None]
    assert (first["state"], second["state"]) == ("cancelled", "finished")
    refused = [one for one in simulator.control("GET requests") if one["status"] == 401]
    assert [(one["method"], one["authorization"]) for one in refused] == [("GET", True)]
    assert stored(simulator, drive) == [sha256(data).hexdigest()]


def broken(source: Path) -> bytes:
    data = Random(3).randbytes(21 * MEBIBYTE)
    (source / "broken.bin").write_bytes(data)
    return data


def last_session(simulator: Simulator) -> int:
    return len(simulator.control("GET sessions"))


@pytest.mark.prove
def test_rclone_waits_as_long_as_a_throttle_says(tmp_path: Path, source: Path) -> None:
    for number in range(20):
        (source / f"{number}.txt").write_bytes(b"x" * number)
    tls = tmp_path / "tls"
    tls.mkdir()
    with running("--resource-units=40", folder=tls) as throttled:
        throttled.control("POST throttle", minute=2)

        client_of(throttled, throttled.drive, tmp_path)("copy", source, "library:")

        assert len(stored(throttled, throttled.drive)) == 20
        assert 429 in {record["status"] for record in throttled.control("GET requests")}


def test_wrong_credentials_and_missing_permissions_are_told(
    simulator: Simulator, drive: str, source: Path, tmp_path: Path
) -> None:
    (source / "a").write_bytes(b"bytes")
    simulator.control("POST client", id="reader", secrets={"secret": None}, roles=["Sites.Read.All"])

    wrong = client_of(simulator, drive, tmp_path, client_secret="wrong")("lsf", "library:", expect=1)
    reader = client_of(simulator, drive, tmp_path, client_id="reader", client_secret="secret")
    refused = reader("copy", "--retries=1", source, "library:", expect=1)

    assert "invalid_client" in wrong.stderr
    assert reader("lsf", "library:").stdout == ""
    assert "accessDenied" in refused.stderr
    assert stored(simulator, drive) == []


def test_an_altered_office_file_is_noticed_as_its_users_report(
    simulator: Simulator, source: Path, tmp_path: Path
) -> None:
    """rclone#2599: "corrupted on transfer: sizes differ" with a document library, and not with OneDrive for Business."""
    library = simulator.new_drive(type="documentLibrary")
    (source / "a.docx").write_bytes(b"a small document")

    failed = client_of(simulator, library, tmp_path, drive_type="documentLibrary")(
        "copy", "--retries=1", source, "library:", expect=1
    )
    client_of(simulator, simulator.new_drive(), tmp_path)("copy", source, "library:")

    assert "corrupted on transfer: sizes differ" in failed.stderr


def test_make_simulator_says_what_rclone_and_haulage_need(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as told:
        command = [sys.executable, "-m", "local.simulate"]
        started = subprocess.Popen(command, cwd=PROJECT, stdout=told, stderr=told, start_new_session=True)
    try:
        wait_until(lambda: "Ctrl-C" in output.read_text() or started.poll() is not None, "it is up")
        said = output.read_text()
        [environment] = re.findall(r"\. (\S+/environment)", said)
        [requests] = re.findall(r"curl .+", said)

        def run(line: str) -> str:
            nowhere = {
                "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
                "REDIS_URL": "redis://127.0.0.1:1",
            }
            folders = {"STAGING_DIR": str(tmp_path), "INBOX_DIR": str(tmp_path)}
            done = subprocess.run(
                ["sh", "-ec", f". {environment}; {line}"],
                env=os.environ | nowhere | folders,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        assert "BAD" not in run("haulage drive test library")
        assert run("rclone lsf -R library:").split() == ["Haulage/", "Haulage/0/"]
        assert "rclone/" in run(requests)
    finally:
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 0, output.read_text()
    assert not Path(environment).exists()
