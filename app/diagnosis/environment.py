"""The settings themselves, and whether the limits that follow from them stand in their order."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise

from app.database import STATEMENT_TIMEOUT_MS
from app.diagnosis.findings import Finding, Level, Verdict, bad, good, warning
from app.errors import BadSettings
from app.settings import Settings

LONGEST_CALL_SECONDS = 600  # as celeryconfig.py has it
# A heartbeat may have to connect anew (5 s) and to wait for a lock (3 s); a lease that ends meanwhile is lost for nothing.
SHORTEST_LEASE_SECONDS = 15


def problems(error: BadSettings) -> list[Finding]:
    """Return a line for every problem of the environment, and one that says that nothing else was looked at."""
    do = "Correct it in the environment of every process; docs/operating.md has the table of settings."
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    return [
        *(Finding("settings", Level.BAD, line, do) for line in lines),
        Finding(
            "settings",
            Level.BAD,
            "nothing else was looked at: without its settings nobody knows where this installation is",
            "Run this again when the settings above are mended.",
        ),
    ]


def settings(names: Iterable[str]) -> Verdict:
    """Judge an environment that could be read; `names` are those of all its variables.

    Those of drives have a line of their own.
    """
    known = [name.upper() for name in Settings.model_fields]
    likely = {
        name: meant[0]
        for name in sorted(names)
        if name not in known
        and not name.startswith("DRIVE_")
        and (meant := get_close_matches(name, known, 1, 0.9))
    }
    if likely:
        told = "; ".join(f"{name} is none, {meant} is one" for name, meant in likely.items())
        return warning(f"a variable looks like a setting: {told}", "Correct its name, or remove it.")
    return good("every setting that must be there is there")


def limits(chosen: Settings, soft: float, hard: float, visibility: float) -> Verdict:
    """Judge the chain of limits, each longer than what it bounds; all in seconds, the last three Celery's."""
    chain = {
        "a statement (statement_timeout)": STATEMENT_TIMEOUT_MS / 1000,
        f"a slice and the longest call (SLICE_SECONDS + {LONGEST_CALL_SECONDS})": chosen.slice_seconds
        + LONGEST_CALL_SECONDS,
        "task_soft_time_limit": soft,
        "task_time_limit": hard,
        "visibility_timeout": visibility,
    }
    steps = list(chain.items())
    for (name, value), (next_name, next_value) in pairwise(steps):
        if value >= next_value:
            return bad(
                f"{name} is {value:.0f} s, {next_name} only {next_value:.0f} s",
                "Put celeryconfig.py back as it came: it works out its limits from SLICE_SECONDS. Is another file of that "
                "name found first?",
            )
    if chosen.lease_seconds < SHORTEST_LEASE_SECONDS:
        return warning(
            f"LEASE_SECONDS is {chosen.lease_seconds}: one heartbeat that is held up loses its worker the claim",
            f"Set LEASE_SECONDS to {SHORTEST_LEASE_SECONDS} or more; 60 is the default.",
        )
    if chosen.sweep_seconds > chosen.lease_seconds:
        return warning(
            f"SWEEP_SECONDS ({chosen.sweep_seconds}) is longer than LEASE_SECONDS ({chosen.lease_seconds}): a lost "
            "worker's uploads wait for the sweep",
            "Set SWEEP_SECONDS to a few seconds; 2 is the default.",
        )
    told = " < ".join(f"{value:.0f}" for value in chain.values())
    return good(
        f"statement < slice and call < soft < hard < visibility: {told} s; a heartbeat every {chosen.lease_seconds / 3:.0f} s"
    )
