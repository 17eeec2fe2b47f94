"""Several drives: which one a corporation belongs to, what pauses, and what was asked of each."""

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    script = (files("app.migrations.versions") / "v0003_drives.sql").read_text()
    # Nothing in the script is a parameter, whatever its colons and percent signs look like.
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
