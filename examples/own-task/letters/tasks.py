"""Send letters. A message may be lost, or come twice; a letter is sent once."""

import os
from pathlib import Path

from kombu import Exchange, Queue
from sqlalchemy import text

from app.database import session_scope
from app.queue import celery

# A queue of our own: letters do not wait behind uploads. Haulage's settings refuse a queue that nobody has declared.
celery.conf.task_queues = [
    *celery.conf.task_queues,
    Queue("letters", Exchange("letters"), routing_key="letters"),
]
celery.conf.imports = [*celery.conf.imports, "letters.tasks"]

# One statement takes the letter, or finds that it is not to be had: sent, or in another child's hands.
CLAIM = text("""
    UPDATE letters.letters SET state = 'sending', sends = sends + 1, due_at = now() + interval '1 minute'
    WHERE id = :id AND state <> 'sent' AND due_at <= now()
    RETURNING words, sends
""")
# Only the one who took it last may say that it is sent.
SENT = text("UPDATE letters.letters SET state = 'sent' WHERE id = :id AND sends = :sends")
OVERDUE = text(
    "SELECT id FROM letters.letters WHERE state <> 'sent' AND due_at <= now() ORDER BY due_at LIMIT 1000"
)


@celery.task(name="letters.tasks.send_letter")
def send_letter(letter_id):
    with session_scope() as session:
        claimed = session.execute(CLAIM, {"id": letter_id}).one_or_none()
    if claimed is None:
        return
    # No transaction is open here, however long this takes.
    with Path(os.environ["OUTBOX"]).open("a") as outbox:
        outbox.write(f"{letter_id} {claimed.words}\n")
    with session_scope() as session:
        session.execute(SENT, {"id": letter_id, "sends": claimed.sends})


@celery.task(name="letters.tasks.send_overdue")
def send_overdue():
    """For beat, or for cron: what was written and never sent, since its message or its worker was lost."""
    with session_scope() as session:
        overdue = session.scalars(OVERDUE).all()
    for letter_id in overdue:
        send_letter.apply_async([letter_id], queue="letters")
