"""What watching needs: progress, lists in the order of time, tallies, operators' tokens, and folders made by the web."""

from importlib.resources import files

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

# Of tables that there were before, by name. They may take long: app/schema.py builds them first, beside those at work.
INDEXES = {
    "ix_uploads_listed": "corporate.uploads (corp_index, created_at, id)",
    # Nearly all uploads are stored in the end: a list of the others must not read past them.
    "ix_uploads_listed_not_stored": "corporate.uploads (corp_index, created_at, id) WHERE state <> 'stored'",
    # Events come in the order of time, so that a summary of each block finds the last hour's.
    "ix_upload_events_at": "corporate.upload_events USING brin (at) WITH (autosummarize = on)",
}


def upgrade() -> None:
    script = (files("app.migrations.versions") / "v0002_live.sql").read_text()
    # Nothing in the script is a parameter, whatever its colons and percent signs look like.
    connection = op.get_bind()
    connection.exec_driver_sql(script, execution_options={"no_parameters": True})
    for name, on in INDEXES.items():
        if connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"corporate.{name}"}) is None:
            op.execute(f"CREATE INDEX {name} ON {on}")
