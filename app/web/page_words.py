"""How the pages say sizes, times and numbers."""

import math
from datetime import UTC, datetime

UNKNOWN = "?"
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size(number: float | None) -> str:
    """Say a number of bytes; None is one that nobody knows."""
    if number is None:
        return UNKNOWN
    if number < 1024:
        return count(round(number), "byte")
    power = min(int(math.log2(number) // 10), len(_UNITS))
    value = number / 1024**power
    return f"{value:,.0f} {_UNITS[power - 1]}" if value >= 100 else f"{value:.1f} {_UNITS[power - 1]}"


def span(seconds: float | None) -> str:
    """Say a length of time, in its two largest units at most; None is one that nobody knows."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{minutes} min {whole % 60} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def count(number: int, singular: str, plural: str = "") -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def moment(at: datetime) -> str:
    """Say a point in time, in UTC, which every reader can be told."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def clock(at: datetime) -> str:
    """Say a time of today, in UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S")
