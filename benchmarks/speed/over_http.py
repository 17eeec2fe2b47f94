"""Accepted uploads over HTTP while Redis is up, stopped, and frozen: how many a second, and how long one takes."""

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

import httpx
from redis import RedisError

from benchmarks.report import Table
from benchmarks.speed.chart import Chart
from benchmarks.speed.part import Part
from benchmarks.speed.rounds import HEADINGS, Rounds, shown, turned
from benchmarks.speed.stand import CORP, Stand, say
from local import given, servers, system
from local.system import NotUp

CLIENTS = 8
BODY = 4096  # bytes
UP, STOPPED, FROZEN = "Redis up", "Redis stopped", "Redis frozen"
NO_CONTROL = "Redis is one that was given, and is not ours to stop: unset DATABASE_URL and REDIS_URL"
SETTLED_SECONDS = 0.5


def measure(stand: Stand, requests: int, rounds: int) -> Part:
    """Send so many uploads in each state of Redis in each round, by eight clients that keep their connections."""
    if stand.servers.redis_pid == given.NOT_OURS:
        return Part("http", [], {}, notes=[f"HTTP was not measured: {NO_CONTROL}"])
    token = stand.system.run("token", "create", "--corp", CORP, "--label", "bench").strip()
    url = f"{stand.system.start_web(system.free_port())}/api/v1/corporations/{CORP}/uploads"
    found = {"accepted": Rounds("uploads/s", UP), "p50": Rounds("ms", UP), "p99": Rounds("ms", UP)}
    states = {UP: up, STOPPED: stopped, FROZEN: frozen}
    try:
        _send(url, token, CLIENTS * 4)  # not measured: whatever the first requests set up
        for number in range(rounds):
            for state in turned(list(states), number):
                _settle(stand)
                with states[state](stand):
                    _note(found, state, *_send(url, token, requests))
                say(
                    f"  round {number + 1} of {rounds}: {state}: {shown(found['accepted'].figures[state][-1])}"
                )
    finally:
        stand.system.stop("web")
    return _told(found, requests, rounds)


@contextmanager
def up(_stand: Stand) -> Iterator[None]:
    yield


@contextmanager
def stopped(stand: Stand) -> Iterator[None]:
    os.kill(stand.servers.redis_pid, signal.SIGTERM)
    stand.wait(partial(_is_deaf, stand), 0.02)
    try:
        yield
    finally:
        stand.servers = servers.restart_redis(stand.servers)


@contextmanager
def frozen(stand: Stand) -> Iterator[None]:
    os.kill(stand.servers.redis_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stand.servers.redis_pid, signal.SIGCONT)


def _is_deaf(stand: Stand) -> bool:
    try:
        with stand.redis() as redis:
            redis.ping()
    except RedisError:
        return True
    return False


def _settle(stand: Stand) -> None:
    """Wait until the web process has sent what it had to send, then empty the queue: a full one is sent nothing."""
    before = -1
    while True:
        with stand.redis() as redis, suppress(RedisError):
            now = int(redis.llen("uploads"))
            if now == before:
                redis.flushdb()
                return
            before = now
        time.sleep(SETTLED_SECONDS)


def _send(url: str, token: str, requests: int) -> tuple[float, list[float]]:
    """Return how long all took together, and each one, in seconds. Raises NotUp if one is not accepted."""
    seconds: list[float] = []
    start = threading.Barrier(CLIENTS + 1)
    one_client = partial(_client, url, token, requests // CLIENTS, start.wait)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(one_client) for _ in range(CLIENTS)]
        start.wait()
        began = time.perf_counter()
        for client in clients:
            seconds += client.result()
    return time.perf_counter() - began, seconds


def _client(url: str, token: str, requests: int, begin: Callable[[], object]) -> list[float]:
    seconds, body = [], secrets.token_bytes(BODY)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        begin()
        for _ in range(requests):
            began = time.perf_counter()
            answer = client.post(url, params={"name": f"{secrets.token_hex(8)}.bin"}, content=body)
            seconds.append(time.perf_counter() - began)
            if answer.status_code != httpx.codes.ACCEPTED:
                raise NotUp(f"an upload was answered with {answer.status_code}: {answer.text}")
    return seconds


def _note(found: dict[str, Rounds], state: str, together: float, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    found["accepted"].add(state, len(ordered) / together)
    found["p50"].add(state, 1000 * ordered[len(ordered) // 2])
    found["p99"].add(state, 1000 * ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)])


def _told(found: dict[str, Rounds], requests: int, rounds: int) -> Part:
    rows = [
        [state, *found["accepted"].cells(state), *(_both(found[name], state) for name in ("p50", "p99"))]
        for state in (UP, STOPPED, FROZEN)
    ]
    table = Table(
        "Uploads accepted over HTTP",
        ["", "uploads/s", *HEADINGS, "50 % within, ms (ratio)", "99 % within, ms (ratio)"],
        rows,
        f"{rounds} rounds of {requests} uploads of {BODY:,} bytes in each state, {CLIENTS} clients with keep-alive against "
        "one web process on the same machine; each answer means that bytes and row are on disk.",
    )
    chart = Chart("Uploads accepted over HTTP, a second", found["accepted"], UP)
    return Part("http", [table], {name: one.as_json() for name, one in found.items()}, {"http": chart})


def _both(rounds: Rounds, state: str) -> str:
    return f"{shown(rounds.middle(state))} ({rounds.ratio(state):.2f})"
