"""No row of one corporation can refer to a row of another: the database holds it, for every table there is."""

import psycopg2
import pytest

from tests.factories import make_upload
from tests.installation import Installation

FOREIGN_KEYS = """
    SELECT c.conname, c.conrelid::regclass::text, c.confrelid::regclass::text,
        array(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, o)
              JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY o),
        array(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, o)
              JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY o)
    FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = 'corporate'::regnamespace
"""
WITHOUT_CORPORATION = {
    "upkeep_runs",
    "alembic_version",
    "staging_identity",
    "tallies",
    "tally_horizon",
    "drives",
    "drive_requests",
    "api_tokens",  # an operator's belongs to none, and opens none
}


@pytest.fixture
def neighbours(installation: Installation) -> Installation:
    """Corporations 7 and 8, each with a root, a folder and an upload."""
    installation.query("INSERT INTO corporate.corporations (corp_index, name) VALUES (8, 'Other')")
    for corp_index, item_id, parent in ((8, "8", None), (7, "7/docs", "7"), (8, "8/docs", "8")):
        installation.query(
            "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind)"
            " VALUES (%s, %s, %s, 'docs', 'docs', 'folder')",
            corp_index,
            item_id,
            parent,
        )
    make_upload(installation)
    make_upload(installation, corp_index=8, parent_id="8")
    return installation


def test_every_table_names_its_corporation(installation: Installation) -> None:
    without = installation.query(
        "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'corporate'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'corp_index'"
        " AND a.attnotnull)"
    )

    assert {name for (name,) in without} == WITHOUT_CORPORATION


def test_every_foreign_key_carries_the_corporation(installation: Installation) -> None:
    keys = installation.query(FOREIGN_KEYS)

    assert len(keys) >= 7
    for name, _, _, columns, referred in keys:
        assert columns[0] == referred[0] == "corp_index", name


def test_every_foreign_key_is_tried_below() -> None:
    assert set(ATTEMPTS) == {
        "fk_vmb_items_corp_index_parent_id",
        "fk_uploads_corp_index_parent_id",
        "fk_uploads_corp_index_item_id",
        "fk_upload_events_corp_index_upload_id",
    }


def test_the_attempts_are_at_all_keys_that_refer_to_more_than_a_corporation(
    installation: Installation,
) -> None:
    composite = {name for name, _, _, columns, _ in installation.query(FOREIGN_KEYS) if len(columns) > 1}

    assert composite == set(ATTEMPTS)


ATTEMPTS = {
    "fk_vmb_items_corp_index_parent_id": "UPDATE corporate.vmb_items SET parent_id = '8' WHERE onedrive_item_id = '7/docs'",
    "fk_uploads_corp_index_parent_id": "UPDATE corporate.uploads SET parent_id = '8/docs' WHERE corp_index = 7",
    "fk_uploads_corp_index_item_id": "UPDATE corporate.uploads SET state = 'stored', item_id = '8/docs' WHERE corp_index = 7",
    "fk_upload_events_corp_index_upload_id": (
        "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt)"
        " SELECT 7, id, 'x', 0 FROM corporate.uploads WHERE corp_index = 8"
    ),
}


@pytest.mark.parametrize("key", ATTEMPTS)
def test_a_row_cannot_refer_to_another_corporation(neighbours: Installation, key: str) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match=key):
        neighbours.query(ATTEMPTS[key])


@pytest.mark.parametrize("key", ATTEMPTS)
def test_the_same_within_the_corporation_is_allowed(neighbours: Installation, key: str) -> None:
    neighbours.query(
        ATTEMPTS[key].replace("'8", "'7").replace("= 8", "= 7").replace("'7' WHERE", "'7' WHERE")
    )


@pytest.mark.parametrize("table", ["vmb_items", "uploads", "upload_events"])
def test_a_row_that_others_refer_to_cannot_move_to_another_corporation(
    neighbours: Installation, table: str
) -> None:
    with pytest.raises(psycopg2.Error):
        neighbours.query(f"UPDATE corporate.{table} SET corp_index = 8 WHERE corp_index = 7")
