"""Judges a run from the outside: what was sent against what PostgreSQL and the drive hold, and who served it."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from app import names, verify
from app.drives.base import Drive
from app.walk import Found


@dataclass
class Verdict:
    sent: int
    stored: int = 0
    equal: int = 0
    items: verify.Findings = field(default_factory=verify.Findings)
    sessions: dict[str, dict[int, str]] = field(
        default_factory=dict
    )  # process -> PostgreSQL session -> TLS version
    changed: list[str] = field(default_factory=list)  # sources that somebody wrote to while the system ran
    wrong: list[str] = field(default_factory=list)
    checked: str = ""  # what `haulage verify` said, where it was asked

    @property
    def good(self) -> bool:
        return not self.wrong


Stamp = tuple[int, int] | None


def stamp(path: Path) -> Stamp:
    """Return what tells that a file has changed: its size and time; None for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Holding:
    """Where the files went: the drive, and how to know a file's sha256 there by its id, in hexadecimal; None: not there."""

    drive: Drive
    sha256: Callable[[str], str | None]


def judge(
    files: Mapping[Found, Stamp], owner_url: str, holding: Holding, corp: int, tls: dict[int, str]
) -> Verdict:
    """Compare every source with the drive's file that its upload became.

    Each file comes with the stamp that it had before it was sent; `tls` was seen while the system ran.
    """
    verdict = Verdict(len(files))
    stored = _ask(
        owner_url,
        "SELECT folder, name, state, item_id, coalesce(message, '') FROM corporate.uploads WHERE corp_index = %s",
        corp,
    )
    by_place = {(*folder, name): (state, item, why) for folder, name, state, item, why in stored}
    if len(stored) != len(files):
        verdict.wrong.append(f"{len(files)} files were sent, {len(stored)} uploads are known")
    for file, before in files.items():
        if stamp(file.path) != before:
            verdict.changed.append(names.printable(str(file.path)))
            verdict.stored += 1
        else:
            _judge_one(file, by_place.get((*file.folder, file.name)), holding, verdict)
    verdict.items = verify.corporation(holding.drive, corp)
    verdict.wrong += verdict.items.problems
    _judge_sessions(owner_url, tls, verdict)
    return verdict


def _judge_one(
    file: Found, upload: tuple[str, str | None, str] | None, holding: Holding, verdict: Verdict
) -> None:
    shown = names.printable("/".join((*file.folder, file.name)))
    if upload is None:
        verdict.wrong.append(f"{shown}: there is no upload of it")
        return
    state, item, why = upload
    if state != "stored" or item is None:
        verdict.wrong.append(f"{shown}: {state}: {why}")
        return
    verdict.stored += 1
    if sha256(file.path) == holding.sha256(item):
        verdict.equal += 1
    else:
        verdict.wrong.append(f"{shown}: the drive holds other bytes")


def _judge_sessions(owner_url: str, tls: dict[int, str], verdict: Verdict) -> None:
    """Ask the events who served: each attempt noted its process and the PostgreSQL session it used."""
    served = _ask(
        owner_url,
        "SELECT DISTINCT detail->>'process', (detail->>'session')::int FROM corporate.upload_events"
        " WHERE kind = 'transferring'",
    )
    users = defaultdict(set)
    for process, session in served:
        users[session].add(process)
        verdict.sessions.setdefault(process, {})[session] = tls.get(session, "not seen")
    for session, processes in users.items():
        if len(processes) > 1:
            verdict.wrong.append(f"PostgreSQL session {session} served {sorted(processes)}")
        if not tls.get(session, "").startswith("TLS"):
            verdict.wrong.append(f"PostgreSQL session {session} was never seen under TLS")


def tls_by_session(admin_url: str) -> dict[int, str]:
    """Return the TLS version of every session that is open now, by its backend's pid; only a superuser sees others'."""
    return dict(_ask(admin_url, "SELECT pid, version FROM pg_stat_ssl WHERE ssl"))


def progress(owner_url: str, corp: int) -> dict[str, int]:
    """Return how many uploads are in which state."""
    return dict(
        _ask(
            owner_url, "SELECT state, count(*) FROM corporate.uploads WHERE corp_index = %s GROUP BY 1", corp
        )
    )


def _ask(url: str, statement: str, *parameters: object) -> list[tuple]:  # type: ignore[type-arg]
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()
    finally:
        connection.close()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
