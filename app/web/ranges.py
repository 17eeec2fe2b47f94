"""Reads what part of a file a request asks for (RFC 9110, section 14): one range of bytes, or the whole."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """`length` bytes from the byte `first` on."""

    first: int
    length: int

    def as_header(self, size: int) -> str:
        return f"bytes {self.first}-{self.first + self.length - 1}/{size}"


class Unsatisfiable(Exception):
    """The range lies beyond the end of the file."""


def wanted(header: str | None, size: int) -> Part | None:
    """Return the part of a file of `size` bytes that a Range header asks for, or None for the whole.

    Several ranges, other units and what cannot be read are ignored, as the RFC allows. Raises Unsatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":  # the last so many bytes
        length = min(int(last), size)
        return _part(size - length, size - 1, size)
    if last != "" and int(last) < int(first):
        return None
    return _part(int(first), min(int(last), size - 1) if last else size - 1, size)


def _part(first: int, last: int, size: int) -> Part:
    if first >= size or last < first:
        raise Unsatisfiable
    return Part(first, last - first + 1)
