"""What the alerts are about, and what the pages tell who watches to do, in a real database."""

import re

import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import tallies
from app.database import session_scope
from app.staging import Staging
from app.web import metrics
from local.home import PROJECT
from tests.factories import attempt_at, make_due, make_means, make_upload, row
from tests.installation import Installation


def told(name: str) -> dict[str, float]:
    """What the web process tells of a metric with the one label `reason`."""
    families = text_string_to_metric_families(metrics._as_text(metrics._gather()).decode())
    samples = [one for family in families for one in family.samples if one.name == name]
    return {one.labels["reason"]: one.value for one in samples}


def reasons_of_the_alert() -> str:
    [group] = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    [alert] = [one for one in group["rules"] if one["alert"] == "HaulageUploadsPostponed"]
    [reasons] = re.findall(r'haulage_uploads_postponed\{reason=~"(.*?)"\}', alert["expr"])
    return reasons


def test_what_is_away_is_told_however_often_uploads_are_tried(installation: Installation) -> None:
    away = make_means(installation, staging=Staging(installation.root / "away", 2**30, 0))
    uploads = [make_upload(installation, name=name) for name in ("a", "b")]
    make_upload(installation, name="not tried yet")

    for upload in 2 * uploads:
        make_due(installation, upload)
        attempt_at(upload, away)

    assert {row(upload).attempts for upload in uploads} == {0}, "no attempt counts as failed"
    assert told("haulage_uploads_postponed") == {"staging_unavailable": 2}
    assert re.fullmatch(reasons_of_the_alert(), "staging_unavailable")


def totals() -> dict[tuple[str, str], int]:
    with session_scope() as session:
        return dict(tallies.totals(session))


def test_the_figures_are_right_after_a_restore_and_what_the_page_says(installation: Installation) -> None:
    page = (PROJECT / "docs" / "deploying.md").read_text()
    [restored] = re.findall(r"^```sql\n(BEGIN;.*?)^```", page, re.MULTILINE | re.DOTALL)
    make_upload(installation, name="before the dump")
    with session_scope() as session:
        tallies.add_wake_ups(session, 5)
        tallies.fold(session)
    installation.query("UPDATE corporate.tally_horizon SET xid = '10000000000'")  # as the old cluster counted
    make_upload(installation, name="after the restore")
    before = totals()

    installation.query(restored.replace("BEGIN;", "").replace("COMMIT;", ""))

    assert before["queued", ""] == 1
    assert (totals()["queued", ""], totals()["wake_ups", ""]) == (2, 5)
    with session_scope() as session:
        tallies.fold(session)
    assert (totals()["queued", ""], totals()["wake_ups", ""]) == (2, 5)
