# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Haulage developers
"""Keeps the worker of `haulage doctor --app`: starts it, ends it with the doctor whatever happens, and clears up.

Runs in the other project's interpreter, as forkprobe.py does. Its standard input is the doctor's life-line: a line on it is
passed on to the worker; its end, by whatever death, is the end of everything here.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

WARM_SECONDS, CLEAR_SECONDS = 1, 20


def main() -> None:
    probe, folder, token, name, project = sys.argv[1:]
    doctor = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the doctor does
    read, write = os.pipe()
    with Path(folder, "log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, probe, folder, token, name, project, str(write)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=project,
            pass_fds=[write],
            start_new_session=True,
        )
    os.close(write)
    try:
        _keep(worker)
    finally:
        _end(worker)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CLEAR_SECONDS)
        with os.fdopen(read, "rb") as pipe:
            _clear(pipe, token, project)
        if os.getppid() != doctor:  # it would have removed it
            shutil.rmtree(folder, ignore_errors=True)


def _keep(worker: subprocess.Popen[bytes]) -> None:
    """Pass the doctor's lines on until it has gone, or the worker has."""
    assert worker.stdin is not None  # noqa: S101  for the type checker
    while worker.poll() is None:
        if select.select([0], [], [], 0.05)[0]:
            line = os.read(0, 100)
            if not line:
                return
            with suppress(BrokenPipeError):
                worker.stdin.write(line)
                worker.stdin.flush()


def _end(worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WARM_SECONDS
    if worker.poll() is None:
        worker.terminate()
    while worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)  # children that are left, too
    worker.wait()


def _clear(pipe: IO[bytes], token: str, project: str) -> None:
    """Delete the queue and, in Redis, every key that begins with our token."""
    sent = pipe.read()
    if sent:
        sys.path.insert(0, project)  # the transport may be the project's own
        with suppress(Exception), pickle.loads(sent) as connection:  # noqa: S301  our own worker's
            channel = connection.default_channel
            with suppress(Exception):
                channel.queue_delete(token)
                channel.exchange_delete(token)
            if "redis" in type(channel).__module__ or hasattr(channel, "client"):
                pool = channel.client.connection_pool
                client = importlib.import_module("redis").Redis(connection_pool=pool)  # without the prefix
                for key in client.scan_iter(match=f"{token}*", count=1000):
                    client.delete(key)


if __name__ == "__main__":
    main()
