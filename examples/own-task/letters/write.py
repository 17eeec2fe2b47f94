"""Write letters: `python -m letters.write "Dear reader" …`."""

import sys

from sqlalchemy import text

from app.database import session_scope
from letters.tasks import send_letter

WRITE = text("INSERT INTO letters.letters (words) VALUES (:words) RETURNING id")

for words in sys.argv[1:]:
    with session_scope() as session:
        letter_id = session.scalar(WRITE, {"words": words})
    # Committed: whoever gets the message finds the letter. Were it sent inside the block, a quick worker would not.
    send_letter.apply_async([letter_id], queue="letters")
    print(letter_id)
