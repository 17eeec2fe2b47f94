"""The transaction that a parent keeps open while its children work: begun, finished, and judged from outside."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

INSERT = text("INSERT INTO fork_lab VALUES (:run, 0, :number)")
XID = text("SELECT txid_current()")
NEVER_FINISHED = "the parent never came to its commit"


@dataclass
class Transaction:
    """Two rows in one transaction, the second written when the children have done their work."""

    run_id: str
    session: Session | scoped_session[Session] | None  # None: this process has let go of it
    xid: int = 0

    def begin(self) -> "Transaction":
        self.xid = self._write(0)
        return self

    def finish(self) -> bool:
        """Write the second row and commit; True if the server still knew the transaction that was begun."""
        is_ours = self._write(1) == self.xid
        self._opened().commit()
        return is_ours

    def _write(self, number: int) -> int:
        session = self._opened()
        session.execute(INSERT, {"run": self.run_id, "number": number})
        return int(session.execute(XID).scalar_one())

    def _opened(self) -> Any:
        if self.session is None:
            raise RuntimeError("this process has let go of the transaction")
        return self.session


def plain(engine: Engine, run_id: str) -> Transaction:
    return Transaction(run_id, Session(engine)).begin()


def scoped(engine: Engine, run_id: str) -> Transaction:
    return Transaction(run_id, scoped_session(sessionmaker(engine))).begin()


def how_lost(rows: set[int], *, is_ours: bool) -> str | None:
    """Say what became of a transaction whose commit gave no error; None if it stood. rows: the numbers now there."""
    if 0 not in rows:
        return "rolled back by a child, and the commit gave no error"
    if not is_ours:
        return "committed by a child, in the middle"
    return None if 1 in rows else "committed without its second row"
