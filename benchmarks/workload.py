"""One run of one recipe: a parent with a warm pool forks children, all of them work at once, every answer is checked.

Run as a process of its own (`measure` does so): a recipe may hang, and some change the whole process.
"""

import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Pool, create_engine, event, text

from benchmarks.recipes import RECIPES, Recipe

ROOT = Path(__file__).parents[1]
PARENT = 0  # the number of the parent among the workers
TABLE = "CREATE TABLE IF NOT EXISTS fork_lab (run text, worker int, number int)"
DROP = "SET LOCAL lock_timeout = '10s'; DROP TABLE IF EXISTS fork_lab"
INSERT = text("INSERT INTO fork_lab VALUES (:run, :worker, :number)")
SELECT = text("SELECT CAST(:marker AS int)")
COUNT = text("SELECT count(*) FROM fork_lab WHERE run = :run")


@dataclass(frozen=True)
class Size:
    """How much work a run is; after `patience` seconds without a word from anybody, who still works counts as hung."""

    children: int = 4
    tasks_per_child: int = 400
    tasks_of_parent: int = 100
    patience: float = 4.0

    @property
    def tasks(self) -> int:
        return self.children * self.tasks_per_child + self.tasks_of_parent


@dataclass
class Outcome:
    """What one run gave. Messages are the first lines of the errors, with how often each came."""

    child_errors: int = 0
    parent_errors: int = 0
    wrong_answers: int = 0
    hung: int = 0
    rows_missing: int = 0
    sessions: int = 0
    sockets_kept: int = 0  # of the parent's, in all its children together
    tasks_per_second: float = 0.0
    messages: dict[str, int] = field(default_factory=dict)


def measure(recipe: str, url: str, size: Size) -> Outcome:
    """Run the recipe in a clean process. The url names the driver (postgresql+psycopg2)."""
    order = {"recipe": recipe, "url": url, "size": asdict(size)}
    return Outcome(**in_clean_process("benchmarks.workload", order))


def in_clean_process(module: str, order: dict[str, Any]) -> Any:
    """Run the module in a process that installed nothing: it reads its order and prints its result, both JSON."""
    command, text_in = [sys.executable, "-m", module], json.dumps(order)
    done = subprocess.run(command, input=text_in, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def run(recipe: Recipe, url: str, size: Size) -> Outcome:
    """Watch over the parent, which is a process of its own too since it may hang like its children."""
    run_id = f"{os.getpid()}-{time.time_ns()}"
    execute(url, TABLE)
    with tempfile.TemporaryFile() as sessions:
        reader, writer = os.pipe()
        if os.fork() == 0:
            with ended():
                be_parent(recipe, url, size, Worker(writer, run_id), sessions.fileno())
        os.close(writer)
        outcome = watch(reader, size)
        outcome.sessions = os.fstat(sessions.fileno()).st_size
    outcome.rows_missing = size.tasks - execute(url, COUNT, run=run_id)
    execute(url, DROP)
    return outcome


@dataclass(frozen=True)
class Worker:
    """One of the processes that work, and the pipe on which it tells at once what it lived through."""

    writer: int
    run_id: str
    number: int = PARENT

    def tell(self, **event: Any) -> None:
        line = json.dumps({"worker": self.number, **event})
        os.write(
            self.writer, line.encode() + b"\n"
        )  # below PIPE_BUF: the lines of several processes do not mix


def be_parent(recipe: Recipe, url: str, size: Size, me: Worker, sessions: int) -> None:
    recipe.at_start()
    event.listen(
        Pool, "connect", lambda *_: os.write(sessions, b".")
    )  # a byte for each session, whatever comes
    engine = create_engine(url, **recipe.options)
    warm(engine)
    engine = recipe.before_fork(engine)
    inherited, gate = sockets(), os.pipe()
    for number in range(1, size.children + 1):
        if os.fork() == 0:
            with ended():
                os.close(gate[1])
                os.read(gate[0], 1)  # until the parent has forked them all
                child, engine = replace(me, number=number), recipe.in_child(engine)
                child.tell(kept=len(inherited & sockets()))
                work(recipe, engine, child, size.tasks_per_child)
    os.close(gate[1])
    work(recipe, engine, me, size.tasks_of_parent)


@contextmanager
def ended() -> Iterator[None]:
    """Leave a forked process here and now, whatever happens, and run nothing of the process it was forked from."""
    try:
        yield
    finally:
        os._exit(0)


def warm(engine: Engine) -> None:
    connections = [engine.connect() for _ in range(2)]
    for connection in connections:
        connection.close()


def sockets() -> set[int]:
    """The identities of the sockets that this process holds; here they are the server's connections."""
    found = set()
    for number in range(256):
        with suppress(OSError):
            status = os.fstat(number)
            if stat.S_ISSOCK(status.st_mode):
                found.add(status.st_ino)
    return found


def work(recipe: Recipe, engine: Engine, me: Worker, tasks: int) -> None:
    me.tell(pid=os.getpid())
    for number in range(tasks):
        try:
            me.tell(right=task(recipe, engine, me, number))
        except Exception as error:  # noqa: BLE001  errors are what is counted
            me.tell(error=first_line(error))
    me.tell(end=True)


def task(recipe: Recipe, engine: Engine, me: Worker, number: int) -> bool:
    """One transaction; False if the database answered a question that somebody else asked."""
    if recipe.engine_per_task:
        engine = create_engine(engine.url, **recipe.options)
    marker = me.number * 1_000_000 + number
    with engine.begin() as connection:
        connection.execute(INSERT, {"run": me.run_id, "worker": me.number, "number": number})
        answer = connection.execute(SELECT, {"marker": marker}).scalar_one()
    if recipe.engine_per_task:
        engine.dispose()
    return bool(answer == marker)


def first_line(error: Exception) -> str:
    """The driver's own words without SQLAlchemy's frame around them."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]


def watch(reader: int, size: Size) -> Outcome:
    """Count what the workers tell, until the last has ended or nobody says a word; then kill the rest by pid."""
    outcome, working = Outcome(), dict[int, int]()
    times = []
    for said in lines_of(reader, size.patience):
        if "pid" in said:
            working[said["worker"]] = said["pid"]
        elif "kept" in said:
            outcome.sockets_kept += said["kept"]
        elif "end" in said:
            del working[said["worker"]]
        else:
            add(outcome, said)
            times.append(time.monotonic())
    for pid in working.values():
        os.kill(pid, signal.SIGKILL)
    outcome.hung = len(working)
    done = len(times) - outcome.child_errors - outcome.parent_errors
    outcome.tasks_per_second = round(done / (times[-1] - times[0]), 1) if done > 1 else 0.0
    return outcome


def lines_of(reader: int, patience: float) -> Iterator[dict[str, Any]]:
    rest = b""
    while select.select([reader], [], [], patience)[0]:
        received = os.read(reader, 65536)
        if not received:
            return
        *lines, rest = (rest + received).split(b"\n")
        yield from map(json.loads, lines)


def add(outcome: Outcome, said: dict[str, Any]) -> None:
    if "error" not in said:
        outcome.wrong_answers += not said["right"]
        return
    if said["worker"] == PARENT:
        outcome.parent_errors += 1
    else:
        outcome.child_errors += 1
    outcome.messages[said["error"]] = outcome.messages.get(said["error"], 0) + 1


def execute(url: str, statement: Any, **parameters: Any) -> int:
    """Run one statement on an engine of its own and return the number it gives, 0 if none."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(
                text(statement) if isinstance(statement, str) else statement, parameters
            )
            return int(result.scalar_one()) if result.returns_rows else 0
    finally:
        engine.dispose()


def main() -> None:
    order = json.load(sys.stdin)
    outcome = run(RECIPES[order["recipe"]], order["url"], Size(**order["size"]))
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
