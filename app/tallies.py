"""Adds up what happened to uploads, for whoever watches. No commit waits for a count: the events are the record.

The functions of the database do the adding: what lies before a horizon is folded into a few rows, and what came after it
is added when somebody asks. Wake-ups alone are no events: they are counted after they were sent, in a transaction of their
own. Of a sending that Redis breaks off none is counted.
"""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.models import Tally

WAKE_UPS = "wake_ups"  # no event: there may be several for each upload
FOLDED_AT_A_TIME = 50_000


def fold(session: Session) -> bool:
    """Fold the oldest events that are not folded yet; return True if there are more."""
    return bool(session.scalar(text("SELECT corporate.fold_tallies(:many)"), {"many": FOLDED_AT_A_TIME}))


def add_wake_ups(session: Session, number: int) -> None:
    """Count wake-ups that were sent. All senders write to one row: let the transaction be over at once."""
    added = insert(Tally).values(what=WAKE_UPS, drive="", amount=number)
    session.execute(
        added.on_conflict_do_update(
            index_elements=[Tally.what, Tally.drive], set_={"amount": Tally.amount + added.excluded.amount}
        )
    )


def totals(session: Session) -> Mapping[tuple[str, str], int]:
    """Return how often what happened, by kind of event and drive (empty where it does not matter).

    `bytes` and `milliseconds` are sums over stored uploads; events of a release that did not note them count nothing.
    """
    rows = session.execute(text("SELECT what, drive, amount FROM corporate.totals"))
    return {(what, drive): amount for what, drive, amount in rows}
