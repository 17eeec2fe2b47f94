"""Pauses of drives as rows: who is refused, who stops on the way, who comes forward, and what is counted."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import Reject
from cryptography.fernet import Fernet

from app import asked, overdue, pauses, steering, uploads
from app.database import Session, session_scope, short_lived_engine
from app.drives.registry import Drives
from app.endings import Outcome
from app.errors import DriveFull, DrivePauses, DriveRefuses, DriveThrottled, DriveUnavailable
from app.graph.meter import Minute
from app.vault import Vault
from tasks import catalogue, upkeep
from tests.factories import (
    DriveDouble,
    attempt_at,
    claim,
    items,
    kinds_of_events,
    make_due,
    make_means,
    make_upload,
    race,
    row,
    set_columns,
    wide_pool,
)
from tests.installation import CORP, Installation

HERE, ELSEWHERE = "filesystem", "elsewhere"
LONG = timedelta(minutes=10)
LARGE = b"0123456789abcdef" * 2**18 * 3  # three chunks of the drive


def halt(drive: str = HERE, delay: timedelta = LONG, error: type[DriveUnavailable] = DriveThrottled) -> None:
    with session_scope() as session:
        pauses.halt(session, drive, error.code, f"the test says {error.code}", delay)


def lift(drive: str = HERE) -> bool:
    with session_scope() as session:
        return pauses.lift(session, drive)


def paused() -> dict[str, str]:
    with session_scope() as session:
        return {name: pause.reason for name, pause in pauses.now(session).items()}


def told(installation: Installation, *columns: str) -> tuple[Any, ...]:
    return installation.query(f"SELECT {', '.join(columns)} FROM corporate.drives")[0]


def on_another_drive(installation: Installation) -> UUID:
    upload_id = make_upload(installation, name="b.txt")
    set_columns(installation, upload_id, drive=f"'{ELSEWHERE}'")
    return upload_id


def picked(window: int = 10) -> list[UUID]:
    with session_scope() as session:
        return [one.id for one in overdue.pick(session, 0, window)]


# Claims and wake-ups


def test_an_upload_is_not_to_be_had_while_its_drive_pauses_and_is_put_off_with_its_reason(
    installation: Installation,
) -> None:
    upload_id = make_upload(installation)
    halt()

    assert attempt_at(upload_id, make_means(installation)) is None

    found = row(upload_id)
    assert (found.state, found.attempts, found.deadline_at) == ("queued", 0, None)
    assert (found.reason, found.message) == ("drive_throttled", "the test says drive_throttled")
    assert (found.due_at, found.woken_at) == (told(installation, "paused_until")[0], None)
    assert kinds_of_events(installation, upload_id) == ["queued"]


def test_another_drive_goes_on(installation: Installation) -> None:
    halt(ELSEWHERE)

    assert attempt_at(make_upload(installation), make_means(installation)) is Outcome.FINISHED
    assert claim(on_another_drive(installation)) is None


def test_what_waits_for_a_drive_takes_no_place_among_the_wake_ups(installation: Installation) -> None:
    for number in range(5):
        make_upload(installation, name=f"{number}")
    other = on_another_drive(installation)
    halt()

    assert picked(window=3) == [other]

    lift()
    assert len(picked(window=3)) == 3


def test_no_upload_is_lost_between_a_claim_and_the_end_of_a_pause(installation: Installation) -> None:
    """A claim that was refused, by a message that is gone: the end of the pause must wake it anew, in any order."""
    for _ in range(8):
        upload_id = make_upload(installation, name=f"{_}")
        with session_scope() as session:
            overdue.mark_woken(session, [upload_id])
        halt()
        with wide_pool(4):
            race([lambda one=upload_id: attempt_at(one, make_means(installation)), lift])
        found = row(upload_id)
        assert found.state == "stored" or (found.woken_at, picked()) == (None, [upload_id])
        assert attempt_at(upload_id, make_means(installation)) is (
            None if found.state == "stored" else Outcome.FINISHED
        )


def test_a_pause_that_ends_lets_come_forward_what_it_held_up_and_nothing_else(
    installation: Installation,
) -> None:
    held_up, tried, failed = (make_upload(installation, name=name) for name in ("a", "b", "c"))
    halt(delay=timedelta(minutes=1))
    assert attempt_at(held_up, make_means(installation)) is None
    set_columns(installation, tried, reason="'drive_full'", due_at="now() + interval '5 minutes'")
    set_columns(installation, failed, reason="'drive_fault'", due_at="now() + interval '5 minutes'")
    halt(error=DriveRefuses)  # whatever it is told of last

    assert lift()

    assert set(picked()) == {held_up, tried}
    assert not lift("never heard of")


def test_the_web_role_may_let_a_drive_be_asked_again(installation: Installation) -> None:
    held_up = make_upload(installation)
    halt()
    attempt_at(held_up, make_means(installation))

    with (
        Session(short_lived_engine(installation.environment["WEB_DATABASE_URL"])) as session,
        session.begin(),
    ):
        assert pauses.lift(session, HERE)

    assert picked() == [held_up]


# What a pause is told as


def test_of_several_pauses_the_one_that_ends_last_counts_and_is_told(installation: Installation) -> None:
    halt(error=DriveFull)
    halt(delay=timedelta(seconds=1), error=DriveThrottled)

    assert paused() == {HERE: "drive_full"}
    assert told(installation, "message", "paused_until - since") == ("the test says drive_full", LONG)

    halt(delay=2 * LONG, error=DriveThrottled)
    assert paused() == {HERE: "drive_throttled"}
    assert told(installation, "paused_until - since") == (2 * LONG,)


def test_trouble_that_comes_again_has_never_been_over(installation: Installation) -> None:
    halt(error=DriveFull)
    installation.query("UPDATE corporate.drives SET since = since - interval '3 hours', paused_until = now()")

    halt(error=DriveFull)
    assert told(installation, "now() - since > interval '3 hours'") == (True,)

    installation.query("UPDATE corporate.drives SET paused_until = now() - interval '1 hour'")
    halt(error=DriveFull)
    assert told(installation, "now() - since < interval '1 minute'") == (True,)


# Attempts


def stopping_in(step: str, work: Callable[[], None]) -> dict[str, Any]:
    """Let something happen within the first call of a step."""
    calls: list[int] = []

    def once(real: Callable[..., Any], *arguments: Any) -> Any:
        done = real(*arguments)
        if not calls:
            calls.append(1)
            work()
        return done

    return {step: once}


def test_a_transfer_under_way_keeps_to_what_another_process_heard(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.watch.LOOK_SECONDS", 0)
    upload_id = make_upload(installation, LARGE)
    drive = DriveDouble(installation, **stopping_in("put", halt))

    assert attempt_at(upload_id, make_means(installation, drive=drive)) is Outcome.LATER

    found = row(upload_id)
    assert (found.state, found.attempts, found.reason) == ("queued", 0, "drive_throttled")
    assert found.transferred == drive.chunk_bytes, "what had come of it is kept"
    assert found.due_at >= told(installation, "paused_until")[0] - timedelta(seconds=1)
    assert told(installation, "paused_until - since") == (LONG,), "who keeps to a pause does not prolong it"


def test_no_file_becomes_visible_in_a_pause(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file asks nothing before its one request; the look before that is its only one."""
    monkeypatch.setattr("app.watch.SURE_SECONDS", 0)
    upload_id = make_upload(installation)
    drive = DriveDouble(installation, **stopping_in("begin", halt))

    assert attempt_at(upload_id, make_means(installation, drive=drive)) is Outcome.LATER

    assert (row(upload_id).reason, row(upload_id).attempts) == ("drive_throttled", 0)
    assert items(installation) == {}
    assert list((installation.drive_dir / str(CORP)).iterdir()) == []


def test_an_attempt_that_hears_of_trouble_stops_the_drive_and_is_not_burnt(
    installation: Installation,
) -> None:
    def refuse(*_: Any) -> Any:
        raise DriveRefuses("the client secret is wrong", LONG)

    upload_id = make_upload(installation)

    made = attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, begin=refuse)))

    assert (made, row(upload_id).attempts, paused()) == (Outcome.LATER, 0, {HERE: "drive_refuses"})


@pytest.mark.parametrize(("step", "kept"), [("put", True), ("finish", False)])
def test_a_full_drive_costs_a_session_only_where_it_refused_to_make_the_file(
    installation: Installation, step: str, kept: bool
) -> None:
    def full(*_: Any) -> Any:
        raise DriveFull("the drive is full", LONG)

    upload_id = make_upload(installation, LARGE)
    drive = DriveDouble(installation, **{step: full})

    assert attempt_at(upload_id, make_means(installation, drive=drive)) is Outcome.LATER

    found = row(upload_id)
    assert (found.attempts, found.reason, paused()) == (0, "drive_full", {HERE: "drive_full"})
    assert (found.drive_session is not None) == kept
    lift()
    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED
    assert row(upload_id).attempts == 1


def test_a_process_without_settings_for_a_drive_leaves_it_to_others(installation: Installation) -> None:
    upload_id = on_another_drive(installation)

    assert attempt_at(upload_id, make_means(installation, drives=Drives({}))) is Outcome.LATER

    found = row(upload_id)
    assert (found.state, found.attempts, found.reason) == ("queued", 0, "drive_unknown")
    assert paused() == {}, "others may know it"
    make_due(installation, upload_id)
    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED


def test_only_sessions_of_drives_that_older_releases_do_not_know_are_sealed(
    installation: Installation,
) -> None:
    """Beside workers of the release before, SESSION_KEYS may be set already; they cannot open what is sealed."""

    def full(*_: Any) -> Any:
        raise DriveFull("the drive is full", LONG)

    means = make_means(
        installation,
        drive=DriveDouble(installation, put=full),
        vault=Vault([Fernet.generate_key().decode()]),
    )
    here, elsewhere = make_upload(installation), on_another_drive(installation)

    attempt_at(here, means)
    attempt_at(elsewhere, means)

    assert set(row(here).drive_session or ()) == {"draft", "secured"}
    assert set(row(elsewhere).drive_session or ()) == {"sealed"}
    lift()
    lift(ELSEWHERE)
    for one in (here, elsewhere):
        assert attempt_at(one, make_means(installation, vault=means.vault)) is Outcome.FINISHED


# Items that other applications record


def test_an_item_is_recorded_once_a_short_pause_is_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        lift()

    monkeypatch.setattr("tasks.patience.time.sleep", wait)
    halt(delay=timedelta(seconds=30))

    catalogue.record_item(CORP, f"{CORP}/a", str(CORP), "a")

    assert (waits, items(installation)) == ([2], {f"{CORP}/a": "file"})


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("tasks.patience.time", made)
    return made


def handed_back() -> BaseException:
    with pytest.raises(Reject) as raised:
        catalogue.record_item(CORP, f"{CORP}/a", str(CORP), "a")
    assert raised.value.requeue, "the message is all there is"
    return raised.value.reason


@pytest.mark.parametrize("delay", [timedelta(seconds=30), LONG])
def test_the_message_goes_back_before_long_while_a_drive_pauses(
    installation: Installation, clock: Clock, delay: timedelta
) -> None:
    halt(delay=delay, error=DriveRefuses)

    reason = handed_back()

    assert (type(reason), str(reason)) == (DrivePauses, "the test says drive_refuses")
    assert 10 <= clock.now - 1000 <= 12
    assert items(installation) == {}
    lift()
    catalogue.record_item(CORP, f"{CORP}/a", str(CORP), "a")
    assert items(installation) == {f"{CORP}/a": "file"}


def owning(installation: Installation, monkeypatch: pytest.MonkeyPatch, answer: Callable[[], bool]) -> None:
    drive = DriveDouble(installation, owns=lambda *_: answer())
    means = make_means(installation, drive=drive)
    monkeypatch.setattr(catalogue, "means", lambda: means)


def test_the_message_goes_back_before_long_while_a_drive_is_out_of_reach(
    installation: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> bool:
        clock.sleep(25)  # as a connection takes that nobody answers
        raise DriveUnavailable("the drive cannot be reached", timedelta(seconds=30))

    owning(installation, monkeypatch, unreachable)

    handed_back()

    assert clock.now - 1000 == 27, "one try, and a pause before the message can come again"
    assert paused() == {}


def test_what_a_drive_says_to_who_records_an_item_is_told_to_all(
    installation: Installation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def throttled() -> bool:
        tries.append(1)
        raise DriveThrottled("the drive asks for a pause", LONG)

    owning(installation, monkeypatch, throttled)

    handed_back()

    assert (tries, paused()) == ([1], {HERE: "drive_throttled"})


def test_an_item_of_a_full_drive_is_recorded(installation: Installation, clock: Clock) -> None:
    halt(error=DriveFull)

    catalogue.record_item(CORP, f"{CORP}/a", str(CORP), "a")

    assert items(installation) == {f"{CORP}/a": "file"}


# Clean-ups


def cancelled_in_the_middle(installation: Installation, number: int) -> UUID:
    def full(*_: Any) -> Any:
        raise DriveUnavailable("later", timedelta(seconds=1))

    upload_id = make_upload(installation, name=f"{number}")
    attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, put=full)))
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    return upload_id


def test_clean_ups_leave_a_drive_alone_as_soon_as_one_of_them_is_refused(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Any] = []

    def throttled(_real: Any, session: Any, _placed: Any) -> None:
        asked_for.append(session)
        raise DriveThrottled("the drive asks for a pause", LONG)

    left = [cancelled_in_the_middle(installation, number) for number in range(5)]
    throttling = make_means(installation, drive=DriveDouble(installation, abort=throttled))
    monkeypatch.setattr(upkeep, "means", lambda: throttling)

    upkeep.clean_up()

    assert (len(asked_for), paused()) == (1, {HERE: "drive_throttled"})
    assert all(row(one).drive_session is not None and row(one).token is None for one in left)

    lift()
    installation.query("UPDATE corporate.uploads SET cleanup_due_at = now()")
    good = make_means(installation, drive=DriveDouble(installation))
    monkeypatch.setattr(upkeep, "means", lambda: good)
    upkeep.clean_up()
    assert all(row(one).drive_session is None for one in left)


# What was asked


class Counted:
    def __init__(self, *minutes: Minute) -> None:
        self._minutes = list(minutes)

    def requests(self) -> list[Minute]:
        taken, self._minutes = self._minutes, []
        return taken


def minute_before(installation: Installation, minutes: int = 1) -> int:
    statement = "SELECT extract(epoch FROM date_trunc('minute', now()) - %s * interval '1 minute')::int"
    return int(installation.query(statement, minutes)[0][0])


def test_what_processes_asked_in_a_minute_is_added_up(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = minute_before(installation)

    asked.note(Counted(Minute(HERE, at, 3, 5), Minute(ELSEWHERE, at, 1, 1)))  # type: ignore[arg-type]
    asked.note(Counted(Minute(HERE, at, 2, 4)))  # type: ignore[arg-type]
    monkeypatch.setattr("app.asked.os.getpid", lambda: 1)  # another process
    asked.note(Counted(Minute(HERE, at, 10, 20), Minute(HERE, at - 60, 99, 99)))  # type: ignore[arg-type]

    if minute_before(installation) == at:  # else the minute has just ended
        with session_scope() as session:
            found = pauses.requests(session)
        assert found == {HERE: pauses.Asked(15, 29), ELSEWHERE: pauses.Asked(1, 1)}


def test_what_was_asked_is_noted_before_long_and_at_the_end(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = minute_before(installation)
    first, second = (Counted(Minute(HERE, at, number, 0)) for number in (1, 2))

    def noted() -> list[Any]:
        return installation.query("SELECT requests FROM corporate.drive_requests")

    monkeypatch.setattr(asked, "_waiting", [])  # what other tests asked of other drives is not waited for
    monkeypatch.setattr(asked, "NOTE_SECONDS", 0.01)
    asked.note_soon(first)  # type: ignore[arg-type]
    while not noted():
        time.sleep(0.01)
    assert noted() == [(1,)]

    monkeypatch.setattr(asked, "NOTE_SECONDS", 3600)
    asked.note_soon(second)  # type: ignore[arg-type]
    asked.note_soon(second)  # type: ignore[arg-type]
    assert noted() == [(1,)]
    asked.note_at_end()
    assert noted() == [(3,)]


def test_what_was_asked_is_forgotten_after_an_hour(installation: Installation) -> None:
    asked.note(
        Counted(  # type: ignore[arg-type]
            Minute(HERE, minute_before(installation, 61), 1, 1),
            Minute(HERE, minute_before(installation), 1, 1),
        )
    )

    with session_scope() as session:
        pauses.forget_requests(session)

    assert installation.query("SELECT count(*) FROM corporate.drive_requests") == [(1,)]


def test_a_figure_that_cannot_be_noted_stops_nobody(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    installation.query("ALTER TABLE corporate.drive_requests RENAME TO not_there")
    try:
        asked.note(Counted(Minute(HERE, minute_before(installation), 1, 1)))  # type: ignore[arg-type]
    finally:
        installation.query("ALTER TABLE corporate.not_there RENAME TO drive_requests")

    assert "could not be noted" in caplog.text


def test_a_long_attempt_notes_what_it_asked_on_its_way(installation: Installation) -> None:
    beats: list[int] = []
    drive = DriveDouble(installation, put=lambda real, *given: (wait_for(beats), real(*given))[1])
    means = make_means(
        installation, drive=drive, lease=timedelta(seconds=0.3), at_each_beat=lambda: beats.append(1)
    )

    assert attempt_at(make_upload(installation), means) is Outcome.FINISHED

    assert beats


def wait_for(beats: list[int]) -> None:
    deadline = time.monotonic() + 30
    while not beats and time.monotonic() < deadline:
        time.sleep(0.01)


def test_an_end_of_a_pause_passes_over_what_is_just_being_claimed(installation: Installation) -> None:
    """The claim may wait for a name that another of these uploads holds: both would wait for each other."""
    upload_id = make_upload(installation)
    halt(delay=timedelta(0))
    with session_scope() as session:
        overdue.mark_woken(session, [upload_id])

    with wide_pool(), session_scope() as claiming:
        assert uploads.claim(claiming, upload_id, LONG, 8) is not None
        assert lift()
