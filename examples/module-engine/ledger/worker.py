"""The Celery worker: `celery -A ledger.worker worker`."""

import os

from celery import Celery
from celery.signals import worker_init

from ledger.database import Base, Entry, Session, engine

celery = Celery("ledger", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
celery.conf.task_default_queue = "ledger"
celery.conf.broker_connection_retry_on_startup = True


@worker_init.connect
def open_the_ledger(**_):
    # Innocent, and the fault: `worker_init` runs in the worker's first process, and leaves a connection in the pool
    # that all its children will inherit.
    Base.metadata.create_all(engine)


@celery.task
def write_down(subject):
    with Session.begin() as session:
        entry = Entry(subject=subject)
        session.add(entry)
        session.flush()
        session.refresh(entry)
        return {"subject": entry.subject, "session": entry.written_by, "process": os.getpid()}
