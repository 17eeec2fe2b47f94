"""What the doctor of an installation says: lines of three levels. Looks in bounded time, and lets no secret out."""

import queue
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote

from app import names

SHORT = 12
_HANGS = "Something below hangs: a frozen server, or a mount that has lost its server. Mend that first."
LOOK_SECONDS = 9.0  # a connection takes up to 5 s to be refused by nobody, a statement up to 3


class Level(StrEnum):
    GOOD = "good"
    WARNING = "warning"  # it works, and something should be done before it does not
    BAD = "bad"  # something does not work, or loses what it must not


class Verdict(NamedTuple):
    level: Level
    found: str
    do: str = ""


@dataclass(frozen=True)
class Finding:
    """One line. `do` is empty exactly where all is good."""

    name: str
    level: Level
    found: str
    do: str


@dataclass(frozen=True)
class Check:
    """A look at one thing. Where a gate turns out bad, what comes after it in its row cannot be looked at."""

    name: str
    look: Callable[[], Verdict]
    is_gate: bool = False
    seconds: float = LOOK_SECONDS
    do_if_silent: str = _HANGS


def good(found: str) -> Verdict:
    return Verdict(Level.GOOD, found)


def warning(found: str, do: str) -> Verdict:
    return Verdict(Level.WARNING, found, do)


def bad(found: str, do: str) -> Verdict:
    return Verdict(Level.BAD, found, do)


def not_examined(why: str, do: str) -> Verdict:
    return warning(f"not examined: {why}", do)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the first of those that nothing is worse than."""
    return max(verdicts, key=lambda one: [*Level].index(one.level))


class Secrets:
    """What must not be shown: the passwords in URLs, whole and in the pieces that a wrong reading makes of them."""

    def __init__(self, texts: Iterable[str | None]) -> None:
        found = {piece for text in texts if text for piece in _passwords(text)}
        self._pieces = sorted(filter(None, found), key=len, reverse=True)

    def hide(self, text: str) -> str:
        for piece in self._pieces:
            # A short password may be part of a word that is no secret: "postgres" is one of PostgreSQL's favourites.
            edge = r"\b" if len(piece) < SHORT and re.fullmatch(r"\w+", piece) else ""
            text = re.sub(f"{edge}{re.escape(piece)}{edge}", "***", text)
        return names.printable(text)


def _passwords(url: str) -> Iterable[str]:
    before, at, _ = url.rpartition("@")
    user_and_password = (before if at else "").rpartition("//")[2] if "//" in before else before
    raw = [user_and_password.partition(":")[2], *re.findall(r"(?i)[?&][^=&]*password=([^&]+)", url)]
    if "://" not in url:  # user:password, as Flower has it
        raw.append(url.partition(":")[2])
    for one in raw:
        yield from (one, unquote(one))
        # A "/" or "@" that was not encoded makes a host or a port of what comes after it.
        yield from (piece for piece in re.split(r"[@:/?#\[\]]", unquote(one)) if len(piece) > 3)


def first_line(error: BaseException) -> str:
    """Return the line of a driver's error that says what is wrong: of several hosts that were tried, the last one's."""
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()]
    tried = [line for line in lines if "failed: " in line]
    return (tried[-1:] or lines[:1] or [type(error).__name__])[0]


def run(row: Sequence[Check], missing: str | None = None) -> list[Finding]:
    """Make the checks of a row one after the other; each has its finding, whatever becomes of the others.

    `missing` is the name of what the whole row depends on, if that is away.
    """
    findings = []
    for check in row:
        verdict = _after(missing) if missing else _bounded(check)
        if verdict is None:
            verdict = bad(f"no answer within {check.seconds:.0f} s", check.do_if_silent)
        if check.is_gate and verdict.level is Level.BAD:
            missing = check.name
        findings.append(Finding(check.name, *verdict))
    return findings


def _after(missing: str) -> Verdict:
    return not_examined(f"it depends on {missing}", f"Mend {missing} first, then look again.")


def _bounded(check: Check) -> Verdict | None:
    """Look in a thread of its own, which is left behind if it hangs."""
    answer: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
    Thread(target=lambda: answer.put(_judged(check)), daemon=True).start()
    try:
        return answer.get(timeout=check.seconds)
    except queue.Empty:
        return None


def _judged(check: Check) -> Verdict:
    try:
        return check.look()
    except Exception as error:  # noqa: BLE001  the outermost frame: one look that fails must not hide the others
        return _failed(error)


def _failed(error: Exception) -> Verdict:
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if code == "42501":
        return not_examined(
            f"this role may not look there ({first_line(error)})",
            "See `grants`; or run this with the environment of the web process or the owner.",
        )
    if code in {"55P03", "57014"}:
        return bad(
            f"PostgreSQL took too long ({first_line(error)})",
            "Look for who holds it up: SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity.",
        )
    return bad(
        f"could not be looked at: {type(error).__name__}: {first_line(error)}",
        "Mend what the message names, then look again.",
    )
