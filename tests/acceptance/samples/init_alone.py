"""The same worker with `worker_process_init` alone: no fork hook, and nothing done before a fork."""

from app import forksafe

forksafe.install = forksafe.dispose_all = lambda: None
forksafe.inherited = lambda: 0

from sqlalchemy import text  # noqa: E402

from app.database import session_scope  # noqa: E402
from tasks.worker import app  # noqa: E402, F401

with session_scope() as session:
    session.execute(text("SELECT 1"))
