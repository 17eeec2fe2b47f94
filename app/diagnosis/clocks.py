"""How far another machine's clock is from this one's. Deadlines are PostgreSQL's; certificates, logs and messages are not."""

import time

from app.diagnosis.findings import Verdict, bad, good, warning

OFF_WARNING, OFF_BAD = 1.0, 30.0  # seconds


def now() -> float:
    return time.time()


def apart(theirs: float, before: float, after: float, whose: str) -> Verdict:
    """Judge a clock that was read between two moments of ours; all in seconds since 1970."""
    off = max(abs(theirs - (before + after) / 2) - (after - before) / 2, 0)
    told = f"{whose} clock and this machine's are {off:.1f} s apart"
    do = "Set the clocks by NTP on both machines."
    if off > OFF_BAD:
        return bad(told, do)
    return warning(told, do) if off > OFF_WARNING else good(told)
