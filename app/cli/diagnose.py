"""The installation's part of the command `doctor`: what it found, for people and for programs."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from app.cli.shown import put_json
from app.diagnosis import environment
from app.diagnosis.examination import examine
from app.diagnosis.findings import Finding, Level
from app.errors import BadSettings
from app.settings import settings

COLOURS = {Level.GOOD: "green", Level.WARNING: "yellow", Level.BAD: "red"}
WIDEST = 23


def diagnose(*, as_json: bool) -> int:
    """Examine the installation that the environment names, and tell; return the exit code, 1 if anything is bad."""
    with _quiet():
        found = _examined()
    if as_json:
        put_json(found)
    else:
        _tell(found)
    return 1 if any(one.level is Level.BAD for one in found) else 0


def _examined() -> Sequence[Finding]:
    try:
        chosen = settings()
    except BadSettings as error:
        return environment.problems(error)
    return examine(chosen, os.environ)


@contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing meanwhile: whatever would be warned of has its own line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _tell(found: Sequence[Finding]) -> None:
    for one in found:
        level = click.style(f"{one.level:7}", fg=COLOURS[one.level])
        click.echo(f"{level}  {one.name:{WIDEST}} {one.found}")
        if one.do:
            click.echo(f"{'':{WIDEST + 10}}-> {one.do}")
    levels = Counter(one.level for one in found)
    click.echo(f"\n{levels[Level.GOOD]} good, {levels[Level.WARNING]} warning, {levels[Level.BAD]} bad")
