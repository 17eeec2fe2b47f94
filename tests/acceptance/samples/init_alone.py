"""The same worker with `worker_process_init` alone: no fork hook, and nothing done before a fork."""

from app import forksafe

forksafe.install = forksafe.dispose_all = lambda: None
forksafe.inherited = lambda: 0

from sqlalchemy import text

from app.database import session_scope
from tasks.worker import app  # noqa: F401

with session_scope() as session:
    session.execute(text("SELECT 1"))
