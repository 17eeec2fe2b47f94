"""Celery's settings, each with its reason. docs/decisions/0003 has the measurements behind them."""

from kombu import Exchange
from kombu import Queue as KombuQueue

from app.database import STATEMENT_TIMEOUT_MS
from app.settings import settings

_settings = settings()

# The limits, each longer than what it bounds, so that neither the sweep nor Redis starts a second attempt beside a
# living one: a statement < the soft limit; a slice and the longest single call < soft < hard < the visibility timeout.
LONGEST_CALL_SECONDS = 600
assert STATEMENT_TIMEOUT_MS / 1000 < LONGEST_CALL_SECONDS  # noqa: S101
task_soft_time_limit = _settings.slice_seconds + LONGEST_CALL_SECONDS + 60
task_time_limit = task_soft_time_limit + 60

# Redis.
broker_url = _settings.redis_url
broker_connection_retry_on_startup = True  # a worker that starts before Redis waits for it
broker_connection_max_retries = None  # and goes on waiting
broker_transport_options = {
    # Never used for recovery: the lease is quicker, and is fenced.
    "visibility_timeout": max(3600, task_time_limit * 2),
    # The only set of options measured to recover from a half-open connection without losing a message.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "retry_on_timeout": True,
    # Whenever a child is free its worker looks into the queues in the order of `task_queues`. In turn, as is the
    # default, a full queue of uploads would take every other free child from the sweep.
    "queue_order_strategy": "priority",
}
visibility_timeout = broker_transport_options["visibility_timeout"]  # Celery reads it in three places

# Results: a courtesy to those who wait for `upload_file`, never the truth.
result_backend = _settings.redis_url
result_backend_transport_options = {"visibility_timeout": visibility_timeout}
result_expires = 3600
redis_socket_timeout = 5
redis_socket_connect_timeout = 5
redis_socket_keepalive = True
redis_retry_on_timeout = True
redis_backend_health_check_interval = 5
task_ignore_result = True
task_store_errors_even_if_ignored = False

# Messages carry ids, as JSON: nothing that a worker would execute, nothing secret in Redis, Flower or a log.
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
enable_utc = True

# The row decides what happens to an upload; a message is a hint.
task_acks_late = True  # a worker that dies leaves its hint behind; the claim makes a second one harmless
task_reject_on_worker_lost = False  # the lease and the row's attempts bring it back; requeueing has no limit
worker_cancel_long_running_tasks_on_connection_loss = False  # the token fences; nothing need be cancelled
worker_prefetch_multiplier = 1  # a message that waits in one worker could be run by another
task_publish_retry = False  # the sweep sends again

task_default_queue = "uploads"
# Each with an exchange of its own: by default all would be bound to one, and every message would go to all of them.
task_queues = [KombuQueue(name, Exchange(name), routing_key=name) for name in ("upkeep", "resume", "uploads")]
task_create_missing_queues = False  # a misspelt queue is an error, not a new queue that nobody reads
task_routes = {"tasks.upkeep.*": {"queue": "upkeep"}}
# The worker's own module last: a child that is a new interpreter (start method spawn) would not know it otherwise.
imports = ["tasks.uploads", "tasks.catalogue", "tasks.upkeep", "tasks.worker"]

# Processes.
# Replacements are killed after it; the default of 4 s makes a slow host loop for ever.
worker_proc_alive_timeout = 30
worker_soft_shutdown_timeout = 30  # QUIT waits this long; TERM is warm and ends slices early
worker_max_tasks_per_child = 1000  # whatever leaks, leaks so long
worker_hijack_root_logger = False
worker_redirect_stdouts = False
worker_send_task_events = True  # Flower's source
task_send_sent_event = False
worker_enable_remote_control = True  # Flower and `inspect` ask workers through it

# Beat keeps no file: every entry is an interval, and one too many ends at once (app/upkeep.py). They expire late, by far
# more than two machines' clocks may differ: a worker whose clock is ahead would otherwise drop every one of them.
beat_scheduler = "celery.beat:Scheduler"
beat_schedule = {
    name: {"task": f"tasks.upkeep.{name}", "schedule": seconds, "options": {"expires": seconds + 60}}
    for name, seconds in {
        "sweep": _settings.sweep_seconds,
        "clean_up": 5 * _settings.sweep_seconds,
        "purge": 3600,
    }.items()
}
