"""Keeps what a drive remembers of a transfer from being read in the database: an upload's address is a credential."""

import json
import logging
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.models import Json

log = logging.getLogger(__name__)


class Vault:
    """Seals with the first key, opens with any: so keys are changed without losing what is under way."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    def seal(self, session: Json | None) -> Json | None:
        """Return what may be saved. Without keys that is the session itself: no drive here has secrets in it."""
        if session is None or self._fernet is None:
            return session
        return {"sealed": self._fernet.encrypt(json.dumps(session).encode()).decode()}

    def open(self, saved: Json | None) -> Json | None:
        """Return the session, or None, which begins it anew, if it was sealed with a key that is not among ours."""
        if saved is None or "sealed" not in saved:
            return saved
        try:
            if self._fernet is not None:
                return dict(json.loads(self._fernet.decrypt(str(saved["sealed"]).encode())))
        except InvalidToken:
            pass
        log.error(
            "a saved upload session is sealed with a key that SESSION_KEYS does not have; it begins anew"
        )
        return None
