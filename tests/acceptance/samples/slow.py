"""A worker whose drive takes its time: small chunks, and a pause with each of them."""

import os
import time

from app.drives.filesystem import FilesystemDrive
from tasks.worker import app  # noqa: F401

FilesystemDrive.chunk_bytes = 64 * 1024
_put = FilesystemDrive.put


def put(self, session, offset, data):
    time.sleep(float(os.environ["PUT_SECONDS"]))
    return _put(self, session, offset, data)


FilesystemDrive.put = put
