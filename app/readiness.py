"""What must be true before a process of this application starts to work; each check ends in one sentence."""

import logging

from sqlalchemy import text

from app import schema
from app.database import session_scope
from app.errors import WrongStaging
from app.models import StagingIdentity
from app.settings import Settings
from app.staging import Staging

log = logging.getLogger(__name__)


def check(chosen: Settings, connections: int) -> None:
    """Raise Unfit if this process must not run; `connections` is how many PostgreSQL sessions it may open."""
    schema.check()
    check_staging(Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes))
    _warn_of_owner()
    _report_budget(connections)


def check_staging(staging: Staging) -> None:
    """Raise WrongStaging unless the directory is the one that this database belongs to."""
    found = staging.identity()
    with session_scope() as session:
        recorded = session.get(StagingIdentity, True)
    if recorded is None:
        raise WrongStaging(
            "The database knows of no staging yet: run `haulage migrate` where STAGING_DIR is mounted"
        )
    if found is None:
        raise WrongStaging(f"STAGING_DIR ({staging.root}) is not a staging: is it mounted on this machine?")
    if found != recorded.identity:
        raise WrongStaging(f"STAGING_DIR ({staging.root}) belongs to another installation of Haulage")


def _warn_of_owner() -> None:
    with session_scope() as session:
        owns = session.scalar(
            text("SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'corporate'")
        )
    if owns:
        log.warning(
            "This process connects as the owner of the schema; roles of its own would limit what it can do"
        )


def _report_budget(connections: int) -> None:
    with session_scope() as session:
        allowed = int(session.scalar(text("SHOW max_connections")) or 0)
        taken = (
            session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL")
            )
            or 0
        )
    log.info(
        "PostgreSQL sessions: this process may open %d; %d of %d are in use", connections, taken, allowed
    )
    if taken + connections > 0.8 * allowed:
        log.warning(
            "More than 80 %% of PostgreSQL's %d sessions may be taken; raise max_connections", allowed
        )
