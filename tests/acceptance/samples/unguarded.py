"""The control: the same worker with every safeguard against the fork taken out."""

from app import database, forksafe

forksafe.install = forksafe.dispose_all = database.renew_in_child = database.dispose = lambda: None
forksafe.inherited = lambda: 0

from tests.acceptance.samples.import_time_query import app  # noqa: F401
