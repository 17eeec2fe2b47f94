"""What the web process is before it serves, and how it reads a body."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import Incomplete
from app.web import receiving

LOOK = """
import socket, sys
socket.socket.connect = None
import app.web.main
from app import database
assert "engine" not in database._process
assert not [name for name in sys.modules if name.split(".")[0] in {"tasks", "tests", "local", "celeryconfig"}]
"""


def test_importing_the_application_connects_nowhere_and_loads_no_task() -> None:
    root = Path(__file__).parents[2]

    subprocess.run([sys.executable, "-c", LOOK], cwd=root, env={"PYTHONPATH": str(root)}, check=True)


@pytest.mark.anyio
async def test_a_silent_sender_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    async def silence() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    monkeypatch.setattr(receiving, "SILENCE_SECONDS", 0.05)
    body = silence()

    assert await receiving._next(body) == b"x"
    with pytest.raises(Incomplete):
        await receiving._next(body)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
