"""Tries on a drive whatever an upload needs: a folder, a small and a large file, what comes back, and the way out again."""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from app.drives.base import Delivery, Drive
from app.errors import HaulageError, NotVerified
from app.models import Json
from app.quickxor import QuickXor

Placed = list[tuple[Delivery, Json]]

_CORPORATION = 0  # whose root the trial files are put into; the folder stays


@dataclass(frozen=True)
class Step:
    name: str
    is_good: bool
    message: str


def run(drive: Drive) -> Iterator[Step]:
    """Yield each step as it comes out; after the first that fails only the clean-up follows.

    What was placed is removed in any case, even if nobody asks for the last step.
    """
    placed: Placed = []
    try:
        yield from _way_in(drive, placed)
    finally:
        last = _clean_up(drive, placed)
    yield last


def _way_in(drive: Drive, placed: Placed) -> Iterator[Step]:
    step = "credentials and folder"
    try:
        root = drive.make_root(_CORPORATION)
        yield Step(step, True, f"the folder {root.name} is there")
        for step, size in (("a small file", 1000), ("a file in parts", drive.chunk_bytes + 1000)):
            _carry(drive, root.id, size, placed)
            yield Step(step, True, f"{size} bytes went there and came back")
    except (HaulageError, OSError) as error:
        yield Step(step, False, str(error))


def _clean_up(drive: Drive, placed: Placed) -> Step:
    problems = []
    for delivery, session in placed:
        try:
            drive.abort(session, delivery)
        except (HaulageError, OSError) as error:
            problems.append(f"{delivery.name} may be left: {error}")
    clean = "nothing is left but the folder" if placed else "nothing was placed"
    return Step("clean-up", not problems, "; ".join(problems) or clean)


def _carry(drive: Drive, parent_id: str, size: int, placed: Placed) -> None:
    """Bring so many random bytes there, and back; raise NotVerified if others come back."""
    data = secrets.token_bytes(size)
    delivery = _delivery(parent_id, data)
    session, offset = drive.begin(delivery)
    placed.append((delivery, session))
    last = data[offset:]
    while last and not (drive.finish_brings_last and len(last) <= drive.chunk_of(session)):
        offset = drive.put(session, offset, data[offset : offset + drive.chunk_of(session)])
        last = data[offset:]
    made = drive.finish(delivery, session, last, lambda: None)
    if b"".join(drive.read(made.id)) != data:
        raise NotVerified("other bytes came back")


def _delivery(parent_id: str, data: bytes) -> Delivery:
    quick_xor = QuickXor()
    quick_xor.update(data)
    name = f"haulage-trial-{secrets.token_hex(8)}"
    sha256 = hashlib.sha256(data).hexdigest()
    return Delivery(uuid4(), parent_id, name, len(data), sha256, quick_xor.digest())
