"""Upload tasks: a message becomes a call."""

import logging
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from celery import Task
from celery.exceptions import Ignore

from app import asked, attempt, catalogue, names, queue, uploads, wake
from app.database import session_scope
from app.endings import Outcome
from app.errors import HaulageError
from app.models import FINISHED, Upload
from app.results import report, result_of
from app.uploads import Destination
from tasks.means import means
from tasks.patience import patiently

log = logging.getLogger(__name__)

_NAMESPACE = uuid5(NAMESPACE_URL, "haulage:task")


@queue.celery.task(name=queue.TRANSFER_UPLOAD)
def transfer_upload(upload_id: str) -> None:
    """Make one attempt at an upload, if it is to be had. A message may come twice, late, or for nothing."""
    try:
        wanted = UUID(upload_id)
    except (ValueError, TypeError, AttributeError):
        log.warning("a message names no upload: %.100r", upload_id)
        return
    made = _try(wanted)
    if made is not None and made.task_id is not None:
        report(wanted)


@queue.celery.task(name=queue.UPLOAD_FILE, bind=True, ignore_result=False, throws=(HaulageError,))
def upload_file(self: Task, corp_index: int, filename: str, parent_id: str | None = None) -> dict[str, Any]:
    """Take a file from the corporation's inbox into the drive; the door for other Celery applications.

    The upload's row is committed first, under an id that follows from the task's own: a message that is delivered twice
    is one upload. Whoever waits gets `{"id", "parent_id", "name", "upload_id", "state"}` (and `reason` where it failed)
    when it is stored or failed, whichever process brings that about. Raises Refused if there can be no such upload.
    """
    # The corporation is part of the id, so that a sender who reuses another one's task id gets an upload of its own.
    upload_id = uuid5(_NAMESPACE, f"{corp_index}:{self.request.id}")
    patiently(lambda: _register(upload_id, self.request.id, corp_index, filename, parent_id))
    _try(upload_id)
    result = patiently(lambda: _result(upload_id))
    if result is None:
        raise Ignore  # the attempt that finishes the upload stores the result
    return result


def _register(upload_id: UUID, task_id: str, corp_index: int, filename: str, parent_id: str | None) -> None:
    with session_scope() as session:
        parent = parent_id or catalogue.root_id(session, corp_index)
        catalogue.folder(session, corp_index, parent)
        to = Destination(corp_index, parent, *names.split(filename))
        uploads.register_inbox(session, to, filename, upload_id, task_id)


def _result(upload_id: UUID) -> dict[str, Any] | None:
    with session_scope() as session:
        upload = session.get_one(Upload, upload_id)
        return result_of(session, upload) if upload.state in FINISHED else None


def _try(upload_id: UUID) -> Upload | None:
    """Make one attempt; return the upload if that finished it."""
    made = patiently(lambda: attempt.make(upload_id, means()))
    asked.note_soon(means().drives)
    if made is None:
        return None
    upload, outcome = made
    if outcome is Outcome.GOES_ON:
        wake.going_on(upload_id)
    return upload if outcome is Outcome.FINISHED else None
