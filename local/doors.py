"""Sends files through the four doors of a running Haulage, as a stranger would: HTTP, command, Celery, SQL."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg2
from celery import Celery

from app.walk import Found
from local.system import System

Tell = Callable[[int], None]
Key = Callable[[str], str]


def over_http(url: str, token: str, corp: int, files: Sequence[Found], tell: Tell) -> None:
    address = f"{url}/api/v1/corporations/{corp}/uploads"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        for file in files:
            query = f"name={quote(file.name)}&folder={quote('/'.join(file.folder))}&on_conflict=rename"
            with file.path.open("rb") as body:
                client.post(f"{address}?{query}", content=body).raise_for_status()
            tell(1)


def by_command(haulage: System, corp: int, files: Sequence[Found], tell: Tell) -> None:
    """Lay the files out in a folder of their own and hand its content to `haulage upload`."""
    laid_out = haulage.data / "command"
    for file in files:
        _copy(file, laid_out)
    if files:
        tops = sorted(str(path) for path in laid_out.iterdir())
        haulage.run("upload", "--corp", str(corp), "--on-conflict", "rename", "--no-wait", "--", *tops)
    tell(len(files))


def by_celery(haulage: System, corp: int, files: Sequence[Found], tell: Tell) -> None:
    """Put files into the inbox and send the task by its name, from a Celery application that knows nothing of ours."""
    stranger = Celery("stranger", broker=haulage.environment["REDIS_URL"])
    with stranger.connection_for_write() as connection:
        for file in files:
            _copy(file, _inbox(haulage, corp))
            stranger.send_task(
                "tasks.uploads.upload_file", args=[corp, _path(file)], queue="uploads", connection=connection
            )
            tell(1)


def by_sql(haulage: System, corp: int, files: Sequence[Found], tell: Tell) -> None:
    """Put files into the inbox and queue them in one transaction of our own."""
    connection = psycopg2.connect(haulage.environment["WEB_DATABASE_URL"])
    try:
        with connection, connection.cursor() as cursor:
            for file in files:
                _copy(file, _inbox(haulage, corp))
                cursor.execute("SELECT corporate.enqueue_upload(%s, %s)", (corp, _path(file)))
                tell(1)
    finally:
        connection.close()


def share_out(files: Sequence[Found], key: Key) -> dict[str, list[Found]]:
    """Give each door a part. What must be renamed because names collide goes to the doors that can ask for it.

    `key` is what two names have in common that cannot stand beside each other where the files go.
    """
    shares: dict[str, list[Found]] = {"http": [], "command": [], "celery": [], "sql": []}
    colliding = _colliding(files, key)
    for number, file in enumerate(files):
        doors = ("http", "command") if _keys(file, key) & colliding else tuple(shares)
        shares[doors[number % len(doors)]].append(file)
    return shares


def _keys(file: Found, key: Key) -> set[tuple[str, ...]]:
    """Return the places that a file and its folders take."""
    parts = tuple(key(part) for part in (*file.folder, file.name))
    return {parts[: length + 1] for length in range(len(parts))}


def _colliding(files: Sequence[Found], key: Key) -> set[tuple[str, ...]]:
    spellings: dict[tuple[str, ...], set[tuple[tuple[str, ...], bool]]] = {}
    for file in files:
        parts = (*file.folder, file.name)
        for length in range(1, len(parts) + 1):
            place = tuple(key(part) for part in parts[:length])
            spellings.setdefault(place, set()).add((parts[:length], length == len(parts)))
    return {place for place, found in spellings.items() if len(found) > 1}


def _path(file: Found) -> str:
    return "/".join((*file.folder, file.name))


def _inbox(haulage: System, corp: int) -> Path:
    return haulage.data / "inbox" / str(corp)


def _copy(file: Found, below: Path) -> None:
    target = below.joinpath(*file.folder, file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file.path, target)
