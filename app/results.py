"""What the sender of `upload_file` is told, once its upload is stored or failed."""

import logging
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app import catalogue, logs, queue
from app.database import session_scope
from app.models import FINISHED, State, Upload

log = logging.getLogger(__name__)


def result_of(session: Session, upload: Upload) -> dict[str, Any]:
    """Return an upload's outcome as plain JSON."""
    result = {
        "upload_id": str(upload.id),
        "state": upload.state,
        "id": None,
        "parent_id": None,
        "name": upload.name,
    }
    if upload.state != State.STORED or upload.item_id is None:
        return result | {"reason": upload.reason, "message": upload.message}
    item = catalogue.item(session, upload.corp_index, upload.item_id)
    return result | {"id": item.drive_item_id, "parent_id": item.parent_id, "name": item.name}


def report(upload_id: UUID) -> None:
    """Tell whoever waits for this upload's task, if anybody does and there is something to tell. A courtesy."""
    with session_scope() as session:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.task_id is None or upload.state not in FINISHED:
            return
        result = result_of(session, upload)
    try:
        queue.report(upload.task_id, result)
    except Exception:  # whatever Redis or its client raises: the row has been written, and it is the truth
        with logs.about(upload=upload_id, corporation=upload.corp_index, request=upload.request_id):
            log.warning("upload %s: its result could not be stored for the sender", upload_id, exc_info=True)
