"""A worker whose children are new interpreters, not forks."""

from tests.acceptance.samples.long_parent import app

app.conf.worker_pool_start_method = "spawn"
