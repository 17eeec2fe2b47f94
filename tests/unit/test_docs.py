"""What the documents say about settings, commands and reasons, against the code."""

import re

from app.cli.main import haulage
from app.settings import Settings
from local.home import PROJECT

OPERATING = (PROJECT / "docs" / "operating.md").read_text()


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", OPERATING, re.MULTILINE))

    assert documented == {name.upper() for name in Settings.model_fields}


def test_every_command_that_a_document_names_is_there() -> None:
    text = OPERATING + (PROJECT / "README.md").read_text()
    named = set(re.findall(r"`?haulage (\w+)\b", text))

    assert named & set(haulage.commands)
    assert set(re.findall(r"`haulage (\w+)", text)) <= set(haulage.commands)


def test_every_decision_that_is_referred_to_is_there() -> None:
    there = {path.name[:4] for path in (PROJECT / "docs" / "decisions").glob("*.md")}
    texts = [path.read_text() for path in (PROJECT / "pyproject.toml", PROJECT / "celeryconfig.py")]

    assert {number for text in texts for number in re.findall(r"docs/decisions/(\d{4})", text)} <= there


def test_every_code_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (PROJECT / "docs" / "problems.md").read_text()))
    # Nobody is told of these: they end a process, are never raised themselves, or never leave a worker.
    silent = {"unfit", "bad_settings", "refused", "failed", "setback", "not_examined", "lost_claim"}
    sources = [*(PROJECT / "app").glob("*.py"), *(PROJECT / "app" / "web").glob("*.py")]
    written = {code for file in sources for code in re.findall(r'code = "(\w+)"', file.read_text())}

    assert written - silent <= explained
    assert {"invalid_parameter", "worn_out", "deadline_exceeded", "worker_lost"} <= explained
