"""The Celery worker: `celery -A classic.worker worker`."""

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init

from classic import onedrive
from classic.database import Item, Session, engine

INBOX = Path(os.environ["INBOX_DIR"])

celery = Celery("classic", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
celery.conf.task_default_queue = "classic"
celery.conf.broker_connection_retry_on_startup = True

with Session() as session:  # they hardly ever change, so they are read once
    ROOTS = {root.corp_index: root.id for root in session.query(Item).filter_by(parent_id=None)}

if os.environ.get("CLASSIC_POOL") == "disposed":  # the cure that is found when the errors have a name

    @worker_process_init.connect
    def begin_with_a_fresh_pool(**_):
        engine.dispose(close=False)


@celery.task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=1)
def upload_file(corp_index, filename):
    with Session() as session:
        folder = session.get(Item, ROOTS[corp_index])
        made = onedrive.upload(folder.name, filename, INBOX / str(corp_index) / filename)
        session.add(
            Item(corp_index=corp_index, parent_id=folder.id, name=filename, onedrive_item_id=made["id"])
        )
        folder.child_count += 1
        session.commit()
        return made["id"]
