"""Says for the drive what an upload brings, and lets the drive ask what the catalogue knows."""

from app import catalogue
from app.database import session_scope
from app.drives.base import Delivery
from app.models import OnConflict, Upload


def of(upload: Upload, parent_id: str, name: str, replaces: str | None = None) -> Delivery:
    """Return what an upload brings into a folder, by the drive's id, under a name."""

    def is_catalogued(item_id: str) -> bool:
        with session_scope() as session:
            return catalogue.has(session, upload.corp_index, item_id)

    return Delivery(
        upload.id,
        parent_id,
        name,
        upload.size or 0,
        upload.sha256 or "",
        upload.quick_xor or "",
        upload.on_conflict == OnConflict.REPLACE,
        replaces,
        upload.created_at,
        is_catalogued,
    )
