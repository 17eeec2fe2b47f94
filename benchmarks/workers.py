"""The processes of one run: a parent with a warm pool forks children, all of them work at once and check every answer."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine, Pool, create_engine, event, text

from benchmarks import sockets, transaction
from benchmarks.outcome import PARENT, Size
from benchmarks.recipes import NOTHING, Recipe
from benchmarks.states import State
from benchmarks.transaction import Transaction

INSERT = text("INSERT INTO fork_lab VALUES (:run, :worker, :number)")
SELECT = text("SELECT CAST(:marker AS int)")
WARM = 2  # idle connections in each pool
LONGEST_LIFE = 150  # seconds; a worker that nobody watches any more ends by itself, even inside the driver


@dataclass(frozen=True)
class Trial:
    """What is tried out: one recipe in one state of the parent."""

    recipe: Recipe
    state: State
    url: str
    size: Size


@dataclass(frozen=True)
class Worker:
    """One of the processes that work, and the pipe on which it tells at once what it lived through."""

    writer: int
    run_id: str
    number: int = PARENT

    def tell(self, **event: Any) -> None:
        line = json.dumps({"worker": self.number, **event}).encode() + b"\n"
        os.write(self.writer, line)  # below PIPE_BUF: the lines of several processes do not mix

    @contextmanager
    def telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  errors are what is counted
            self.tell(error=first_line(error))


@dataclass(frozen=True)
class Engines:
    """The engine that the recipe is applied to, and perhaps one that it was not told about."""

    recipe: Recipe
    first: Engine
    second: Engine | None

    @property
    def at_hand(self) -> Sequence[tuple[Recipe, Engine]]:
        ours = (self.recipe, self.first)
        return (ours,) if self.second is None else ((NOTHING, self.second), ours)


@dataclass(frozen=True)
class Parent:
    """What a parent has when it forks."""

    engines: Engines
    begun: Transaction | None
    sockets: set[int] | None


@dataclass(frozen=True)
class Pipe:
    reader: int
    writer: int

    @classmethod
    def new(cls) -> "Pipe":
        return cls(*os.pipe())


def be_parent(trial: Trial, me: Worker, counter: int) -> None:
    """Do what the parent does. A byte is written to the file `counter` for each session opened, whatever comes."""
    be_mortal()
    me.tell(pid=os.getpid())
    trial.recipe.at_start()
    event.listen(Pool, "connect", lambda *_: os.write(counter, b"."))
    parent, gate, touched = prepared(trial, me), Pipe.new(), Pipe.new()
    children = []
    for number in range(1, trial.size.children + 1):
        # os.fork, not a context of multiprocessing: both fork alike, and this one brings no helpers of its own that
        # read pipes, wait for children or run exit handlers. It forks whatever start method is Python's default.
        child = os.fork()
        if child == 0:
            with ended():
                os.close(gate.writer)
                os.read(gate.reader, 1)  # until the parent has forked them all and begun its transaction
                be_child(trial, parent, replace(me, number=number), touched.writer)
        # Told here, not by the child: one that hangs inside a fork hook would never be known of.
        replace(me, number=number).tell(pid=child)
        children.append(child)
    with ExitStack() as until_committed:
        begun = parent.begun
        if begun is None:
            recipe, engine = parent.engines.at_hand[0]
            begun = transaction.plain(
                until_committed.enter_context(recipe.at_hand(engine)), open_id(me.run_id)
            )
        os.close(gate.writer)
        work(parent.engines, me, range(trial.size.tasks_of_parent))
        untouched = wait_for_bytes(touched.reader, trial.size.children, trial.size.patience / 2)
        me.tell(untouched=untouched)
        finish(begun, me)
    me.tell(end=True)
    for child in children:
        os.waitpid(child, 0)


def prepared(trial: Trial, me: Worker) -> Parent:
    """Bring the parent into its state."""
    first = trial.recipe.engine(trial.url)
    second = create_engine(trial.url) if trial.state.second_engine else None
    begun = trial.state.begin and trial.state.begin(first, open_id(me.run_id))
    ports = [warm(engine) for engine in (first, second) if engine]
    engines = Engines(trial.recipe, trial.recipe.before_fork(first), second)
    return Parent(engines, begun, sockets.towards(ports[0]))


def open_id(run_id: str) -> str:
    """The rows of the open transaction are not counted among those of the run."""
    return f"{run_id} open"


def warm(engine: Engine) -> int | None:
    connections = [engine.connect() for _ in range(WARM)]
    port = sockets.port_of(connections[0].connection.dbapi_connection)
    for connection in connections:
        connection.close()
    return port


def be_child(trial: Trial, parent: Parent, me: Worker, touched: int) -> None:
    be_mortal()
    engines = parent.engines
    with me.telling():
        engines = replace(engines, first=trial.recipe.in_child(engines.first))
    with me.telling():
        if parent.begun is not None:
            trial.state.tidy(parent.begun)
    me.tell(kept=sockets.kept(parent.sockets))
    work(engines, me, range(1))
    os.write(touched, b".")
    work(engines, me, range(1, trial.size.tasks_per_child))
    me.tell(end=True)


def be_mortal() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LONGEST_LIFE)


@contextmanager
def ended() -> Iterator[None]:
    """Leave a forked process here and now, whatever happens, and run nothing of the process it was forked from."""
    try:
        yield
    except BaseException:  # noqa: BLE001  it is shown, and the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def work(engines: Engines, me: Worker, numbers: range) -> None:
    choices = engines.at_hand
    for number in numbers:
        recipe, engine = choices[number % len(choices)]
        with me.telling():
            me.tell(right=task(recipe, engine, me, number))


def task(recipe: Recipe, engine: Engine, me: Worker, number: int) -> bool:
    """One transaction; False if the database answered a question that somebody else asked."""
    marker = me.number * 1_000_000 + number
    with recipe.at_hand(engine) as mine, mine.begin() as connection:
        connection.execute(INSERT, {"run": me.run_id, "worker": me.number, "number": number})
        answer = connection.execute(SELECT, {"marker": marker}).scalar_one()
    return bool(answer == marker)


def finish(begun: Transaction, me: Worker) -> None:
    try:
        me.tell(transaction=None, is_ours=begun.finish())
    except Exception as error:  # noqa: BLE001  that it is lost is what is asked
        me.tell(transaction=first_line(error))


def wait_for_bytes(reader: int, number: int, patience: float) -> int:
    """Wait until so many bytes have come, but no longer than patience, in seconds; return how many have not."""
    deadline = time.monotonic() + patience
    while number > 0 and select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        number -= len(os.read(reader, number))
    return number


def first_line(error: Exception) -> str:
    """The driver's own words without SQLAlchemy's frame around them."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
