"""A worker that takes nothing from its queues any more, and answers a ping all the same."""

from collections.abc import Iterator

import pytest
from celery import Celery
from click.testing import CliRunner

from app.cli import health
from app.cli.main import haulage as command
from app.queue import Queue
from tests.acceptance.conftest import Haulage, wait_until


@pytest.fixture
def control(haulage: Haulage) -> Iterator[Celery]:
    with Celery("control", broker=haulage.installation.environment["REDIS_URL"]) as app:
        yield app


def exit_code() -> int:
    return CliRunner().invoke(command, ["health", "worker"]).exit_code


@pytest.mark.prove
def test_a_deaf_worker_is_told_from_one_that_works(
    haulage: Haulage, control: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOKS", 3)
    monkeypatch.setattr(health, "SILENCE_SECONDS", 0)  # then the lease of three seconds counts
    haulage.start_worker()
    haulage.start_beat()
    haulage.hand_in(1)
    haulage.wait_until_stored(1)
    healthy = exit_code()

    for queue in Queue:
        control.control.cancel_consumer(queue.value, reply=True)
    wait_until(exit_code, "it is told to be ill")
    answers = control.control.ping(timeout=5)
    for queue in Queue:
        control.control.add_consumer(queue.value, reply=True)
    wait_until(lambda: not exit_code(), "it is told to be well again")

    assert healthy == 0
    assert [answer for one in answers for answer in one.values()] == [{"ok": "pong"}], (
        "a ping says nothing of that"
    )
