"""What the documents say about settings, commands and reasons, against the code."""

import re

import pytest

from app.cli.main import haulage
from app.settings import Settings
from local.home import PROJECT
from tests.commands import check_command, commands_in

OPERATING = (PROJECT / "docs" / "operating.md").read_text()


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", OPERATING, re.MULTILINE))

    assert documented == {name.upper() for name in Settings.model_fields}


def test_every_command_that_a_document_names_is_there() -> None:
    text = OPERATING + (PROJECT / "README.md").read_text()
    named = set(re.findall(r"`?haulage (\w+)\b", text))

    assert named & set(haulage.commands)
    assert set(re.findall(r"`haulage (\w+)", text)) <= set(haulage.commands)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{page} {' '.join(words)}")
        for page in ("README.md", "docs/operating.md", "docs/doctor.md", "docs/installation-doctor.md")
        for words in commands_in((PROJECT / page).read_text())
    ],
)
def test_every_command_of_a_page_is_one_that_its_program_knows(words: list[str]) -> None:
    check_command(words)


@pytest.mark.parametrize(
    "page",
    [
        "```\nhaulage uplaod x --corp 7\n```",
        "Say `haulage status\n--crop 7`.",
        "`A=b celery -A tasks.worker werker`",
    ],
)
def test_a_command_that_nobody_knows_is_found(page: str) -> None:
    [words] = commands_in(page)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(words)


def test_every_decision_that_is_referred_to_is_there() -> None:
    there = {path.name[:4] for path in (PROJECT / "docs" / "decisions").glob("*.md")}
    texts = [path.read_text() for path in (PROJECT / "pyproject.toml", PROJECT / "celeryconfig.py")]

    assert {number for text in texts for number in re.findall(r"docs/decisions/(\d{4})", text)} <= there


def test_every_code_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (PROJECT / "docs" / "problems.md").read_text()))
    # Nobody is told of these: they end a process, are never raised themselves, or never leave a worker.
    silent = {
        "unfit",
        "bad_settings",
        "refused",
        "failed",
        "setback",
        "not_examined",
        "lost_claim",
        "drive_halted",
        "drive_pauses",
    }
    sources = [*(PROJECT / "app").glob("*.py"), *(PROJECT / "app" / "web").glob("*.py")]
    written = {code for file in sources for code in re.findall(r'code = "(\w+)"', file.read_text())}

    assert written - silent <= explained
    assert {"invalid_parameter", "worn_out", "deadline_exceeded", "worker_lost"} <= explained
