"""The thread that tells the workers."""

import threading
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from app import wake
from app.web import waker
from app.web.waker import Waker


class Redis:
    """Stands in for `wake`: remembers batches, and holds the first one back until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[UUID]] = []
        self.may_go_on = threading.Event()

    def new_uploads(self, upload_ids: Sequence[UUID], _window: int) -> None:
        self.batches.append(list(upload_ids))
        self.may_go_on.wait(10)
        if len(self.batches) == 1:
            raise RuntimeError("whatever")


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Redis:
    made = Redis()
    monkeypatch.setattr(wake, "new_uploads", made.new_uploads)
    return made


def started(redis: Redis, first: UUID) -> Waker:
    made = Waker(10)
    made.start()
    made.add(first)
    while not redis.batches:
        time.sleep(0.001)
    return made


def test_what_waits_is_woken_together_and_an_error_ends_nothing(redis: Redis) -> None:
    first, *others = [uuid4() for _ in range(5)]
    one = started(redis, first)
    for upload_id in others:
        one.add(upload_id)

    redis.may_go_on.set()
    one.stop()

    assert redis.batches == [[first], others]


def test_what_does_not_fit_is_left_to_the_sweep(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waker, "MOST_WAITING", 3)
    one = started(redis, uuid4())
    for _ in range(10):
        one.add(uuid4())

    redis.may_go_on.set()
    one.stop()

    assert [len(batch) for batch in redis.batches] == [1, 3]


def test_stopping_does_not_wait_for_ever(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waker, "PATIENCE_SECONDS", 0.05)
    one = started(redis, uuid4())

    began = time.monotonic()
    one.stop()

    assert time.monotonic() - began < 5
    redis.may_go_on.set()
