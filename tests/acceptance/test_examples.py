"""The projects under examples/: each breaks by name in a real prefork worker, and two lines cure it.

And the classic client of docs/from-the-article.md: every claim of that page.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from local.servers import Servers
from tests import environments
from tests.acceptance import evidence
from tests.acceptance.conftest import KNOWN_FAULTS, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLASSIC = re.compile(r"decryption failed or bad record mac|SSL SYSCALL error: EOF detected")
ANSWER = re.compile(r"succeeded in .*'session': (\d+), 'process': (\d+)")
TASKS = 40
TRIES = 5


@dataclass(frozen=True)
class Example:
    """A project: its folder, the module of its worker and the one that asks it."""

    folder: str
    worker: str
    asker: str


SHOP = Example("flask-sqlalchemy", "shop.worker", "shop.orders")
LEDGER = Example("module-engine", "ledger.worker", "ledger.entries")

each_example = pytest.mark.parametrize("example", [SHOP, LEDGER], ids=lambda example: example.folder)


@dataclass
class Running:
    """A worker of an example, made by that project's own interpreter, which knows nothing of Haulage."""

    example: Example
    directory: Path
    servers: Servers

    @property
    def environment(self) -> dict[str, str]:
        database = make_url(self.servers.owner_url).set(drivername="postgresql+psycopg2")
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": database.render_as_string(hide_password=False),
            "REDIS_URL": self.servers.redis_url,
        }

    @property
    def log(self) -> str:
        return (self.directory / "worker.log").read_text(errors="replace")

    @contextmanager
    def worker(self, *options: str) -> Iterator[int]:
        """Run a worker for the length of the block; yield its pid."""
        command = ("celery", "-A", self.example.worker, "worker", "-l", "info", "-c", "4", *options)
        with (self.directory / "worker.log").open("wb") as log:
            process = self._run(subprocess.Popen, *command, stdout=log, start_new_session=True)
        try:
            wait_until(lambda: " ready." in self.log or process.poll() is not None, "the worker is ready")
            assert process.poll() is None, self.log
            yield process.pid
            process.terminate()
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ask(self) -> tuple[int, str]:
        """Return the exit code and the words of the project's own judge."""
        ended = self._run(subprocess.run, self.example.asker, str(TASKS), stdout=-1, text=True, timeout=90)
        return ended.returncode, ended.stdout

    def _run(self, how: Callable[..., Any], *module: str, **options: object) -> Any:
        return how(
            [environments.interpreter("flask"), "-m", *module],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **options,
        )


@pytest.fixture
def running(example: Example, tmp_path: Path, servers: Servers) -> Running:
    theirs = shutil.ignore_patterns(".venv", "__pycache__")  # of somebody who tried it there
    shutil.copytree(EXAMPLES / example.folder, tmp_path, dirs_exist_ok=True, ignore=theirs)
    return Running(example, tmp_path, servers)


def cure(directory: Path) -> None:
    shutil.copy(ROOT / "app" / "forksafe.py", directory)
    patch = ["patch", "-p1", "-i"] if shutil.which("patch") else ["git", "apply"]
    subprocess.run([*patch, "cure.diff"], cwd=directory, check=True, capture_output=True)


@each_example
def test_the_project_as_it_is_breaks_by_name(running: Running, servers: Servers) -> None:
    port = evidence.port_of(servers.owner_url)

    for _ in range(TRIES):
        with running.worker() as pid:
            assert evidence.crossing(pid, port), "its children hold the parent's connection from the start"
            code, said = running.ask()
        if CLASSIC.search(said):
            break

    assert CLASSIC.search(said), f"not in {TRIES} tries: {said}"
    assert code == 1, "and its own judge says so"


@each_example
def test_two_lines_cure_it(running: Running, servers: Servers) -> None:
    port, server_log = evidence.port_of(servers.owner_url), servers.postgres_log
    began = server_log.stat().st_size
    cure(running.directory)

    with running.worker("--max-tasks-per-child", "5") as pid:
        crossing = [evidence.crossing(pid, port)]
        code, said = running.ask()
        crossing.append(evidence.crossing(pid, port))

    assert f"{TASKS} right, 0 wrong, 0 failed, 0 unanswered" in said
    assert code == 0, said
    answered = [(int(session), process) for session, process in ANSWER.findall(running.log)]
    assert len(answered) == TASKS
    assert evidence.used_by_several(answered) == {}
    assert crossing == [{}, {}]
    assert not KNOWN_FAULTS.search(running.log)
    assert not KNOWN_FAULTS.search(server_log.read_bytes()[began:].decode(errors="replace"))


@each_example
def test_the_cure_is_two_lines_and_a_file_that_is_not_kept_twice(example: Example) -> None:
    lines = (EXAMPLES / example.folder / "cure.diff").read_text().splitlines()
    changed = [line for line in lines if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}]

    assert changed == ["+import forksafe", "+forksafe.install()"]
    assert list(EXAMPLES.rglob("forksafe.py")) == []


# The classic client

ARTICLE = EXAMPLES / "from-the-article"
PAGE = (ROOT / "docs" / "from-the-article.md").read_text()
SCENARIOS = re.findall(r"^## `([a-z-]+)`", PAGE, re.MULTILINE)
LONG = [name for name in SCENARIOS if name not in {"overwritten", "child-count"}]


def show(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ARTICLE / "show.py", *names],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def holds_for(*names: str) -> None:
    done = show(*names)

    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        said = done.stdout.partition(f"\n{name}: ")[2].partition("\n\n")[0]
        assert "classic: " in said, "what goes wrong was seen"
        assert "Haulage: " in said, "and what Haulage makes of it"


@pytest.mark.prove
def test_two_files_of_one_name_and_a_count_are_as_the_article_says() -> None:
    holds_for("overwritten", "child-count")


@pytest.mark.prove
@pytest.mark.parametrize("name", LONG)
def test_everything_else_is_as_the_article_says(name: str) -> None:
    holds_for(name)


def test_the_article_has_every_scenario_that_can_be_shown_and_no_other() -> None:
    done = show("nothing of the kind")

    assert done.returncode == 2
    assert re.findall(r"there are (.*)", done.stderr) == [", ".join(sorted(SCENARIOS, key=done.stderr.index))]
    assert len(SCENARIOS) == len(done.stderr.partition("there are ")[2].split(","))


def test_the_article_shows_the_client_as_it_is() -> None:
    source = "\n".join(path.read_text() for path in sorted(ARTICLE.glob("classic/*.py")))

    quoted = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    assert len(quoted) > len(SCENARIOS)
    assert [code for code in quoted if code not in source] == []


def test_the_article_names_functions_that_are_there() -> None:
    named = re.findall(r"`((?:app|tasks)\.[\w.]+)`", PAGE)

    assert len(named) > 20
    for name in named:
        assert is_there(name), name


def is_there(name: str) -> bool:
    """True if the file of a module has a definition of what follows its name. Nothing is imported: a worker would begin."""
    parts = name.split(".")
    paths = [ROOT.joinpath(*parts[:length]).with_suffix(".py") for length in range(len(parts), 0, -1)]
    file = next(path for path in paths if path.is_file())
    rest = parts[len(file.relative_to(ROOT).with_suffix("").parts) :]
    source = file.read_text()
    return bool(rest) and all(re.search(rf"^ *(?:def|class) {one}\b", source, re.MULTILINE) for one in rest)


def test_the_article_quotes_figures_that_were_measured() -> None:
    measured = [ROOT / "docs" / "lab" / "table.md", ROOT / "docs" / "speed" / "tables.md"]
    known = {line for path in measured for line in path.read_text().splitlines()}

    quoted = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]

    assert len(quoted) == 7
    assert [line for line in quoted if line not in known] == []
    [ratio] = re.findall(r"stores (\d\.\d\d) of the small files", PAGE)
    assert f"| {ratio} |" in next(
        line for line in quoted if line.startswith("| 2 children, an engine per task")
    )
    [answers] = re.findall(r"(\d+) answers to somebody else", PAGE)
    assert f"| 36 | 11 | {answers} |" in next(line for line in reversed(quoted) if "do nothing" in line)
    forks = re.search(r"forks\n(\d,\d+) times, and counts (\d+) errors", PAGE)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert forks
    assert f"{forks[1]} forks" in readme
    assert f", {forks[2]} errors" in readme


def test_a_figure_that_nobody_measured_and_a_function_that_is_gone_are_found() -> None:
    assert not is_there("app.places.take_by_force")
    assert not is_there("app.drives.onedrive.OneDrive.guess")
    assert is_there("app.drives.onedrive.OneDrive.begin")
