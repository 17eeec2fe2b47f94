"""`haulage upload`: files and folders in, and what became of them."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import select

from app import intake, names, readiness, wake
from app.database import session_scope
from app.errors import HaulageError
from app.models import FINISHED, OnConflict, State, Upload
from app.settings import settings
from app.staging import Staging
from app.walk import Found, LeftOut, chunks, walk

WAKE_AT_A_TIME = 100
POLL_SECONDS = 0.5


@dataclass
class Sent:
    """What one call of the command has handed in, and what it has not."""

    uploads: dict[UUID, Path] = field(default_factory=dict)
    good: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unwoken: list[UUID] = field(default_factory=list)

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
def upload(paths: tuple[Path, ...], corp_index: int, folder: str, on_conflict: str, wait: bool) -> None:
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
    sent.good = len(sent.uploads)
    if wait:
        try:
            _wait(sent)
        except KeyboardInterrupt:
            click.echo(
                f"\n{len(sent.uploads)} accepted; they go on without you: see `haulage status`", err=True
            )
            sys.exit(130)
    _summarise(sent, "stored" if wait else "accepted")
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
        sent.failures.append(f"{_shown(file.path)}: {getattr(error, 'strerror', None) or error}")
        return
    sent.uploads[upload.id] = file.path
    sent.unwoken.append(upload.id)


def _note_left_out(sent: Sent, one: LeftOut) -> None:
    if one.wanted:
        sent.failures.append(f"{_shown(one.path)}: {one.reason}")
    else:
        sent.left_out[one.reason] += 1


def _counted(path: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in chunks(path):
        yield chunk
        tell(len(chunk))


def _wait(sent: Sent) -> None:
    """Wait until every upload is decided. An interruption loses nothing: the uploads are safe already."""
    ids = list(sent.uploads)
    done = 0
    with click.progressbar(length=len(ids), label="Storing  ", file=sys.stderr) as bar:
        while done < len(ids):
            with session_scope() as session:
                finished = select(Upload.id).where(Upload.id.in_(ids), Upload.state.in_(FINISHED))
                now_done = len(session.scalars(finished).all())
            bar.update(now_done - done)
            done = now_done
            if done < len(ids):
                time.sleep(POLL_SECONDS)
    with session_scope() as session:
        failed = select(Upload).where(Upload.id.in_(ids), Upload.state != State.STORED)
        for one in session.scalars(failed):
            sent.failures.append(
                f"{_shown(sent.uploads[one.id])}: {one.message or one.state} (upload {one.id})"
            )


def _summarise(sent: Sent, done: str) -> None:
    for failure in sent.failures:
        click.echo(f"not {done}: {failure}", err=True)
    for reason, number in sent.left_out.items():
        click.echo(f"left out: {reason}{f', {number} times' if number > 1 else ''}", err=True)
    click.echo(f"{sent.good} {done}, {len(sent.failures)} failed")


def _shown(path: Path) -> str:
    return names.printable(str(path))


COMMANDS = (upload,)
