"""Which drive an upload belongs to, and the hash that Microsoft asks for."""

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    script = (files("app.migrations.versions") / "v0004_drive_of_uploads.sql").read_text()
    # Nothing in the script is a parameter, whatever its colons and percent signs look like.
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
