"""A worker whose drives stop it (SIGSTOP) at a place that a test has named by a file in STOPS, to be killed right there."""

import os
import signal
from pathlib import Path

from app.drives.filesystem import FilesystemDrive
from app.drives.onedrive import OneDrive
from tasks.worker import app  # noqa: F401

_begin, _put, _finish = FilesystemDrive.begin, FilesystemDrive.put, FilesystemDrive.finish


def stop_at(place):
    if (Path(os.environ["STOPS"]) / place).exists():
        os.kill(os.getpid(), signal.SIGSTOP)


def begin(self, delivery, previous=None):
    made = _begin(self, delivery, previous)
    stop_at("opened")
    return made


def put(self, session, offset, data):
    stop_at("saved")
    half = len(data) // 2
    _put(self, session, offset, data[:half])
    stop_at("in the middle")
    return _put(self, session, offset + half, data[half:])


def finish(self, *arguments):
    made = _finish(self, *arguments)
    stop_at("placed")
    return made


def stopping(release):
    def stop_and_release(self, session):
        stop_at("committed")
        release(self, session)

    return stop_and_release


FilesystemDrive.begin, FilesystemDrive.put, FilesystemDrive.finish = begin, put, finish
FilesystemDrive.release = stopping(FilesystemDrive.release)
OneDrive.release = stopping(OneDrive.release)
