"""What watching needs: progress, lists in the order of time, tallies, operators' tokens, and folders made by the web."""

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    script = (files("app.migrations.versions") / "v0002_live.sql").read_text()
    # The driver's own cursor: nothing in the script is a parameter, whatever its colons and percent signs look like.
    op.get_bind().connection.cursor().execute(script)
