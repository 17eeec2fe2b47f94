"""A copy of app/forksafe.py in an empty project, with other versions than ours and no Haulage in sight."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url

from local.servers import Servers
from tests import environments

ROOT = Path(__file__).parents[2]
STACKS = [
    ("sqlalchemy-1.4", "psycopg2"),
    ("sqlalchemy-2.0", "psycopg2"),
    ("sqlalchemy-2.0", "psycopg"),
    ("sqlalchemy-2.1", "psycopg2"),
    ("sqlalchemy-2.1", "psycopg"),
]

each_stack = pytest.mark.parametrize(("stack", "driver"), STACKS, ids=map("-".join, STACKS))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "app" / "forksafe.py", tmp_path)
    shutil.copy(ROOT / "tests" / "taken_home" / "check_forksafe.py", tmp_path)
    return tmp_path


def check(project: Path, python: Path, driver: str, servers: Servers) -> "subprocess.CompletedProcess[str]":
    """Run the project's own test with its own interpreter: neither our directory nor our environment reaches it."""
    url = make_url(servers.owner_url).set(drivername=f"postgresql+{driver}")
    options = ("-q", "-rPf", "-W", "error", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider")
    return subprocess.run(
        [python, "-I", "-m", "pytest", *options, "check_forksafe.py"],
        cwd=project,
        env={"DATABASE_URL": url.render_as_string(hide_password=False), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@each_stack
def test_a_copy_passes_its_own_test(project: Path, stack: str, driver: str, servers: Servers) -> None:
    python = environments.interpreter(stack)

    ended = check(project, python, driver, servers)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^40 passed", ended.stdout, re.MULTILINE), "twenty with forksafe, and their controls"
    assert "bad record mac" in ended.stdout, "the controls fail by name"


@pytest.mark.prove
@pytest.mark.parametrize("version", environments.other_pythons() or [None])
@each_stack
def test_on_every_other_python(
    project: Path, version: str | None, stack: str, driver: str, servers: Servers
) -> None:
    if version is None:
        pytest.skip("this machine has one Python")
    if stack == "sqlalchemy-1.4" and not re.search(r"3\.1[12]\b", version):
        pytest.skip("SQLAlchemy 1.4 has no wheels after Python 3.12")
    python = environments.interpreter(stack, version)

    ended = check(project, python, driver, servers)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_copy_that_does_nothing_is_found_out(project: Path, servers: Servers) -> None:
    with (project / "forksafe.py").open("a") as copy:
        copy.write("\n\ndef install() -> None:\n    pass\n")

    ended = check(project, environments.interpreter("sqlalchemy-2.1"), "psycopg2", servers)

    failed = set(re.findall(r"^FAILED check_forksafe.py::(\S+)", ended.stdout, re.MULTILINE))
    assert failed
    assert not [name for name in failed if "control" in name], ended.stdout
