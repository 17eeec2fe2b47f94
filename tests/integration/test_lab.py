"""The lab as a user runs it; its rows partly depend on luck, so only what is certain is asserted of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil
import pytest

from benchmarks import lab, picture, report, sockets, verdict, wires
from benchmarks.classic import named
from benchmarks.findings import Findings, Result
from benchmarks.outcome import Outcome, Size
from benchmarks.states import IDLE, STATES
from benchmarks.wires import PLAIN, TLS, Wires, open_ways
from benchmarks.workload import measure, measure_each
from local import postgres
from local import servers as local_servers
from local.home import PROJECT
from local.servers import Servers

UNFINISHED = [state for state in STATES if STATES[state].begin]
# Patient: nothing hangs in the runs that it is used for, and the parent's commit is to come after its child's work.
SMALL = Size(children=1, tasks_per_child=5, tasks_of_parent=5, patience=30)


@dataclass
class Ran:
    code: int
    words: str
    complaints: str
    folder: Path

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads((self.folder / "figures.json").read_text())


def environment(servers: Servers | None = None, **changed: str) -> dict[str, str]:
    """Clean, and without what collects coverage: hundreds of processes would each write a file of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    if servers:
        kept |= {"DATABASE_URL": servers.admin_url, "REDIS_URL": servers.redis_url}
    return kept | changed


def run(*options: str, **environ: str) -> Ran:
    folder = Path(environ.pop("folder", "/nonexistent"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lab", *options],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
    )
    return Ran(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture(scope="module")
def quick(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("lab")
    files = {"json": "figures.json", "markdown": "table.md", "svg": "picture.svg"}
    written = [word for kind, name in files.items() for word in (f"--{kind}", str(folder / name))]
    options = ["--quick", "--only", "inherit", "haulage", *written]
    return run(*options, folder=str(folder), **environment(servers))


@pytest.fixture(scope="module")
def open_wires(servers: Servers) -> Wires:
    return open_ways(servers.owner_url)


def shown(ran: Ran, recipe: str) -> list[dict[str, Any]]:
    return [result for result in ran.figures["results"] if result["recipe"] == recipe]


def test_the_classic_fault_comes_by_name(quick: Ran) -> None:
    assert (quick.code, quick.complaints) == (0, "")

    over_tls = [one for one in shown(quick, "inherit") if (one["state"], one["wire"]) == (IDLE, TLS)]
    messages = [
        m for one in over_tls for run in one["tries"] for m in run["child_errors"] | run["parent_errors"]
    ]
    assert named(messages)
    assert all(wording in quick.words for wording in named(messages).values())
    assert "Wrong answers without TLS" in quick.words


def test_haulage_is_clean_in_every_state(quick: Ran) -> None:
    results = shown(quick, "haulage")

    assert {(one["state"], one["wire"]) for one in results} == {(s, w) for s in STATES for w in (TLS, PLAIN)}
    runs = [Outcome(**run) for one in results for run in one["tries"]]
    assert [run for run in runs if not run.is_clean or run.sockets_kept not in {0, None}] == []
    last = quick.words.strip().splitlines()[-1]
    assert last.startswith("Held in every state of the parent: Haulage (forksafe.install()).")


def test_what_is_written_is_well_formed(quick: Ran) -> None:
    assert quick.figures["verdict"] in " ".join(quick.words.split())
    assert quick.figures["results"][0]["tries"][0]["sessions"] > 0
    table = [line for line in (quick.folder / "table.md").read_text().splitlines() if line.startswith("|")]
    assert {"inherit", "Haulage"} <= {word for line in table for word in line.replace("|", " ").split()}
    image = ET.parse(quick.folder / "picture.svg").getroot()
    texts = {element.text for element in image.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Haulage (forksafe.install())", "kept", "safe", "broken"} <= texts


def test_the_table_fits_a_terminal(quick: Ran) -> None:
    assert max(map(len, quick.words.splitlines())) <= 120


def test_dispose_in_the_child_ends_the_parents_transaction(open_wires: Wires) -> None:
    safe, control = (measure(recipe, open_wires.urls[TLS], SMALL) for recipe in ("haulage", "dispose-child"))

    assert safe.transaction_lost is None
    assert control.transaction_lost is not None


@pytest.mark.parametrize("wire", [TLS, PLAIN])
def test_a_recipe_for_idle_connections_loses_what_was_open_at_the_fork(open_wires: Wires, wire: str) -> None:
    sizes = dict.fromkeys([IDLE, *UNFINISHED], SMALL)

    safe, control = (measure_each(one, open_wires.urls[wire], sizes) for one in ("haulage", "renew-child"))

    assert {state for state, outcome in safe.items() if outcome.transaction_lost} == set()
    assert {state for state, outcome in control.items() if outcome.transaction_lost} == set(UNFINISHED)
    if sockets.PROC.exists():
        assert {safe[IDLE].sockets_kept, safe["scoped"].sockets_kept} == {0}
        assert (control[IDLE].sockets_kept, control["scoped"].sockets_kept) == (2, 3)
    if wire == PLAIN:
        lost = {outcome.transaction_lost for state, outcome in control.items() if state != IDLE}
        assert lost == {"rolled back by a child, and the commit gave no error"}


def test_a_second_engine_is_lost_to_a_recipe_that_knows_of_one(open_wires: Wires) -> None:
    both = [measure(one, open_wires.urls[TLS], SMALL, "second") for one in ("haulage", "renew-child")]

    assert [outcome.is_clean for outcome in both] == [True, False]


def test_a_guard_by_the_old_name_fails(open_wires: Wires) -> None:
    safe, control = (measure(one, open_wires.urls[TLS], SMALL) for one in ("guard-new", "guard-old"))

    assert safe.is_clean
    assert any("has no setter" in message for message in control.child_errors)


def test_without_proc_sockets_are_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sockets, "PROC", tmp_path)
    findings = made_up(Result("haulage", IDLE, TLS, [sound()]))

    assert sockets.kept(sockets.towards(5432)) is None
    assert "not known" in report.terminal(findings)
    assert "not known" in picture.drawn(findings)
    assert verdict.holds(findings)


def sound() -> Outcome:
    return Outcome(transaction_lost=None)


def made_up(*results: Result) -> Findings:
    return Findings(Wires({TLS: ""}, {PLAIN: "left out"}, "versions"), {IDLE: Size()}, 2, list(results), 1.0)


def test_a_run_without_the_fault_or_with_one_of_ours_does_not_pass() -> None:
    broken = replace(sound(), child_errors={"SSL SYSCALL error: EOF detected": 1})
    fault = Result("inherit", IDLE, TLS, [broken])

    good = made_up(fault, Result("haulage", IDLE, TLS, [sound()]))
    lucky = made_up(Result("inherit", IDLE, TLS, [sound()]))
    ours = made_up(fault, Result("haulage", IDLE, TLS, [sound(), broken]))
    clean, kept = replace(sound(), sockets_kept=0), replace(sound(), sockets_kept=1)
    leaky = made_up(fault, Result("haulage", IDLE, TLS, [clean, kept]))
    stalled = made_up(
        Result("inherit", IDLE, TLS, [sound()]), Result("inherit", IDLE, PLAIN, [replace(sound(), hung=1)])
    )

    passed = [verdict.passed(one) for one in (good, lucky, ours, leaky, stalled)]
    assert passed == [True, False, False, False, False]
    assert "NOT SHOWN" in verdict.conclusion(lucky)
    assert "FAULT" in verdict.conclusion(ours)
    assert "FAULT" in verdict.conclusion(leaky)


def test_it_is_said_how_many_runs_the_fault_took() -> None:
    mac, end = "SSL error: ssl/tls alert bad record mac", "SSL SYSCALL error: EOF detected"
    tries = [replace(sound(), parent_errors={name: 1}) for name in (end, mac)]

    (sentence,) = verdict.classic_fault(made_up(Result("inherit", IDLE, TLS, tries)))

    assert sentence == f"The classic fault over TLS, in 2 runs: `{end}` in run 1; `{mac}` in run 2."


HANGS = """
import os, sys, time
from benchmarks import workload
from benchmarks.outcome import Size
from benchmarks.recipes import Recipe
from benchmarks.states import IDLE, STATES
from benchmarks.workers import Trial

hook = lambda: os.register_at_fork(after_in_child=lambda: time.sleep(60))
print(workload.run(Trial(Recipe("hangs", at_start=hook), STATES[IDLE], sys.argv[1], Size(2, 3, 3, 1.0))).hung)
"""


def test_children_that_hang_inside_a_fork_hook_are_counted(open_wires: Wires) -> None:
    command = [sys.executable, "-c", HANGS, open_wires.urls[TLS]]

    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    assert (ended.stdout, ended.stderr) == ("2\n", "")


def test_plain_inheritance_is_repeated_within_bounds_until_all_has_come() -> None:
    tries = iter([sound(), sound(), replace(sound(), wrong_answers=1), sound()])

    assert len(list(lab.runs("inherit", PLAIN, lambda: next(tries)))) == 3
    assert len(list(lab.runs("inherit", PLAIN, sound))) == lab.TRIES[PLAIN]
    assert len(list(lab.runs("haulage", PLAIN, sound))) == 1


@pytest.fixture
def without_tls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """A real server that was started with TLS switched off."""
    url = postgres.url
    monkeypatch.setitem(postgres.SETTINGS, "ssl", "off")
    monkeypatch.setattr(postgres, "url", lambda *of: url(*of).replace("verify-full", "prefer"))
    with local_servers.throwaway(plaintext=True) as running:
        yield running


def test_a_server_without_tls_is_half_a_lab(without_tls: Servers) -> None:
    # The certificate of no use is left out of the URL, as by anybody who has none.
    given = environment(without_tls, DATABASE_URL=without_tls.admin_url.partition("?")[0])

    done = run("--quick", "--only", "haulage", **given)

    assert (done.code, done.complaints) == (0, "")
    assert done.words.count("The half over TLS was left out: the server cannot be reached over TLS") == 2
    assert "Idle connections in the parent, without TLS" in done.words


def test_a_server_that_refuses_what_is_not_encrypted_is_the_other_half() -> None:
    with local_servers.throwaway() as running:
        found = open_ways(running.owner_url)

    assert set(found.urls) == {TLS}
    assert "refuses connections without TLS" in found.left_out[PLAIN]


def test_a_server_that_lets_nobody_in_is_named(servers: Servers) -> None:
    with pytest.raises(wires.NoWire, match="password authentication failed"):
        open_ways(servers.owner_url.replace("://haulage_owner:", "://haulage_owner:wrong"))


NO_PROGRAM = {"HAULAGE_PG_BINDIR": "/nonexistent", "HAULAGE_REDIS_SERVER": "/nonexistent"}
NOBODY = {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (NO_PROGRAM, "No usable PostgreSQL was found"),
        (NOBODY, "its server cannot be used"),
        ({**NOBODY, "REDIS_URL": ""}, "set both DATABASE_URL and REDIS_URL"),
        ({**NOBODY, "DATABASE_URL": "me:secret"}, "DATABASE_URL is no URL"),
    ],
)
def test_a_lab_without_a_server_says_so(given: dict[str, str], sentence: str) -> None:
    done = run("--quick", **environment(**given))

    assert done.code == 2
    assert done.complaints.startswith("The lab cannot run: ")
    assert sentence in done.complaints
    assert "Traceback" not in done.complaints
    assert "secret" not in done.complaints


def test_an_interrupt_leaves_no_process_behind(servers: Servers) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.lab", "--only", "engine-per-task"],
        cwd=PROJECT,
        env=environment(servers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        family = descendants(process.pid, 6)  # the watcher, the parent, its children

        process.send_signal(signal.SIGINT)

        _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints.strip()) == (130, "Interrupted.")
    assert psutil.wait_procs(family, timeout=20)[1] == []


def descendants(pid: int, number: int) -> list[psutil.Process]:
    """Wait until there are so many."""
    deadline = time.monotonic() + 60
    while len(found := psutil.Process(pid).children(recursive=True)) < number:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found
