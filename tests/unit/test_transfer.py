from io import BufferedReader, BytesIO
from typing import Any
from uuid import uuid4

import pytest

from app import transfer
from app.drives.base import Delivery
from app.errors import DriveUnavailable, LostClaim, Postponed, SliceEnded

CONTENT = bytes(range(25))


class Notes(list[tuple[Any, ...]]):
    """What happened, in its order."""

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [one[1:] for one in self if one[0] == kind]


class SmallDrive:
    chunk_bytes = 10
    finish_brings_last = False

    def __init__(self, notes: Notes, kept: bytes = b"", keeps: int = 10) -> None:
        self.notes, self.bytes, self.keeps = notes, bytearray(kept), keeps

    def begin(self, _delivery: Delivery, _previous: object = None) -> tuple[dict[str, Any], int]:
        self.notes.append(("begin",))
        return {"secured": 0}, 0

    def held(self, _session: dict[str, Any], _delivery: Delivery) -> int | None:
        return len(self.bytes)

    def abort(self, session: dict[str, Any], _placed: Delivery | None) -> None:
        self.notes.append(("abort", session))

    def chunk_of(self, _session: dict[str, Any]) -> int:
        return self.chunk_bytes

    def put(self, _session: dict[str, Any], offset: int, data: bytes) -> int:
        assert offset == len(self.bytes)
        self.bytes += data[: self.keeps]
        self.notes.append(("put", offset, len(data)))
        return len(self.bytes)

    def secure(self, _session: dict[str, Any], offset: int) -> dict[str, Any]:
        self.notes.append(("secure", offset))
        return {"secured": offset}


class NotingWatch:
    def __init__(self, notes: Notes, steps: int | None = None, then: Exception | None = None) -> None:
        self.notes, self.steps, self.then = notes, steps, then

    def proceed(self) -> None:
        if self.steps == 0:
            assert self.then is not None
            raise self.then
        if self.steps is not None:
            self.steps -= 1

    def tell(self, sent: int) -> None:
        self.notes.append(("tell", sent))

    def checkpoint(self, session: Any, transferred: int) -> None:
        self.notes.append(("checkpoint", session, transferred))


def send(drive: Any, watch: Any, session: dict[str, Any] | None = None, content: bytes = CONTENT) -> Any:
    delivery = Delivery(uuid4(), "7", "a.txt", len(content), "", "")
    return transfer.send(drive, delivery, lambda: BufferedReader(BytesIO(content)), session, watch)


def test_all_bytes_arrive_in_order() -> None:
    notes = Notes()
    drive = SmallDrive(notes)

    send(drive, NotingWatch(notes))

    assert drive.bytes == CONTENT
    assert notes.of("put") == [(0, 10), (10, 10), (20, 5)]


def test_the_session_is_saved_before_the_first_byte_goes_out() -> None:
    notes = Notes()

    send(SmallDrive(notes), NotingWatch(notes))

    assert notes[:3] == [("begin",), ("checkpoint", {"secured": 0}, 0), ("put", 0, 10)]


def test_a_session_that_could_not_be_saved_sends_nothing() -> None:
    notes = Notes()

    class StaleWatch(NotingWatch):
        def checkpoint(self, _session: Any, _transferred: int) -> None:
            raise LostClaim("gone")

    with pytest.raises(LostClaim):
        send(SmallDrive(notes), StaleWatch(notes))

    assert notes.of("put") == []


def test_a_transfer_goes_on_where_the_drive_says() -> None:
    notes = Notes()
    drive = SmallDrive(notes, kept=CONTENT[:7])

    send(drive, NotingWatch(notes), session={"secured": 7})

    assert drive.bytes == CONTENT
    assert notes.of("begin") == []
    assert notes.of("put") == [(7, 3), (10, 10), (20, 5)], "from there to the drive's grid, and along it"


def test_a_transfer_whose_bytes_are_all_there_sends_nothing() -> None:
    notes = Notes()

    send(SmallDrive(notes, kept=CONTENT), NotingWatch(notes), session={"secured": 25})

    assert notes == []


@pytest.mark.parametrize("keeps", [1, 3, 9])
def test_a_drive_that_keeps_less_than_it_is_given_gets_the_rest_again(keeps: int) -> None:
    notes = Notes()
    drive = SmallDrive(notes, keeps=keeps)

    send(drive, NotingWatch(notes))

    assert drive.bytes == CONTENT


def test_an_empty_file_needs_a_session_and_nothing_more() -> None:
    notes = Notes()

    assert send(SmallDrive(notes), NotingWatch(notes), content=b"") == ({"secured": 0}, b"")

    assert notes == [("begin",), ("checkpoint", {"secured": 0}, 0)]


@pytest.mark.parametrize("stop", [SliceEnded("over"), Postponed("later"), DriveUnavailable("away")])
def test_a_stop_between_chunks_saves_where_it_is(stop: Postponed) -> None:
    notes = Notes()
    drive = SmallDrive(notes)

    with pytest.raises(type(stop)):
        send(drive, NotingWatch(notes, steps=2, then=stop))

    assert drive.bytes == CONTENT[:20]
    assert notes[-2:] == [("secure", 20), ("checkpoint", {"secured": 20}, 20)]


def test_a_stop_before_anything_was_sent_saves_nothing_anew() -> None:
    notes = Notes()

    with pytest.raises(SliceEnded):
        send(SmallDrive(notes), NotingWatch(notes, steps=0, then=SliceEnded("over")))

    assert notes.of("checkpoint") == [({"secured": 0}, 0)]


def test_a_lost_claim_saves_nothing() -> None:
    notes = Notes()

    with pytest.raises(LostClaim):
        send(SmallDrive(notes), NotingWatch(notes, steps=1, then=LostClaim("gone")))

    assert notes.of("checkpoint") == [({"secured": 0}, 0)]


def test_a_long_transfer_is_saved_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    clock = iter(range(0, 1000, 6))  # seconds
    monkeypatch.setattr("app.transfer.monotonic", lambda: next(clock))

    session, _ = send(SmallDrive(notes), NotingWatch(notes))

    assert [one[1] for one in notes.of("checkpoint")] == [0, 10, 25] or [
        one[1] for one in notes.of("checkpoint")
    ] == [0, 10, 20, 25]
    assert session["secured"] > 0


def test_the_source_is_closed_whatever_happens() -> None:
    notes = Notes()
    opened: list[BufferedReader] = []

    def source() -> BufferedReader:
        opened.append(BufferedReader(BytesIO(CONTENT)))  # type: ignore[arg-type]
        return opened[0]

    with pytest.raises(LostClaim):
        transfer.send(
            SmallDrive(notes),  # type: ignore[arg-type]
            Delivery(uuid4(), "7", "a", 25, "", ""),
            source,
            None,
            NotingWatch(notes, steps=1, then=LostClaim("gone")),
        )

    assert opened[0].closed


class LastInFinish(SmallDrive):
    finish_brings_last = True


@pytest.mark.parametrize("size", [0, 1, 10, 11, 20, 25])
def test_what_makes_a_file_visible_is_left_for_the_end(size: int) -> None:
    notes = Notes()
    drive = LastInFinish(notes)

    _, last = send(drive, NotingWatch(notes), content=CONTENT[:size])

    assert bytes(drive.bytes) + last == CONTENT[:size]
    assert (0 < len(last) <= drive.chunk_bytes) == (size > 0)


def test_a_session_that_cannot_be_gone_on_with_is_ended_before_a_new_one_begins() -> None:
    notes = Notes()

    class Forgetful(SmallDrive):
        def held(self, _session: dict[str, Any], _delivery: Delivery) -> int | None:
            return None

    send(Forgetful(notes), NotingWatch(notes), session={"secured": 7})

    assert notes[:3] == [("abort", {"secured": 7}), ("begin",), ("checkpoint", {"secured": 0}, 0)]
