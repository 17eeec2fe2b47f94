"""Receives a file: disk, row, commit, in this order; telling the workers comes last and may fail."""

from collections.abc import Iterable

from app import catalogue, names, uploads, wake
from app.database import session_scope
from app.errors import Refused
from app.models import OnConflict, Upload
from app.staging import Staged, Staging
from app.uploads import Destination


def destination(
    corp_index: int,
    name: str,
    *,
    folder: str = "",
    parent_id: str | None = None,
    on_conflict: OnConflict = OnConflict.FAIL,
) -> Destination:
    """Check where a file is to go: `folder` is a path of names below `parent_id`, or below the root without one.

    Raises BadName, PathTooLong, CorporationUnknown, or NotFound for a parent that is not a folder there.
    """
    parts = names.parts(folder)
    names.check_path(parts, names.check(name))
    with session_scope() as session:
        parent = parent_id or catalogue.root_id(session, corp_index)
        catalogue.folder(session, corp_index, parent)
    return Destination(corp_index, parent, parts, name, on_conflict)


def accept(
    staging: Staging,
    to: Destination,
    staged: Staged,
    idempotency_key: str | None = None,
    request_id: str | None = None,
) -> Upload:
    """Commit the row of staged bytes. From here on the upload is safe, whatever becomes of this process.

    The same `idempotency_key` with the same file and place gives the upload that came before; raises KeyReused if it
    came with another one.
    """
    try:
        with session_scope() as session:
            upload = uploads.register(session, to, staged, idempotency_key, request_id)
    except Refused:
        staging.remove(staged.id)
        raise  # after any other error the commit may have happened: the purge removes what no row knows
    if upload.staged_id != staged.id:
        staging.remove(staged.id)
    return upload


def receive(staging: Staging, to: Destination, chunks: Iterable[bytes], wake_window: int) -> Upload:
    """Take a file from an iterable of bytes."""
    staged = staging.put(chunks)
    upload = accept(staging, to, staged)
    wake.new_uploads([upload.id], wake_window)
    return upload
