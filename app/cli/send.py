"""`haulage upload`: files and folders in, and what became of them."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import func, or_, select

from app import intake, listing, names, pauses, readiness, wake
from app.cli.shown import as_json_option, put_json
from app.database import session_scope
from app.errors import HaulageError
from app.models import FINISHED, OnConflict, State, Upload
from app.settings import settings
from app.staging import Staging
from app.walk import Found, LeftOut, chunks, walk

WAKE_AT_A_TIME = 100
POLL_SECONDS = 0.5
WAITS_AT_A_TIME = 20


@dataclass(frozen=True)
class Failure:
    """A file that did not come as far as was asked; `upload_id` is None if it was not even accepted."""

    path: str
    reason: str
    message: str
    upload_id: UUID | None = None

    def as_text(self) -> str:
        return f"{self.path}: {self.message}{f' (upload {self.upload_id})' if self.upload_id else ''}"


@dataclass
class Sent:
    """What one call of the command has handed in, and what it has not."""

    uploads: dict[UUID, Path] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unwoken: list[UUID] = field(default_factory=list)

    def good(self) -> dict[UUID, Path]:
        """Return the uploads that came as far as was asked."""
        failed = {failure.upload_id for failure in self.failures}
        return {one: path for one, path in self.uploads.items() if one not in failed}

    def take_unwoken(self) -> list[UUID]:
        taken, self.unwoken = self.unwoken, []
        return taken


@dataclass(frozen=True)
class Where:
    corp_index: int
    folder: str
    on_conflict: OnConflict


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--corp", "corp_index", type=int, required=True, help="The corporation's corp_index.")
@click.option("--into", "folder", default="", help="Folder to put them in, made where missing.")
@click.option(
    "--on-conflict", type=click.Choice([one.value for one in OnConflict]), default="fail", show_default=True
)
@click.option(
    "--wait/--no-wait", default=True, help="Wait until everything is stored or failed.", show_default=True
)
@as_json_option
def upload(  # noqa: PLR0913  click passes every option
    *, paths: tuple[Path, ...], corp_index: int, folder: str, on_conflict: str, wait: bool, as_json: bool
) -> None:
    """Hand in files and folders.

    Ends with 0 if everything was stored (with --no-wait: accepted), 1 if something was not, and says what and why.
    """
    chosen = settings()
    staging = Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes)
    readiness.check_staging(staging)
    intake.destination(
        corp_index, "a name", folder=folder
    )  # the corporation and the folder are right, or nothing is
    sent = _send_all(staging, walk(paths), Where(corp_index, folder, OnConflict(on_conflict)))
    if wait:
        try:
            _wait(sent)
            _note_failures(sent)
        except KeyboardInterrupt:
            click.echo(
                f"\n{len(sent.uploads)} accepted; they go on without you: see `haulage status`", err=True
            )
            sys.exit(130)
    summarise = _summarise_json if as_json else _summarise
    summarise(sent, "stored" if wait else "accepted")
    sys.exit(1 if sent.failures else 0)


def _send_all(staging: Staging, found: Iterable[Found | LeftOut], to: Where) -> Sent:
    sent, files = Sent(), []
    for one in found:
        if isinstance(one, Found):
            files.append(one)
        else:
            _note_left_out(sent, one)
    with click.progressbar(
        length=sum(file.size for file in files), label="Receiving", file=sys.stderr
    ) as bar:
        for number, file in enumerate(files, start=1):
            _send_one(staging, file, to, sent, bar.update)
            if number % WAKE_AT_A_TIME == 0:
                wake.new_uploads(sent.take_unwoken(), settings().wake_window)
    wake.new_uploads(sent.take_unwoken(), settings().wake_window)
    return sent


def _send_one(staging: Staging, file: Found, to: Where, sent: Sent, tell: Callable[[int], None]) -> None:
    try:
        folder = "/".join((to.folder, *file.folder))
        place = intake.destination(to.corp_index, file.name, folder=folder, on_conflict=to.on_conflict)
        staging.make_room(file.size)
        upload = intake.accept(staging, place, staging.put(_counted(file.path, tell)))
    except (HaulageError, OSError) as error:
        message = str(getattr(error, "strerror", None) or error)
        code = error.code if isinstance(error, HaulageError) else "input_output_error"
        sent.failures.append(Failure(_shown(file.path), code, message))
        return
    sent.uploads[upload.id] = file.path
    sent.unwoken.append(upload.id)


def _note_left_out(sent: Sent, one: LeftOut) -> None:
    if one.wanted:
        sent.failures.append(Failure(_shown(one.path), "left_out", one.reason))
    else:
        sent.left_out[one.reason] += 1


def _counted(path: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in chunks(path):
        yield chunk
        tell(len(chunk))


def _wait(sent: Sent) -> None:
    """Wait until every upload is decided. An interruption loses nothing: the uploads are safe already."""
    left = dict.fromkeys(sent.uploads, 0)  # bytes that the bar has seen of each
    with session_scope() as session:
        total = session.scalar(select(func.sum(Upload.size)).where(Upload.id.in_(left))) or 0
    with click.progressbar(length=int(total) + len(left), label="Storing  ", file=sys.stderr) as bar:
        told: set[str] = set()
        while left:
            bar.update(_advance(left))
            if left:
                _tell_waits(left, told)
                time.sleep(POLL_SECONDS)


def _tell_waits(left: Collection[UUID], told: set[str]) -> None:
    """Say on a line of its own why uploads wait, each reason once."""
    with session_scope() as session:
        paused = pauses.now(session)
        waiting = or_(Upload.reason.is_not(None), Upload.drive.in_(list(paused)))
        queued = select(Upload).where(Upload.id.in_(left), Upload.state == State.QUEUED, waiting)
        queued = queued.limit(WAITS_AT_A_TIME)
        waits = [listing.describe(one, paused) for one in session.scalars(queued)]
    for one in waits:
        if one["reason"] is not None and one["reason"] not in told:
            told.add(one["reason"])
            why = f"{one['reason']}: {one['message']}"
            click.echo(f"\nWaiting: {why}. The files are safe; Ctrl-C loses nothing.", err=True)


def _advance(left: dict[UUID, int]) -> int:
    """Take what is decided out of `left`; return what the bar goes on by: bytes, and one for each upload."""
    with session_scope() as session:
        rows = session.execute(
            select(Upload.id, Upload.state, Upload.size, Upload.sent).where(Upload.id.in_(left))
        ).all()
    advance = 0
    for upload_id, state, size, sent in rows:
        decided = state in FINISHED
        seen = (size or 0) if decided else max(left[upload_id], sent or 0)
        advance += seen - left[upload_id] + decided
        if decided:
            del left[upload_id]
        else:
            left[upload_id] = seen
    return advance


def _note_failures(sent: Sent) -> None:
    with session_scope() as session:
        failed = select(Upload).where(Upload.id.in_(sent.uploads), Upload.state != State.STORED)
        for one in session.scalars(failed):
            told = (one.reason or one.state, one.message or one.state)
            sent.failures.append(Failure(_shown(sent.uploads[one.id]), *told, one.id))


def _summarise(sent: Sent, done: str) -> None:
    for failure in sent.failures:
        click.echo(f"not {done}: {failure.as_text()}", err=True)
    for reason, number in sent.left_out.items():
        click.echo(f"left out: {reason}{f', {number} times' if number > 1 else ''}", err=True)
    click.echo(f"{len(sent.good())} {done}, {len(sent.failures)} failed")


def _summarise_json(sent: Sent, done: str) -> None:
    good = {str(one): _shown(path) for one, path in sent.good().items()}
    put_json({done: good, "failures": sent.failures, "left_out": sent.left_out})


def _shown(path: Path) -> str:
    return names.printable(str(path))


COMMANDS = (upload,)
