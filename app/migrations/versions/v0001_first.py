"""The first schema: corporations, their items, uploads and what happened to them, tokens, the staging's identity."""

from importlib.resources import files

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    script = (files("app.migrations.versions") / "v0001_first.sql").read_text()
    # The driver's own cursor: nothing in the script is a parameter, whatever its colons and percent signs look like.
    op.get_bind().connection.cursor().execute(script)
