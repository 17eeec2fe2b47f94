"""A worker in which names tell what goes wrong: `raise`, `exit` or `hang`, in the drive or inside a transaction."""

import time

from app import catalogue
from app.drives.filesystem import FilesystemDrive
from tasks.worker import app

app.conf.task_soft_time_limit = 2  # the command line's option does not outdo the configuration

_finish, _record = FilesystemDrive.finish, catalogue.record


def go_wrong(name):
    if "raise" in name:
        raise RuntimeError("as the name says")
    if "exit" in name:
        raise SystemExit(1)
    if "hang" in name:
        time.sleep(60)


def finish(self, delivery, session, last, may_place):
    made = _finish(self, delivery, session, last, may_place)
    if "placed" in delivery.name:
        go_wrong(delivery.name)
    return made


def record(session, corp_index, new, **options):
    recorded = _record(session, corp_index, new, **options)
    session.flush()
    if "placed" not in new.name:
        go_wrong(new.name)
    return recorded


FilesystemDrive.finish = finish
catalogue.record = record
