"""What the catalogue tells of the work: does it go on, what waits, what has failed, and where corporations live."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, func, not_, select, text
from sqlalchemy.orm import Session

from app import pauses, queue
from app.diagnosis.disks import directories
from app.diagnosis.findings import Check, Verdict, bad, good, warning, worst
from app.diagnosis.grants import grants
from app.diagnosis.reading import Engines, reading
from app.drive_settings import DriveSettings
from app.errors import DriveThrottled, WrongStaging
from app.figures import oldest_waited
from app.models import DriveState, State, Upload
from app.settings import Settings
from app.staging import Staging
from app.steering import HAS_BYTES

LONG, TOO_LONG = timedelta(minutes=10), timedelta(hours=1)  # for an upload to wait for its first worker
CLEANUPS_LATE = timedelta(minutes=5)
TOKEN_DAYS = 14
SHOWN = 5

Look = Callable[[Connection], Verdict]


def checks(
    chosen: Settings, engines: Engines, known: Mapping[str, DriveSettings], named: Collection[str]
) -> Sequence[Check]:
    """Return the checks of what is in the catalogue; its schema must be there. `named` are all drives that settings name."""
    looks: tuple[tuple[str, Look], ...] = (
        ("grants", grants),
        ("staging-identity", partial(_staging_identity, chosen)),
        ("drive-pauses", _pauses),
        ("corporations", partial(_corporations, chosen.inbox_dir, directories(known), named)),
        ("sweep", partial(_sweep, chosen)),
        ("clean-up", _clean_up),
        ("waiting", _waiting),
        ("failed", _failed),
    )
    return [
        *(Check(name, partial(_asked, engines, chosen.database_url, look)) for name, look in looks),
        # The workers' role may not read them; the owner's may.
        Check("tokens", partial(_asked, engines, chosen.owner_database_url or chosen.database_url, _tokens)),
    ]


def _asked(engines: Engines, url: str, look: Look) -> Verdict:
    with reading(engines(url)) as connection:
        return look(connection)


def _staging_identity(chosen: Settings, connection: Connection) -> Verdict:
    recorded = connection.scalar(text("SELECT identity FROM corporate.staging_identity"))
    if recorded is None:
        return bad("the database knows of none", "Run `haulage migrate` where STAGING_DIR is mounted.")
    try:
        found = Staging(chosen.staging_dir, 1, 0).identity()
    except WrongStaging as error:
        return bad(str(error), "Let this user read STAGING_DIR.")
    if found is None:
        return bad(f"{chosen.staging_dir} is no staging", "Mount the staging there, on every machine.")
    if found != recorded:
        return bad(
            f"{chosen.staging_dir} is the staging of another installation",
            "Let STAGING_DIR name this one's own, or DATABASE_URL the database that it belongs to.",
        )
    return good("STAGING_DIR is the staging of this database")


def _pauses(connection: Connection) -> Verdict:
    paused = pauses.now(Session(connection)).values()
    if not paused:
        return good("no drive pauses")
    found = "; ".join(f"{one.name} {pauses.sentence(one)}" for one in paused)
    return worst(map(_pause, paused))._replace(found=found)


def _pause(drive: DriveState) -> Verdict:
    if drive.reason == DriveThrottled.code:
        return warning("", "Wait: it ends by itself. `haulage drive list` shows what the last minute took.")
    return bad("", f"Mend what the message names, then `haulage drive resume {drive.name}`.")


def _corporations(
    inbox: Path, roots: Mapping[str, Path], named: Collection[str], connection: Connection
) -> Verdict:
    rows = connection.execute(text("SELECT corp_index, drive FROM corporate.corporations ORDER BY 1"))
    drives: dict[int, str] = {row.corp_index: row.drive for row in rows}
    numbers = list(drives)
    if not numbers:
        return warning("there is none yet", 'Add one: haulage corp add NUMBER "Name".')
    if strays := [number for number in numbers if drives[number] not in named]:
        return bad(
            f"{_listed(strays)}: the settings here name no drive {drives[strays[0]]!r}",
            "Name it in DRIVES, with its settings, for web and workers; or correct its name there: uploads wait.",
        )
    for drive, root in roots.items():
        if homeless := _without(root, [number for number in numbers if drives[number] == drive]):
            return bad(
                f"no directory in the drive for {homeless}",
                f"Is the drive mounted at {root}? If it is: was the directory moved?",
            )
    if homeless := _without(inbox, numbers):
        return warning(
            f"no inbox for {homeless}",
            f"Is the inbox mounted at {inbox}? If it is, make a directory with the corporation's number.",
        )
    return good(f"{len(numbers)}, each with its drive and its inbox")


def _without(folder: Path, numbers: Sequence[int]) -> str:
    return _listed([number for number in numbers if not (folder / str(number)).is_dir()])


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"corporation {', '.join(map(str, numbers[:SHOWN]))}{more}" if numbers else ""


def _sweep(chosen: Settings, connection: Connection) -> Verdict:
    statement = text(
        "SELECT extract(epoch FROM clock_timestamp() - ran_at)::float8 FROM corporate.upkeep_runs WHERE task = :task"
    )
    age = connection.scalar(statement, {"task": queue.SWEEP})
    do = "Is beat running (`celery -A tasks.worker beat`), and a worker that reads the queue upkeep?"
    if age is None:
        return bad("none ever ran: lost and delayed uploads stay where they are", do)
    told = f"the last one ran {_long(age)} ago, one is due every {chosen.sweep_seconds} s"
    return bad(told, do) if age > max(60, 10 * chosen.sweep_seconds) else good(told)


def _clean_up(connection: Connection) -> Verdict:
    late = text("""
        SELECT count(*) FILTER (WHERE cleanup_due_at < now() - :late), count(*) FILTER (WHERE finished_at < now() - :old)
        FROM corporate.uploads WHERE cleanup_due_at IS NOT NULL
    """)
    overdue, failing = connection.execute(late, {"late": CLEANUPS_LATE, "old": TOO_LONG}).one()
    if overdue:
        return warning(
            f"{overdue} finished upload(s) wait for it for more than {_long(CLEANUPS_LATE.total_seconds())}: what they "
            "left in staging and drive stays",
            "Is beat running, and a worker that reads the queue upkeep?",
        )
    if failing:
        return warning(
            f"for {failing} upload(s) it does not work since an hour or longer",
            "Look for `its traces could not be removed yet` in the workers' logs.",
        )
    return good("nothing is left over")


def _waiting(connection: Connection) -> Verdict:
    most_often = func.mode().within_group(Upload.reason)
    waiting = select(func.count(), oldest_waited, most_often).where(Upload.state == State.QUEUED)
    number, age, reason = connection.execute(waiting).one()
    if not number:
        return good("no upload waits")
    why = f", most often because of {reason}" if reason else ""
    told = f"{number} upload(s) wait, the oldest for {_long(age)}{why}"
    do = "See workers, queues, sweep, drive and drive-pauses; docs/operating.md explains the reasons. More workers, if all is well."
    if age > TOO_LONG.total_seconds():
        return bad(told, do)
    return warning(told, do) if age > LONG.total_seconds() else good(told)


def _failed(connection: Connection) -> Verdict:
    have_failed = Upload.state == State.FAILED
    number, of = func.count(), func.mode().within_group(Upload.corp_index)
    failed = select(Upload.reason, number, of).where(have_failed, HAS_BYTES).group_by(Upload.reason)
    rows = connection.execute(failed.order_by(number.desc(), Upload.reason)).all()
    gone = connection.scalar(select(number).where(have_failed, not_(HAS_BYTES)))
    note = (
        f"; note: the bytes of {gone} that failed are gone, only who sent them can send them again"
        if gone
        else ""
    )
    if not rows:
        return good(f"no upload has failed that could be retried{note}" if gone else "no upload has failed")
    reason, most, corp_index = rows[0]
    return warning(
        f"{sum(row[1] for row in rows)} upload(s) have failed, most often because of {reason} ({most}){note}",
        f"`haulage status --corp {corp_index}` tells why; mend it, then `haulage retry --corp {corp_index} --all`.",
    )


_TOKENS = text("""
    SELECT count(*), count(*) FILTER (WHERE corp_index IS NULL AND expires_at IS NULL),
        count(*) FILTER (WHERE expires_at < now() + :days)
    FROM corporate.api_tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""")
_FIRST_TO_END = text("""
    SELECT id, label, to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
    FROM corporate.api_tokens WHERE revoked_at IS NULL AND expires_at > now() ORDER BY expires_at LIMIT 1
""")


def _tokens(connection: Connection) -> Verdict:
    number, endless, ending = connection.execute(_TOKENS, {"days": timedelta(days=TOKEN_DAYS)}).one()
    if ending:
        token_id, label, until = connection.execute(_FIRST_TO_END).one()
        named = f" ({label})" if label else ""
        return warning(
            f"{ending} end(s) within {TOKEN_DAYS} days, the first is {token_id}{named}, on {until}",
            "Make a new one for whoever uses it (haulage token create), then revoke the old one.",
        )
    note = f"; note: {endless} of an operator never end(s)" if endless else ""
    return good(f"{number} valid, none ends within {TOKEN_DAYS} days{note}")


def _long(seconds: float) -> str:
    """Tell a time in the unit that fits."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{seconds:.0f} s"
