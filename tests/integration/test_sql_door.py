"""corporate.enqueue_upload: the door for other applications, in their own transactions."""

import secrets
from collections.abc import Iterator
from uuid import UUID

import psycopg2
import pytest
from sqlalchemy import make_url

from app.models import State
from local.servers import Servers
from tests.factories import attempt_at, items, kinds_of_events, make_means, row
from tests.installation import CORP, Installation, execute, in_database

CALL = "SELECT corporate.enqueue_upload(%s, %s, %s)"


@pytest.fixture
def guest(installation: Installation, servers: Servers) -> Iterator[psycopg2.extensions.connection]:
    """Another application's connection; its role may use the schema and call the function, nothing else."""
    name, password = f"guest_{secrets.token_hex(4)}", secrets.token_hex(8)
    admin = in_database(servers.admin_url, str(make_url(installation.environment["DATABASE_URL"]).database))
    execute(admin, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    execute(admin, f"GRANT USAGE ON SCHEMA corporate TO {name}")
    execute(admin, f"GRANT EXECUTE ON FUNCTION corporate.enqueue_upload(bigint, text, text) TO {name}")
    url = make_url(admin).set(username=name, password=password).render_as_string(hide_password=False)
    connection = psycopg2.connect(url)
    yield connection
    connection.close()
    execute(admin, f"DROP OWNED BY {name}")
    execute(admin, f"DROP ROLE {name}")


def call(connection: psycopg2.extensions.connection, *arguments: object) -> UUID:
    with connection.cursor() as cursor:
        cursor.execute(CALL, (*arguments, None)[:3])
        return UUID(str(cursor.fetchone()[0]))  # type: ignore[index]


def test_commit_means_queued(installation: Installation, guest: psycopg2.extensions.connection) -> None:
    upload_id = call(guest, CORP, "in/a.txt")
    assert installation.query("SELECT count(*) FROM corporate.uploads") == [(0,)]

    guest.commit()

    after = row(upload_id)
    assert (after.state, after.parent_id, after.folder, after.name, after.inbox_path) == (
        State.QUEUED, "7", ["in"], "a.txt", "in/a.txt",
    )  # fmt: skip
    assert kinds_of_events(installation, upload_id) == ["queued"]


def test_rollback_means_nothing(installation: Installation, guest: psycopg2.extensions.connection) -> None:
    call(guest, CORP, "a.txt")

    guest.rollback()

    assert installation.query("SELECT count(*) FROM corporate.uploads") == [(0,)]
    assert installation.query("SELECT count(*) FROM corporate.upload_events") == [(0,)]


def test_what_was_queued_this_way_is_stored(
    installation: Installation, guest: psycopg2.extensions.connection
) -> None:
    (installation.inbox / "a.txt").write_bytes(b"content")
    upload_id = call(guest, CORP, "a.txt")
    guest.commit()

    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert items(installation) == {"7/a.txt": "file"}


BAD = [
    ((8, "a.txt"), "no corporation 8"),
    ((None, "a.txt"), "no corporation NULL"),
    ((CORP, None), "filename must be a path"),
    ((CORP, ""), "filename must be a path"),
    ((CORP, "/"), "filename must be a path"),
    ((CORP, "/etc/passwd"), "filename must be a path"),
    ((CORP, "a/"), "filename must be a path"),
    ((CORP, "a//b"), "filename must be a path"),
    ((CORP, "../8/a.txt"), "filename must be a path"),
    ((CORP, "a/./b"), "filename must be a path"),
    ((CORP, "x" * 256), "filename must be a path"),
    ((CORP, "\u00e9" * 128), "filename must be a path"),
    ((CORP, "x/" * 450 + "x"), "filename must be a path"),
    ((CORP, "a.txt", "nowhere"), "no folder with the id 'nowhere'"),
    ((CORP, "a.txt", "7/file"), "no folder with the id '7/file'"),
    ((CORP, "a.txt", "it's"), "no folder with the id 'it''s'"),
]


def test_a_bad_argument_gets_its_sentence(
    installation: Installation, guest: psycopg2.extensions.connection
) -> None:
    installation.query(
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind)"
        " VALUES (7, '7/file', '7', 'file', 'file', 'file')"
    )

    wrong = [arguments for arguments, sentence in BAD if sentence not in told(guest, arguments)]

    assert wrong == []


def told(guest: psycopg2.extensions.connection, arguments: tuple[object, ...]) -> str:
    try:
        call(guest, *arguments)
    except psycopg2.errors.InvalidParameterValue as error:
        return str(error)
    except psycopg2.Error as error:
        return type(error).__name__
    finally:
        guest.rollback()
    return "taken"


def test_any_other_name_is_kept_as_it_is(
    installation: Installation, guest: psycopg2.extensions.connection
) -> None:
    for filename in ["...", " ", "a b", "'; DROP TABLE x; --", "\u00e9" * 127, "%s", "\\", "a\nb"]:
        upload_id = call(guest, CORP, filename)
        guest.commit()

        assert row(upload_id).name == filename


NOT_FOR_GUESTS = [
    "SELECT * FROM corporate.uploads",
    "SELECT * FROM corporate.api_tokens",
    "SELECT * FROM corporate.vmb_items",
    "INSERT INTO corporate.corporations VALUES (9, 'x')",
    "UPDATE corporate.uploads SET name = 'x'",
    "CREATE TABLE corporate.x ()",
]


def test_the_guest_can_do_nothing_else(guest: psycopg2.extensions.connection) -> None:
    for statement in NOT_FOR_GUESTS:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), guest.cursor() as cursor:
            cursor.execute(statement)
        guest.rollback()


def test_nobody_may_call_it_unasked(
    installation: Installation, guest: psycopg2.extensions.connection
) -> None:
    installation.query(
        "REVOKE EXECUTE ON FUNCTION corporate.enqueue_upload(bigint, text, text) FROM " + guest.info.user
    )

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        call(guest, CORP, "a.txt")


def test_a_guest_cannot_lead_the_function_to_tables_of_its_own(
    installation: Installation, guest: psycopg2.extensions.connection
) -> None:
    with guest.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE uploads (id uuid)")
        cursor.execute("SET search_path = pg_temp")

    upload_id = call(guest, CORP, "a.txt")
    guest.commit()

    assert row(upload_id).name == "a.txt"
