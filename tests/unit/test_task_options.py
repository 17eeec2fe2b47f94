"""Celery accepts any keyword of a task's decorator and forgets it; here an unknown one is an error."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Task

from app import queue

ROOT = Path(__file__).parents[2]
OF_THE_DECORATOR = {"name", "bind", "base", "shared", "lazy"}


def decorators(source: str) -> list[ast.expr]:
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [
        one
        for function in functions
        for one in function.decorator_list
        if ast.unparse(one).startswith(("queue.celery.task", "shared_task", "app.task", "celery.task"))
    ]


def unknown_options(source: str) -> list[str]:
    """Name the keywords that Celery would take without a word and never look at."""
    calls = [one for one in decorators(source) if isinstance(one, ast.Call)]
    return [
        str(keyword.arg)
        for call in calls
        for keyword in call.keywords
        if keyword.arg not in OF_THE_DECORATOR and not hasattr(Task, str(keyword.arg))
    ]


@pytest.mark.parametrize("file", sorted(ROOT.glob("tasks/*.py")), ids=lambda file: file.name)
def test_celery_knows_every_option_of_every_task(file: Path) -> None:
    assert unknown_options(file.read_text()) == []


def test_a_misspelt_option_is_found() -> None:
    source = "@queue.celery.task(name='x', ack_late=True, priority=3)\ndef task(): ...\n"

    assert unknown_options(source) == ["ack_late"]


@pytest.mark.parametrize("file", sorted(ROOT.glob("tasks/*.py")), ids=lambda file: file.name)
def test_every_task_takes_its_name_from_the_queue(file: Path) -> None:
    for one in decorators(file.read_text()):
        assert isinstance(one, ast.Call)
        named = {keyword.arg: ast.unparse(keyword.value) for keyword in one.keywords}
        assert named["name"].startswith("queue.")


@pytest.mark.parametrize("file", sorted(ROOT.glob("tasks/*.py")), ids=lambda file: file.name)
def test_no_task_retries_by_itself(file: Path) -> None:
    for option in ("autoretry_for", "max_retries", ".retry(", "countdown", "eta="):
        assert option not in file.read_text()


def test_every_name_in_the_queue_is_a_task_of_the_worker() -> None:
    ours = {
        value for name, value in vars(queue).items() if name.isupper() and str(value).startswith("tasks.")
    }
    environment = os.environ | {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STAGING_DIR": "/srv/staging",
        "INBOX_DIR": "/srv/inbox",
        "DRIVE_DIR": "/srv/drive",
    }
    program = (
        "from tasks.worker import app\napp.loader.import_default_modules()\n"
        "print('\\n'.join(name for name in app.tasks if not name.startswith('celery.')))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert set(ended.stdout.split()) == ours
