"""The commands in this process: what they write as JSON, and what they refuse. As programs: tests/acceptance/test_programs.py."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import psycopg2
import pytest
from click.testing import CliRunner, Result

from app.cli import steer
from app.cli.main import haulage, main
from app.cli.send import _tell_waits
from app.errors import BadName, CorporationUnknown, NotFound
from app.models import State
from tests.factories import attempt_at, claimed, make_means, make_upload, row, set_columns
from tests.installation import CORP, Installation

CORPORATION = ("--corp", str(CORP))


@pytest.fixture(autouse=True)
def _as_on_a_terminal(installation: Installation) -> Iterator[None]:
    yield
    installation.forget_process_state()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(haulage, [str(one) for one in arguments], catch_exceptions=False)


def as_json(*arguments: object, code: int = 0) -> Any:
    ended = run(*arguments, "--json")
    assert ended.exit_code == code, ended.output
    return json.loads(ended.stdout)


def fail(installation: Installation, upload_id: UUID) -> None:
    set_columns(installation, upload_id, state="'failed'", reason="'worn_out'", finished_at="now()")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


@pytest.mark.parametrize(
    ("name", "command"), [one for one in commands(haulage) if one[0] not in {"flower", "completion"}]
)
def test_every_command_can_write_json(name: str, command: click.Command) -> None:
    assert any("--json" in option.opts for option in command.params), name


def test_a_file_is_handed_in(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")

    told = as_json("upload", tmp_path / "a.txt", tmp_path / "no.txt", *CORPORATION, "--no-wait", code=1)

    ((upload_id, path),) = told["accepted"].items()
    assert row(UUID(upload_id)).name == "a.txt"
    assert path == str(tmp_path / "a.txt")
    assert [(one["path"], one["upload_id"]) for one in told["failures"]] == [(str(tmp_path / "no.txt"), None)]


def test_what_failed_after_it_was_accepted_is_not_counted_as_stored(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).write_bytes(name.encode())

    def decide(_seconds: float) -> None:
        """Take the workers' place while the command waits."""
        for upload_id, name in installation.query(
            "SELECT id, name FROM corporate.uploads WHERE state = 'queued'"
        ):
            if name == "good":
                attempt_at(UUID(str(upload_id)), make_means(installation))
            else:
                fail(installation, UUID(str(upload_id)))

    monkeypatch.setattr("app.cli.send.time.sleep", decide)

    ended = run("upload", tmp_path / "good", tmp_path / "bad", *CORPORATION)

    assert ended.exit_code == 1
    assert "1 stored, 1 failed" in ended.stdout
    assert f"{tmp_path / 'bad'}: failed (upload " in ended.stderr


def test_status_tells_of_all_and_of_one(installation: Installation) -> None:
    upload_id = make_upload(installation)
    fail(installation, make_upload(installation, name="bad"))

    summary = as_json("status", *CORPORATION)
    one = as_json("status", upload_id, *CORPORATION)

    assert summary["uploads"] == {"queued": 1, "failed": 1}
    assert [failed["name"] for failed in summary["failed"]] == ["bad"]
    assert (one["id"], one["state"], one["transferred"]) == (str(upload_id), "queued", 0)


def test_status_tells_why_uploads_wait(installation: Installation) -> None:
    for name in ("a", "b"):
        waiting = make_upload(installation, name=name)
        set_columns(installation, waiting, reason="'drive_unavailable'", message="'nobody is there'")

    told = as_json("status", *CORPORATION)["waiting"]

    assert told == [{"number": 2, "reason": "drive_unavailable", "message": "nobody is there"}]
    assert "waiting, 2: drive_unavailable: nobody is there" in run("status", *CORPORATION).stdout


def test_who_waits_for_an_upload_is_told_what_it_waits_for(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    polls: list[float] = []

    def go_by(seconds: float) -> None:
        polls.append(seconds)
        [[upload_id]] = installation.query("SELECT id FROM corporate.uploads")
        if len(polls) < 3:
            set_columns(installation, upload_id, reason="'drive_full'", message="'make room'")
        else:
            attempt_at(UUID(str(upload_id)), make_means(installation))

    monkeypatch.setattr("app.cli.send.time.sleep", go_by)

    ended = run("upload", tmp_path / "a.txt", *CORPORATION)

    assert ended.exit_code == 0
    assert ended.stderr.count("Waiting: drive_full: make room. The files are safe") == 1


def test_a_reason_is_found_among_many_that_wait_for_their_turn(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    uploads = [make_upload(installation, name=f"{number}") for number in range(25)]
    set_columns(installation, uploads[-1], reason="'drive_unavailable'", message="'nobody is there'")

    _tell_waits(uploads, set())

    assert "Waiting: drive_unavailable: nobody is there" in capsys.readouterr().err


def test_status_tells_speed_and_time_left(installation: Installation) -> None:
    upload_id = make_upload(installation, b"x" * 3 * 2**20)
    claimed(upload_id)
    set_columns(
        installation, upload_id, sent=str(2**20), sent_at="now()", began_at="now() - interval '1 second'"
    )

    told = as_json("status", upload_id, *CORPORATION)

    assert told["bytes_per_second"] == pytest.approx(2**20, rel=0.01)
    assert told["seconds_left"] == pytest.approx(2, rel=0.01)
    assert f"{2**20} (1.0 MiB/s, 2 s left)" in run("status", upload_id, *CORPORATION).stdout
    assert "(1.0 MiB/s, 2 s left)" in run("uploads", *CORPORATION).stdout


def test_uploads_are_listed(installation: Installation) -> None:
    for name in ("a", "b"):
        make_upload(installation, name=name)
    fail(installation, make_upload(installation, name="bad\x1b[2J"))

    assert [one["name"] for one in as_json("uploads", *CORPORATION)] == ["bad\x1b[2J", "b", "a"]
    assert [one["name"] for one in as_json("uploads", *CORPORATION, "--state", "queued", "--limit", 1)] == [
        "b"
    ]
    assert "\\u001b[2J" in run("uploads", *CORPORATION).stdout


@pytest.mark.parametrize("number", [4, 5])
def test_all_uploads_are_listed_however_many_there_are(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("app.cli.look.PAGE", 2)
    for one in range(number):
        make_upload(installation, name=f"{one}")

    listed = as_json("uploads", *CORPORATION, "--all")

    assert [one["name"] for one in listed] == [f"{one}" for one in reversed(range(number))]
    assert len(run("uploads", *CORPORATION, "--all").stdout.splitlines()) == number


def test_failed_uploads_are_queued_again(installation: Installation) -> None:
    failed = [make_upload(installation, name=f"{number}") for number in range(3)]
    for upload_id in failed:
        fail(installation, upload_id)
    waiting = make_upload(installation, name="waits")

    one = as_json("retry", failed[0], waiting, *CORPORATION, code=1)
    rest = as_json("retry", "--all", *CORPORATION)

    assert one["done"] == [str(failed[0])]
    assert list(one["failures"]) == [str(waiting)]
    assert (sorted(rest["retried"]), rest["left"]) == (sorted(map(str, failed[1:])), 0)
    assert {row(upload_id).state for upload_id in failed} == {State.QUEUED}


def test_what_fails_again_while_all_are_retried_is_retried_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [make_upload(installation, name=f"{number}") for number in range(3)]
    for upload_id in failed:
        fail(installation, upload_id)
    real, batches = steer._retry_some, []

    def retry_some(*arguments: Any) -> list[UUID]:
        batches.append(real(*arguments))
        assert len(batches) < 10, "it goes on for ever"
        for upload_id in batches[-1]:  # in the workers' place
            fail(installation, upload_id)
        return batches[-1]

    monkeypatch.setattr("app.steering.RETRIED_AT_A_TIME", 2)
    monkeypatch.setattr("app.cli.steer._retry_some", retry_some)

    told = as_json("retry", "--all", *CORPORATION)

    assert (sorted(told["retried"]), told["left"]) == (sorted(map(str, failed)), 0)


def test_uploads_are_cancelled(installation: Installation) -> None:
    upload_id = make_upload(installation)

    assert as_json("cancel", upload_id, *CORPORATION) == {"done": [str(upload_id)], "failures": {}}
    assert run("cancel", upload_id, *CORPORATION).exit_code == 1


def test_a_folder_is_made(installation: Installation) -> None:
    assert as_json("mkdir", "a/b", *CORPORATION) == {"id": f"{CORP}/a/b", "new": True}
    assert "was there" in run("mkdir", "A/b/", *CORPORATION).stdout
    with pytest.raises(BadName):
        run("mkdir", "/", *CORPORATION)


def test_the_tree_is_told(installation: Installation) -> None:
    attempt_at(make_upload(installation, name="x", folder=("a",)), make_means(installation))

    told = as_json("tree", *CORPORATION)

    assert (told["child_count"], [one["name"] for one in told["children"]]) == (1, ["a"])
    (file,) = told["children"][0]["children"]
    assert (file["name"], file["kind"], file["size"]) == ("x", "file", 7)
    assert "children" not in as_json("tree", *CORPORATION, "--depth", 1)["children"][0]


def test_verify_tells_what_differs(installation: Installation) -> None:
    attempt_at(make_upload(installation, name="x"), make_means(installation))
    good = as_json("verify", *CORPORATION)
    (installation.drive_dir / str(CORP) / "x").write_bytes(b"changed")

    assert (good["files"], good["problems"]) == (1, [])
    assert len(as_json("verify", *CORPORATION, code=1)["problems"]) == 1


def test_tokens_are_made_listed_and_revoked(installation: Installation) -> None:
    made = as_json("token", "create", *CORPORATION, "--label", "app", "--days", 3)["token"]
    operators = as_json("token", "create", "--operator")["token"]

    known = as_json("token", "list")
    as_json("token", "revoke", known[0]["id"])

    assert made.startswith("haulage_")
    assert operators != made
    assert [(one["corp_index"], one["label"]) for one in known] == [(CORP, "app"), (None, "")]
    shown = run("token", "list").stdout
    assert f"corporation {CORP}  app  revoked" in shown
    assert "operator" in shown
    assert made not in shown
    with pytest.raises(NotFound, match="token list"):
        run("token", "revoke", "00000000-0000-0000-0000-000000000000")


@pytest.mark.parametrize("options", [(), ("--operator", *CORPORATION)])
def test_a_token_is_somebodys(installation: Installation, options: tuple[str, ...]) -> None:
    assert run("token", "create", *options).exit_code == 2


def test_corporations_are_added_and_listed(installation: Installation) -> None:
    assert as_json("corp", "add", 9, "Nine") == {"corp_index": 9, "root_id": "9", "drive": "filesystem"}
    assert [one["corp_index"] for one in as_json("corp", "list")] == [CORP, 9]


def test_an_unknown_corporation_is_refused_by_every_command(installation: Installation) -> None:
    for command in ("status", "uploads", "tree", "verify"):
        with pytest.raises(CorporationUnknown):
            run(command, "--corp", 12345)


def test_migrating_tells_the_revision_and_the_staging(installation: Installation) -> None:
    told = as_json("migrate")

    assert told["staging"] == str(installation.staging_dir)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str) -> None:
    assert "_HAULAGE_COMPLETE" in run("completion", shell).stdout


def test_what_a_shell_asks_for_is_completed() -> None:
    ended = CliRunner().invoke(
        haulage,
        [],
        env={"_HAULAGE_COMPLETE": "bash_complete", "COMP_WORDS": "haulage ret", "COMP_CWORD": "1"},
        prog_name="haulage",
    )

    assert "retry" in ended.stdout


def program(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["haulage", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_password_that_was_taken_for_a_host_is_not_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:beginning@ending@127.0.0.1/db?sslmode=disable")
    installation.forget_process_state()

    code = program(monkeypatch, "uploads", *CORPORATION)

    told = capsys.readouterr().err
    assert (code, "cannot be reached" in told, "***" in told) == (os.EX_TEMPFAIL, True, True)
    assert "ending" not in told


def test_who_is_held_up_is_told_so(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(psycopg2.connect(installation.environment["OWNER_DATABASE_URL"])) as busy:
        busy.cursor().execute("LOCK TABLE corporate.uploads IN ACCESS EXCLUSIVE MODE")
        code = program(monkeypatch, "uploads", *CORPORATION)

    assert code == os.EX_TEMPFAIL
    assert "somebody else's transaction is in the way" in capsys.readouterr().err
