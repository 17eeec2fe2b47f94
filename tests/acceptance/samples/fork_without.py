"""Our worker, without the safeguards that the variable WITHOUT names: a test and its control differ in nothing else.

WITHOUT=                nothing is taken out
WITHOUT=hook            neither fork hook, checkout guard nor closing before a fork: `worker_process_init` alone
WITHOUT=everything      a worker that does nothing about forks
"""

import os

from app import database, forksafe


def nothing():
    pass


without = os.environ.get("WITHOUT", "")
if without not in {"", "hook", "everything"}:
    raise SystemExit(f"there is no WITHOUT={without}")
if without in {"hook", "everything"}:
    forksafe.install = forksafe.dispose_all = nothing
    forksafe.inherited = lambda: 0
if without == "everything":
    database.renew_in_child = database.dispose = nothing

from tasks.worker import app  # noqa: F401
