import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.app.defaults import NAMESPACES, flatten

from app.database import STATEMENT_TIMEOUT_MS
from app.settings import settings

FILE = Path(__file__).parents[2] / "celeryconfig.py"
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://nobody@db/x",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STAGING_DIR": "/srv/staging",
    "INBOX_DIR": "/srv/inbox",
    "DRIVE_DIR": "/srv/drive",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


def config() -> dict[str, Any]:
    return runpy.run_path(str(FILE))


def test_every_setting_is_one_that_celery_knows(environment: pytest.MonkeyPatch) -> None:
    found = config()
    mine = {name for name in found if name.islower() and not name.startswith("_")} - {"settings"}

    known = {name for name, _ in flatten(NAMESPACES)}

    # Celery reads both, without having them on its own list.
    assert mine - known - {"visibility_timeout", "redis_backend_health_check_interval"} == set()


@pytest.mark.parametrize("slice_seconds", ["1", "600", "7200"])
def test_each_limit_is_longer_than_what_it_bounds(
    environment: pytest.MonkeyPatch, slice_seconds: str
) -> None:
    environment.setenv("SLICE_SECONDS", slice_seconds)

    found = config()

    chain = [
        STATEMENT_TIMEOUT_MS / 1000,
        int(slice_seconds) + found["LONGEST_CALL_SECONDS"],
        found["task_soft_time_limit"],
        found["task_time_limit"],
        found["visibility_timeout"],
    ]
    assert chain == sorted(set(chain))
    assert found["broker_transport_options"]["visibility_timeout"] == found["visibility_timeout"]
    assert found["result_backend_transport_options"]["visibility_timeout"] == found["visibility_timeout"]


def test_messages_are_json_and_nothing_else(environment: pytest.MonkeyPatch) -> None:
    found = config()

    assert (found["task_serializer"], found["result_serializer"], found["accept_content"]) == (
        "json", "json", ["json"],
    )  # fmt: skip
    assert "result_accept_content" not in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", False),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("worker_prefetch_multiplier", 1),
        ("worker_proc_alive_timeout", 30),
        ("worker_soft_shutdown_timeout", 30),
        ("task_ignore_result", True),
        ("result_expires", 3600),
        ("task_publish_retry", False),
        ("worker_hijack_root_logger", False),
        ("enable_utc", True),
        ("broker_connection_max_retries", None),
    ],
)
def test_a_setting_is_as_the_design_says(environment: pytest.MonkeyPatch, name: str, value: object) -> None:
    assert config()[name] == value


def test_the_workers_sockets_have_the_only_options_that_were_measured_to_recover(
    environment: pytest.MonkeyPatch,
) -> None:
    options = config()["broker_transport_options"]

    assert {
        name: options[name] for name in options if name not in {"visibility_timeout", "queue_order_strategy"}
    } == {
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "retry_on_timeout": True,
    }


def test_every_queue_has_an_exchange_and_a_binding_of_its_own(environment: pytest.MonkeyPatch) -> None:
    queues = config()["task_queues"]

    assert [queue.name for queue in queues] == ["upkeep", "resume", "uploads"]
    assert [queue.exchange.name for queue in queues] == [queue.name for queue in queues]
    assert [queue.routing_key for queue in queues] == [queue.name for queue in queues]


def test_an_unknown_queue_is_an_error(environment: pytest.MonkeyPatch) -> None:
    assert config()["task_create_missing_queues"] is False


def test_a_free_child_looks_for_a_sweep_first(environment: pytest.MonkeyPatch) -> None:
    assert config()["broker_transport_options"]["queue_order_strategy"] == "priority"
    assert config()["task_queues"][0].name == "upkeep"


def test_beat_entries_expire_but_not_by_a_difference_of_clocks(environment: pytest.MonkeyPatch) -> None:
    entries = config()["beat_schedule"].values()

    assert entries
    assert all(60 <= entry["options"]["expires"] - entry["schedule"] <= 120 for entry in entries)


def test_beat_and_the_imports_name_tasks_that_there_are(environment: pytest.MonkeyPatch) -> None:
    found = config()

    from app import queue

    ours = {
        value for name, value in vars(queue).items() if name.isupper() and str(value).startswith("tasks.")
    }
    assert {entry["task"] for entry in found["beat_schedule"].values()} <= ours
    assert {name.rpartition(".")[0] for name in ours} == set(found["imports"][:-1])
    assert found["imports"][-1] == "tasks.worker"
