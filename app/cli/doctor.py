"""The command `doctor`: looks at the installation, or finds connections that cross a fork, in any worker, running or not."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click

from app import forkdoctor
from app.checkup import Checkup, Findings, Patient, checkup
from app.cli.diagnose import diagnose
from app.errors import NotExamined

EXIT_CODES = {"sound": 0, "fault": 1, "fault waits": 1}  # anything else: 2
HEADLINES = {
    "fault": "THE FAULT IS HERE: this project's worker lets database connections cross a fork, and uses them there.",
    "handed out": (
        "THE FAULT IS HERE: this project's worker lets database connections cross a fork, and its pools hand them out there."
    ),
    "fault waits": "THE FAULT WAITS: connections cross a fork, and the first task that uses one brings it about.",
    "sound": "Sound: no child got hold of another process's connection, and none spoke on one.",
    "nothing to judge": (
        "NOTHING TO JUDGE: the worker and its children had neither a connection to PostgreSQL nor an SQLAlchemy engine "
        "for one, so nothing crossed a fork. That is not the same as healthy: if the engine is made only when a task "
        "first runs, look at the worker at its work: haulage doctor --pid."
    ),
    "could not look": (
        "NOT JUDGED: nothing was found so far, but not everything could be tried. If a database could not be reached: "
        "start the database, and look again."
    ),
}


@click.command()
@click.option("--pid", metavar="PID", help="Look at this running process and its children; only reads.")
@click.option(
    "--port", type=click.IntRange(1, 65535), multiple=True, help="Where PostgreSQL listens; with --pid."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    help="How long --pid watches.",
)
@click.option(
    "--app", "name", metavar="MODULE:APP", help="Start this project's worker on a throw-away queue."
)
@click.option(
    "--python", default="python3", show_default=True, help="The project's own interpreter; with --app."
)
@click.option(
    "--dir",
    "directory",
    type=Path,
    default=Path(),
    help="Where the project's worker is started; default: here.",
)
@click.option("--yes", is_flag=True, help="Do not ask; with --app.")
@click.option("--json", "as_json", is_flag=True)
def doctor(  # noqa: PLR0913  click passes every option
    *,
    pid: str | None,
    port: tuple[int, ...],
    seconds: float,
    name: str | None,
    python: str,
    directory: Path,
    yes: bool,
    as_json: bool,
) -> None:
    """Look at this whole installation, and say what is wrong and what to do; changes nothing.

    Every line is good, warning or bad. Exit code: 0 if nothing is bad (there may be warnings), 1 if something is.

    With --pid or --app: find PostgreSQL connections that cross a fork, in any worker. Exit code: 0 none, 1 some,
    2 nothing could be judged.
    """
    if pid is None and name is None:
        sys.exit(diagnose(as_json=as_json))
    if pid is not None and name is not None:
        raise click.UsageError(
            "Give either --pid PID, of a running worker, or --app MODULE:APP, of a project."
        )
    if pid is not None:
        sys.exit(forkdoctor.run(pid, list(port), seconds, as_json=as_json))
    patient = Patient(name or "", Path(shutil.which(python) or python).absolute(), directory.resolve())
    try:
        findings = _examine(patient, ask=not yes)
    except NotExamined as error:
        _give_up(str(error), as_json=as_json)
    except KeyboardInterrupt:
        _give_up("interrupted; the worker was ended, and its queue deleted", as_json=as_json)
    click.echo(_json(findings) if as_json else _text(findings))
    sys.exit(EXIT_CODES.get(findings.verdict, 2))


def _give_up(why: str, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"verdict": "could not look", "reason": why}))
    else:
        click.echo(f"haulage: {why}", err=True)
    sys.exit(2)


def _examine(patient: Patient, *, ask: bool) -> Findings:
    patient.check()
    _say(
        f"""This will, with {patient.python}
in {patient.directory}:
  - import {patient.app}: whatever the project does at import is done;
  - connect to its broker, and say which that is before going on;
  - start its worker: prefork, 2 children, each replaced after 2 tasks; no beat, no events, no remote control,
    no consumer of its own. Its signal handlers run (worker_init, worker_process_init, task_prerun and so on),
    its tasks do not: the worker reads one queue alone, of random name, with 8 tasks of ours;
  - in these children check out connections from the project's own engines, and run SELECT pg_backend_pid()
    on them;
  - end the worker and delete the queue."""
    )
    _confirm("Import the project?", "nothing was started, as you say", ask=ask)
    with checkup(patient) as worker:
        broker = worker.wait_for_import()
        _say(f"Its broker is {broker}; the queue is {worker.token}.")
        _confirm(
            "Start the worker?", "the project was imported, and its worker not started, as you say", ask=ask
        )
        return _examined(worker)


def _examined(worker: Checkup) -> Findings:
    _say("The worker runs ...")
    return worker.examine()


def _say(what: str) -> None:
    click.echo(what, err=True)


def _confirm(question: str, declined: str, *, ask: bool) -> None:
    if not ask:
        return
    if not sys.stdin.isatty():
        raise NotExamined("nothing was started: the doctor asks first, and nobody can answer here; add --yes")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:  # Ctrl-C or Ctrl-D; click would end with 1, which says something else here
        click.echo(err=True)
        raise NotExamined(declined) from error
    if not agreed:
        raise NotExamined(declined)


def _headline(findings: Findings) -> str:
    """Say "uses" only if a process was heard: what merely lies in a pool, the probe alone may have asked for."""
    heard = any("said" in one for one in findings.faults)
    return HEADLINES["handed out" if findings.faults and not heard else findings.verdict]


def _json(findings: Findings) -> str:
    told = {"verdict": findings.verdict, "headline": _headline(findings), **asdict(findings)}
    return json.dumps(
        told | {"cure": forkdoctor.CURE if findings.faults or findings.waiting else ""}, indent=2
    )


def _text(findings: Findings) -> str:
    children = f"{findings.children} {'child' if findings.children == 1 else 'children'}"
    tried = ", ".join(findings.engines) or "none"
    looked = (
        f"Looked into {children} ({findings.replaced} forked in the place of others); engines tried: {tried}."
    )
    lines = [forkdoctor.wrapped(looked)]
    for one in findings.faults:
        lines += ["", f"FAULT  {_fault(one)}", *_where(one)]
    for one in findings.waiting:
        lines += ["", f"WAITS  {_held(one)}", *_where(one)]
    for one in findings.notes:
        lines += [
            "",
            f"NOTE   A connection to {one['server']} stays open in {_children(one)}, unused.",
            *_where(one),
        ]
    lines += [""] if findings.errors else []
    lines += [forkdoctor.wrapped(f"Could not be tried: {error}") for error in findings.errors]
    lines += ["", forkdoctor.wrapped(_headline(findings))]
    if findings.faults or findings.waiting:
        lines += ["", forkdoctor.wrapped(f"Cure: {forkdoctor.CURE}")]
    return "\n".join(lines)


def _children(one: dict[str, Any]) -> str:
    pids = ", ".join(map(str, one["processes"]))
    return f"child {pids}" if len(one["processes"]) == 1 else f"children {pids}"


def _fault(one: dict[str, Any]) -> str:
    if "said" in one:
        return (
            f"{_children(one).capitalize()} sent {one['said']} over a connection to {one['server']} that process "
            f"{one['opened_by']} had opened.\n       sent at   {_stack(one['said_at'])}"
        )
    return (
        f"The pool of {_children(one)} handed out a connection to {one['server']} that process {one['opened_by']} "
        "had opened."
    )


def _held(one: dict[str, Any]) -> str:
    what = (
        "was checked out at the fork, by a Session or Connection that lives on,"
        if one["pooled"]
        else "no pool made"
    )
    return f"A connection to {one['server']} that {what} is within reach of {_children(one)}."


def _where(one: dict[str, Any]) -> list[str]:
    return [f"       opened at {_stack(one['opened_at'])}"] if one["opened_at"] else []


def _stack(frames: list[str]) -> str:
    return "\n                 ".join(frames[:8])


COMMANDS = (doctor,)
