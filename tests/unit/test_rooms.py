"""The order of imports. A module may import only those that stand in a row above its own; a new one needs its row."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LADDER = (
    # These know nothing of the others.
    ("app.errors", "app.models", "app.forksafe", "app.queue", "app.logs", "app.quickxor"),
    ("app.forkdoctor", "app.forkprobe", "app.forkkeeper"),  # copied to where nothing of ours is
    ("app.names", "app.settings", "app.staging", "app.graph", "app.vault"),
    ("app.drive_settings",),
    ("app.inbox", "app.walk", "app.drives.base", "app.database", "app.checkup"),
    ("app.drives.verification",),
    (
        "app.drives.filesystem",
        "app.drives.onedrive",
        "app.transfer",
        "app.catalogue",
        "app.tokens",
        "app.schema",
    ),
    ("app.drives.registry", "app.drives.trial", "app.pauses"),
    ("app.uploads", "app.deliveries", "app.readiness", "app.tallies", "app.adoption", "app.asked"),
    ("app.steering", "app.listing", "app.figures"),
    (
        "app.overdue",
        "app.places",
        "app.folders",
        "app.upkeep",
        "app.results",
        "app.verify",
        "app.diagnosis",
        "app.means",
    ),
    ("app.wake", "app.start", "app.endings"),
    ("app.watch",),
    ("app.attempt",),
    ("app.intake",),
    ("app.migrations", "app.web", "app.cli"),
    ("tasks.shutdown", "tasks.flower", "tasks.quiet", "tasks.transport"),
    ("tasks.means", "tasks.patience"),
    ("tasks.uploads", "tasks.catalogue", "tasks.upkeep"),
    ("tasks.worker",),
)
# These have a ladder of their own, inside.
PACKAGES = ("app.adoption", "app.graph", "app.diagnosis", "app.migrations", "app.web", "app.cli")
READ_SETTINGS = (
    "app.settings",
    "app.drive_settings",
    "app.database",
    "app.web",
    "app.cli",
    "tasks",
    "celeryconfig",
)
OURS = {"app", "tasks", "local", "tests", "benchmarks", "examples", "celeryconfig"}
# Who may know whose world.
WORLDS = {
    "fastapi": ("app.web",),
    "starlette": ("app.web",),
    "click": ("app.cli",),
    "celery": ("app.queue", "tasks"),
    "kombu": ("app.queue", "tasks", "celeryconfig"),
    "psycopg2": ("app.database",),
    "requests": ("app.graph",),
    "msal": ("app.graph",),
    "alembic": ("app.schema", "app.migrations"),
}


@cache
def modules() -> dict[str, Path]:
    files = [*ROOT.glob("app/**/*.py"), *ROOT.glob("tasks/**/*.py"), ROOT / "celeryconfig.py"]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for file in sorted(files)
        if file.name != "__init__.py"
    }


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def imported(module: str) -> set[str]:
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            whole = {f"{node.module}.{one.name}" for one in node.names}
            found |= {one if one in modules() else str(node.module) for one in whole}
    return found


def place(module: str) -> str:
    """The name under which a module stands in the ladder."""
    return next((package for package in PACKAGES if f"{module}.".startswith(f"{package}.")), module)


def level(module: str) -> int:
    return next(number for number, row in enumerate(LADDER) if place(module) in row)


def is_one_of(module: str, places: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{one}.") for one in places)


def test_every_module_has_its_row() -> None:
    standing = {name for row in LADDER for name in row}

    assert {place(name) for name in modules()} - {"celeryconfig"} == standing


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    ours = {name for name in imported(module) if name.split(".")[0] in OURS}
    if module == "celeryconfig":
        assert ours == {"app.settings", "app.database"}
        return

    wrong = {
        name
        for name in ours
        if name.split(".")[0] not in {"app", "tasks"}
        or (place(name) != place(module) and level(name) >= level(module))
    }

    assert wrong == set()


def test_the_application_knows_nothing_of_its_tasks_its_tests_or_the_local_servers() -> None:
    foreign = {
        (module, name)
        for module in modules()
        for name in imported(module)
        if name.split(".")[0] in OURS - {"app"} and not module.startswith("tasks.")
    }

    assert foreign == set()


@pytest.mark.parametrize("name", ["forksafe", "forkdoctor", "forkprobe", "forkkeeper"])
def test_what_is_copied_elsewhere_imports_nothing_of_ours(name: str) -> None:
    assert {one for one in imported(f"app.{name}") if one.split(".")[0] in OURS} == set()


def test_nobody_imports_the_worker() -> None:
    assert [module for module in modules() if "tasks.worker" in imported(module)] == []


@pytest.mark.parametrize("world", WORLDS)
def test_a_foreign_world_is_known_to_its_own_modules_alone(world: str) -> None:
    strangers = [
        module
        for module in modules()
        if not is_one_of(module, WORLDS[world])
        and any(is_one_of(name, (world,)) for name in imported(module))
    ]

    assert strangers == []


def test_the_init_files_are_empty() -> None:
    folders = ("app", "tasks", "tests", "local")

    full = [file for folder in folders for file in ROOT.glob(f"{folder}/**/__init__.py") if file.read_bytes()]

    assert full == []


@pytest.mark.parametrize("module", modules())
def test_no_import_stands_inside_a_function(module: str) -> None:
    functions = [
        node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    hidden = [
        inner.lineno
        for function in functions
        for inner in ast.walk(function)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]

    assert hidden == []


@pytest.mark.parametrize("module", modules())
def test_every_module_opens_with_its_sentence(module: str) -> None:
    assert ast.get_docstring(tree(module))


def test_only_the_entries_read_the_settings() -> None:
    readers = {
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "settings"
    }

    assert {one for one in readers if not is_one_of(one, READ_SETTINGS)} == set()


def test_only_the_database_module_makes_an_engine() -> None:
    makers = {
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Name) and node.id == "create_engine"
    }

    assert makers == {"app.database"}


def test_importing_anything_opens_no_socket_and_makes_no_engine() -> None:
    names = [name for name in modules() if not name.startswith("app.migrations")]
    program = f"""
import socket, socketserver
def refuse(*_, **__):
    raise AssertionError("a socket was opened on import")
socket.socket.connect = refuse
socket.socket.bind = refuse
import sqlalchemy, psycopg2
psycopg2.connect = refuse
import sqlalchemy.engine.base as base
made = []
init = base.Engine.__init__
base.Engine.__init__ = lambda *a, **k: (made.append(a), init(*a, **k))[1]
import importlib
for name in {names!r}:
    importlib.import_module(name)
assert not made, made
from app import database
assert "engine" not in database._process
"""
    environment = os.environ | {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STAGING_DIR": "/nonexistent/staging",
        "INBOX_DIR": "/nonexistent/inbox",
        "DRIVE_DIR": "/nonexistent/drive",
    }

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("module", ["app.errors", "app.names", "app.settings", "app.models", "app.staging"])
def test_the_lower_modules_can_be_imported_without_an_environment(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_URL", "_DIR"))}

    ended = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, env=environment, check=False)

    assert ended.returncode == 0
