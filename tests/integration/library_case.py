"""A corporation that lives in a simulated document library, uploads to it, and what its users do there. Fixtures: library_fixtures.py."""

import hashlib
from typing import Any
from uuid import UUID

from app import attempt, catalogue, pauses, steering, uploads, verify
from app.database import session_scope
from app.models import OnConflict, State
from app.uploads import Destination
from tasks.means import means
from tests.factories import row, staging_of
from tests.graph.launch import Simulator
from tests.installation import LIBRARY, LIBRARY_CORP, Installation

DATA = b"the same bytes"


class Library:
    """A document library of SharePoint, and an installation whose corporation lives there."""

    def __init__(self, installation: Installation, simulator: Simulator) -> None:
        self.installation, self.simulator = installation, simulator

    def upload(self, name: str, data: bytes = DATA, policy: OnConflict = OnConflict.FAIL) -> UUID:
        with session_scope() as session:
            to = Destination(LIBRARY_CORP, catalogue.root_id(session, LIBRARY_CORP), (), name, policy)
            return uploads.register(session, to, staging_of(self.installation).put([data])).id

    def stored(self, name: str, data: bytes = DATA) -> UUID:
        upload_id = self.upload(name, data)
        attempt.make(upload_id, means())
        assert row(upload_id).state == State.STORED
        return upload_id

    def throttle(self, **where: Any) -> None:
        """Let the drive ask for a pause once."""
        answer: dict[str, Any] = {"action": "answer", "status": 429, "code": "activityLimitReached"}
        self.simulator.control("POST faults", **answer, **where)

    def lift(self) -> None:
        with session_scope() as session:
            pauses.lift(session, LIBRARY)

    def cancel(self, upload_id: UUID) -> None:
        with session_scope() as session:
            steering.cancel(session, LIBRARY_CORP, upload_id)

    def files(self) -> list[str]:
        return [path.rpartition("/")[2] for path in self._files()]

    def holds(self, data: bytes) -> bool:
        """True if these are the bytes of the only file."""
        return [one["sha256"] for one in self._files().values()] == [hashlib.sha256(data).hexdigest()]

    def behind_our_back(self, request: str, **given: Any) -> None:
        """Let a person do something to the only file."""
        (path,) = self._files()
        self.simulator.control(request, drive=self.simulator.drive, path=path, **given)

    def _files(self) -> dict[str, dict[str, Any]]:
        found = self.simulator.control("GET tree", drive=self.simulator.drive)
        return {one["path"]: one for one in found if not one["folder"]}

    def verify(self) -> list[str]:
        return verify.corporation(means().drives.named(LIBRARY), LIBRARY_CORP).problems

    def items(self) -> list[tuple]:
        """Return the files that the catalogue has, by name and hash."""
        return self.installation.query(
            "SELECT name, sha256 FROM corporate.vmb_items WHERE corp_index = %s AND kind = 'file' ORDER BY id",
            LIBRARY_CORP,
        )
