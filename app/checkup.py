"""Starts another project's worker on a throw-away queue, with our probe in it, and judges what the probe finds there."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import forkkeeper, forkprobe
from app.errors import NotExamined

OURS = Path(forkprobe.__file__).parents[1]
UNFOLLOWED = f"its driver cannot be followed; {forkprobe.LOOK_FROM_OUTSIDE}"
START_SECONDS = 60  # to import the project, again to start its worker, and again for the probes to come back
END_SECONDS = 45  # longer than the keeper takes at worst
GIVE_ANOTHER = "give the interpreter of the project's environment with --python"
NEEDED = "import sys; sys.path[:] = filter(None, sys.path); import celery; print(*sys.version_info[:2], celery.__version__)"


@dataclass(frozen=True)
class Patient:
    """A project: `module:attribute` of its Celery app, its interpreter, and the directory that it is run in."""

    app: str
    python: Path
    directory: Path

    def check(self) -> None:
        """Raise NotExamined unless there is a name, a directory, and an interpreter that has Celery 5."""
        if not self.app.partition(":")[0].strip():
            raise NotExamined("--app wants MODULE:APP, as for `celery -A`")
        if not self.directory.is_dir():
            raise NotExamined(f"there is no directory {self.directory}")
        asked = self._ask()
        answer = re.search(r"(?:^|\s)(\d+) (\d+) (\d+)(\S*)\s*$", asked.stdout)
        if asked.returncode != 0 or not answer:
            raise NotExamined(f"{self.python} {_why_not(asked.stderr)}: {GIVE_ANOTHER}")
        major, minor, celery, rest = answer.groups()
        if (int(major), int(minor)) < (3, 8) or int(celery) < 5:
            found = f"Python {major}.{minor} with Celery {celery}{rest}"
            raise NotExamined(f"{self.python} is {found}; the doctor needs 3.8 and 5.0")

    def _ask(self) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.python, "-c", NEEDED],
                cwd=self.directory,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                check=False,
            )
        except OSError as error:
            raise NotExamined(f"{self.python} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise NotExamined(f"{self.python} did not answer within {START_SECONDS} s") from error


@dataclass
class Findings:
    """What was found, in the order of weight: faults at work, faults that wait, and what is merely noted."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    children: int = 0
    replaced: int = 0  # of these children, those that were forked later, in the place of others
    engines: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.faults:
            return "fault"
        if self.waiting:
            return "fault waits"
        if self.errors:
            return "could not look"
        return "sound" if self.engines or self.notes else "nothing to judge"


class Checkup:
    """A project's worker under our keeper, on a queue whose name is its token."""

    def __init__(self, patient: Patient, folder: Path) -> None:
        self.token = f"haulage-doctor-{secrets.token_hex(8)}"
        self._folder, self._read = folder, 0
        names = [folder / f"haulage_{one}_{secrets.token_hex(4)}.py" for one in ("keeper", "probe")]
        for module, copy in zip((forkkeeper, forkprobe), names, strict=True):
            shutil.copyfile(str(module.__file__), copy)
        with (folder / "log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [patient.python, *names, folder, self.token, patient.app, patient.directory],
                cwd=patient.directory,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C comes to us alone
            )
        self.found: list[dict[str, Any]] = []

    def wait_for_import(self) -> str:
        """Wait until the project is imported and its broker answered; return the broker's URL without a password."""
        imported = self._wait("imported", 1, "the project was imported")
        return str(imported[0]["broker"])

    def examine(self) -> Findings:
        """Let the worker start, wait for its probes, and judge. Raises NotExamined."""
        assert self._keeper.stdin is not None  # noqa: S101  for the type checker
        with suppress(BrokenPipeError):
            self._keeper.stdin.write(b"go\n")
            self._keeper.stdin.flush()
        self._wait("ready", 1, "the worker was ready")
        self._wait("looked", forkprobe.PROBES, "every probe had come back")
        return judge(self.found)

    def end(self) -> None:
        """End the worker, and wait until its queue is deleted."""
        assert self._keeper.stdin is not None  # noqa: S101  for the type checker
        with suppress(BrokenPipeError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._keeper.pid, signal.SIGKILL)  # the worker dies with it
            self._keeper.wait()

    def _wait(self, kind: str, number: int, what: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + START_SECONDS
        while True:
            ended = self._keeper.poll() is not None  # asked before reading: then nothing is missed
            self._read_on()
            if refused := [one for one in self.found if one["kind"] == "refused"]:
                raise NotExamined(_refusal(refused[0]))
            here = [one for one in self.found if one["kind"] == kind]
            if len(here) >= number:
                return here
            if ended:
                raise NotExamined(f"the project's worker ended before {what}; {self._log()}")
            if time.monotonic() > deadline:
                raise NotExamined(f"{START_SECONDS} s were not enough until {what}; {self._log()}")
            time.sleep(0.05)

    def _read_on(self) -> None:
        with suppress(FileNotFoundError), (self._folder / "findings").open() as file:
            file.seek(self._read)
            for line in file.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    self._read += len(line.encode())
                    self.found.append(json.loads(line))

    def _log(self) -> str:
        log = forkprobe.without_passwords((self._folder / "log").read_text(errors="replace"))
        lines = [line for line in log.splitlines() if line.strip()] or ["(it wrote none)"]
        if "Traceback (most recent call last):" in lines and not lines[-1].startswith((" ", "[")):
            return f"{lines[-1]} (does a file of the project bear a library's name?)"
        return "the last lines of its log:\n  " + "\n  ".join(lines[-6:])


@contextmanager
def checkup(patient: Patient) -> Iterator[Checkup]:
    """Import a project that was checked, in its own interpreter; nothing of it is left after the block."""
    folder = Path(tempfile.mkdtemp(prefix="haulage-doctor-"))
    try:
        made = Checkup(patient, folder)
        try:
            yield made
        finally:
            made.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def judge(found: list[dict[str, Any]]) -> Findings:
    """Turn the probe's lines into findings, one for each place in the code."""
    looked = [one for one in found if one["kind"] == "looked"]
    made = Findings(children=len({one["pid"] for one in looked}))
    made.replaced = len({one["pid"] for one in looked if one["fork"] > forkprobe.CHILDREN})
    blamed = {
        _add(made.faults, one, one["connection"], said=one["said"], said_at=one["said_at"])
        for one in found
        if one["kind"] == "spoke"
    }
    for one in looked:
        blamed |= {_add(made.faults, one, each) for engine in one["tried"] for each in engine["handed"]}
        blamed |= {_add(made.waiting, one, each) for each in one["held"]}
        made.errors += [f"{each['engine']}: {each['error']}" for each in one["tried"] if "error" in each]
        made.errors += [
            f"a connection to {each['server']} crossed the fork: {UNFOLLOWED}" for each in one["strangers"]
        ]
    for one in looked:
        for connection in one["left"]:
            if connection["socket"] not in blamed:
                _add(made.notes, one, connection)
    made.engines = sorted({each["engine"] for one in looked for each in one["tried"]})
    made.errors = sorted(set(made.errors))
    return made


def _add(to: list[dict[str, Any]], line: dict[str, Any], connection: dict[str, Any], **what: Any) -> int:
    """Add a finding, or a process to the same finding in others; return the socket."""
    about = {key: connection[key] for key in ("server", "opened_by", "opened_at", "pooled")} | what
    same = next((one for one in to if about.items() <= one.items()), None)
    if same is None:
        same = {**about, "processes": []}
        to.append(same)
    if line["pid"] not in same["processes"]:
        same["processes"].append(line["pid"])
    return int(connection["socket"])


def _refusal(line: dict[str, Any]) -> str:
    if line["why"] == "broker":
        return f"the project's broker, {line['at']}, cannot be used: {line['error']}"
    if line["why"] == "settings":
        return f"the project's settings, or its broker's URL, cannot be read ({line['error']})"
    if line["why"] == "pool":
        return f"this project's worker_pool is {line['error']}, which keeps to one process: nothing crosses a fork, as there is none"
    if line["why"] == "spawn":
        return "this project's worker spawns its children (worker_pool_start_method): nothing crosses a fork, as there is none"
    if line["why"] == "no app":
        return f"{line['error']}, and no Celery app; name it as for `celery -A`: package.module:attribute"
    return f"the project cannot be imported: {line['error']}" + (f" (at {line['at']})" if line["at"] else "")


def _why_not(said: str) -> str:
    if "No module named 'celery'" in said:
        return "has no Celery"
    last = said.strip().rpartition("\n")[2]
    return f"cannot import Celery ({last})" if "Traceback" in said else "is no Python interpreter"


def _environment() -> dict[str, str]:
    """Return our environment without a way to Haulage: the project may have packages of the same names."""
    ways = [str(Path(one).resolve()) for one in re.split(os.pathsep, os.environ.get("PYTHONPATH", "")) if one]
    others = os.pathsep.join(one for one in ways if Path(one) != OURS)
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**rest, "PYTHONPATH": others} if others else rest
