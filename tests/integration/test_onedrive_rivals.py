"""Two uploads whose names become one in the drive, and files that people take away or change there behind our back."""

from dataclasses import replace
from datetime import timedelta
from time import sleep
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from app import attempt, catalogue, uploads
from app.database import session_scope
from app.drives.onedrive import OneDrive
from app.models import OnConflict, State, Upload
from app.uploads import Destination
from app.vault import Vault
from tasks import upkeep
from tasks.means import means
from tests.acceptance.conftest import wait_until
from tests.factories import row, set_columns, staging_of
from tests.installation import LIBRARY_CORP
from tests.integration.library_case import Library
from tests.integration.onedrive_case import FRAGMENT, bytes_of, no_hash

pytest_plugins = ["tests.integration.library_fixtures", "tests.integration.onedrive_fixtures"]

ONE, OTHER = "a:b.txt", "a\uff1ab.txt"  # the first gets the name of the second there
FAIL, RENAME, REPLACE = OnConflict


def again(sharepoint: Library, upload: Any) -> Upload:
    set_columns(sharepoint.installation, upload, due_at="now() - interval '1 second'")
    attempt.make(upload, means())
    return row(upload)


@pytest.mark.parametrize("size", [1000, 3 * FRAGMENT])
def test_a_replacement_that_waits_for_the_drive_keeps_its_place(
    sharepoint: Library, small_fragments: None, size: int
) -> None:
    """The other would be stored meanwhile, and the replacement would then go over its bytes."""
    first, second = sharepoint.upload(ONE, bytes_of(size), REPLACE), sharepoint.upload(OTHER, b"the other's")
    sharepoint.throttle(method="PUT", path="content|uploadSession")
    attempt.make(first, means())
    sharepoint.lift()

    attempt.make(second, means())
    assert row(second).reason == "name_busy"
    assert again(sharepoint, first).state == State.STORED

    assert sharepoint.holds(bytes_of(size))
    assert again(sharepoint, second).reason == "name_taken"
    assert sharepoint.holds(bytes_of(size))


def test_an_office_file_does_not_take_anothers_for_its_own(sharepoint: Library) -> None:
    first = sharepoint.upload("plan: a.docx", b"one one")
    second = sharepoint.upload("plan\uff1a a.docx", b"two")
    sharepoint.throttle(method="PUT", path="content")
    attempt.make(first, means())
    sharepoint.lift()

    attempt.make(second, means())
    assert (row(second).reason, sharepoint.files()) == ("name_busy", [])

    assert again(sharepoint, first).state == State.STORED
    assert again(sharepoint, second).reason == "name_taken"


def test_a_clean_up_does_not_take_away_what_another_has_just_placed(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sharepoint.upload(ONE), sharepoint.upload(OTHER)
    sharepoint.simulator.control("POST faults", method="PUT", path="content", action="answer", status=500)
    attempt.make(first, means())
    sharepoint.cancel(first)
    upkeep.sweep()
    complete = attempt._complete

    def late(*given: Any) -> None:
        upkeep.clean_up()
        complete(*given)

    monkeypatch.setattr("app.attempt._complete", late)
    attempt.make(second, means())
    upkeep.clean_up()

    assert again(sharepoint, second).state == State.STORED
    assert sharepoint.files() == [OTHER]


def test_the_same_bytes_under_a_name_that_becomes_the_same_get_a_number(sharepoint: Library) -> None:
    sharepoint.stored(ONE)

    second = sharepoint.upload(OTHER, policy=RENAME)
    attempt.make(second, means())

    assert row(second).state == State.STORED
    assert sorted(sharepoint.files()) == ["a\uff1ab (1).txt", OTHER]


def test_a_folder_whose_name_becomes_anothers_is_told_so(sharepoint: Library) -> None:
    def sent_into(folder: str) -> Upload:
        with session_scope() as session:
            to = Destination(LIBRARY_CORP, catalogue.root_id(session, LIBRARY_CORP), (folder,), "a.txt", FAIL)
            upload_id = uploads.register(session, to, staging_of(sharepoint.installation).put([b"x"])).id
        attempt.make(upload_id, means())
        return row(upload_id)

    assert sent_into("f:1").state == State.STORED

    refused = sent_into("f\uff1a1")

    assert (refused.state, refused.reason) == (State.FAILED, "name_taken")
    assert "another item" in (refused.message or "")


# What people do in the drive


@pytest.mark.parametrize("policy", [FAIL, RENAME, REPLACE])
@pytest.mark.parametrize("data", [b"the same bytes", b"other bytes"])
def test_a_file_that_was_deleted_in_the_drive_is_brought_back(
    sharepoint: Library, policy: OnConflict, data: bytes
) -> None:
    before = sharepoint.stored("A.txt")
    sharepoint.behind_our_back("POST delete")

    sent = sharepoint.upload("a.txt", data, policy)
    attempt.make(sent, means())

    is_same = data == b"the same bytes"
    if policy == FAIL and not is_same:
        assert (row(sent).reason, sharepoint.files()) == ("name_taken", [])
        return
    assert row(sent).state == State.STORED
    assert sharepoint.holds(data)
    if policy == RENAME and not is_same:
        return
    assert len(sharepoint.items()) == 1
    assert row(before).item_id == row(sent).item_id, "both know the file by the id that it has now"
    assert sharepoint.installation.query(
        "SELECT child_count FROM corporate.vmb_items WHERE corp_index = %s AND parent_id IS NULL",
        LIBRARY_CORP,
    ) == [(1,)]
    assert sharepoint.verify() == []


@pytest.mark.parametrize("data", [b"the same bytes", b"other bytes"])
def test_a_file_that_was_made_anew_in_the_drive_is_replaced(sharepoint: Library, data: bytes) -> None:
    sharepoint.stored("a.txt")
    (path,) = sharepoint._files()
    sharepoint.behind_our_back("POST delete")
    sharepoint.simulator.control("POST put", drive=sharepoint.simulator.drive, path=path, text="a person's")

    sent = sharepoint.upload("a.txt", data, REPLACE)
    attempt.make(sent, means())
    upkeep.clean_up()

    assert row(sent).state == State.STORED
    assert sharepoint.holds(data)
    assert sharepoint.verify() == []


def test_a_file_that_was_changed_in_the_drive_is_not_called_stored(sharepoint: Library) -> None:
    sharepoint.stored("a.txt")
    sharepoint.behind_our_back("POST put", text="changed by a person")

    kept = sharepoint.upload("a.txt")
    attempt.make(kept, means())
    assert (row(kept).state, row(kept).reason) == (State.FAILED, "name_taken")
    upkeep.clean_up()
    assert sharepoint.holds(b"changed by a person")

    replaced = sharepoint.upload("a.txt", policy=REPLACE)
    attempt.make(replaced, means())
    assert row(replaced).state == State.STORED
    assert sharepoint.holds(b"the same bytes")


@pytest.mark.parametrize(("policy", "is_edited"), [(FAIL, True), (FAIL, False), (REPLACE, True)])
def test_an_altered_file_that_somebody_changed(
    sharepoint: Library, policy: OnConflict, *, is_edited: bool
) -> None:
    """It may be SharePoint that altered it again; nothing is what SharePoint leaves of no file."""
    sharepoint.stored("plan.docx")
    sharepoint.behind_our_back("POST put", text="a person's" if is_edited else "")

    sent = sharepoint.upload("plan.docx", policy=policy)
    attempt.make(sent, means())

    assert (row(sent).state == State.STORED) == (is_edited or policy == REPLACE)
    assert sharepoint.holds(b"a person's" if is_edited else b"") == (policy == FAIL)


def test_a_session_that_was_begun_while_the_file_was_gone_is_ended(
    sharepoint: Library, small_fragments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes_of(3 * FRAGMENT)
    sharepoint.stored("a.bin", data)
    sent = sharepoint.upload("a.bin", data, REPLACE)
    sharepoint.throttle(method="PUT", path="uploadSession")
    with monkeypatch.context() as patched:
        patched.setattr(OneDrive, "is_same", lambda *_: False)
        attempt.make(sent, means())
    sharepoint.lift()

    assert again(sharepoint, sent).state == State.STORED
    assert "open" not in {one["state"] for one in sharepoint.simulator.control("GET sessions")}


def test_the_same_bytes_again_are_asked_for_and_not_sent(sharepoint: Library) -> None:
    sharepoint.stored("a.txt")
    since = sharepoint.simulator.control("GET requests", since=0)[-1]["number"]

    attempt.make(sharepoint.upload("a.txt"), means())

    asked = sharepoint.simulator.control("GET requests", since=since)
    assert [one["method"] for one in asked] == ["GET"]


# Claims that end while a request is on its way


def test_a_wish_to_cancel_does_not_end_the_claim_of_a_request_that_is_on_its_way(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_whole = OneDrive._put_whole
    upload_id = sharepoint.upload("a.txt")

    def slow(*given: Any) -> Any:
        sharepoint.cancel(upload_id)
        leases = {row(upload_id).due_at}
        # Renewed twice after the wish: without that the sweep would end the upload, and the file come afterwards.
        wait_until(lambda: leases.add(row(upload_id).due_at) or len(leases) > 2, "the lease is renewed")
        upkeep.sweep()
        return put_whole(*given)

    monkeypatch.setattr(OneDrive, "_put_whole", slow)
    attempt.make(upload_id, replace(means(), lease=timedelta(seconds=3)))

    assert row(upload_id).state == State.STORED
    assert (sharepoint.files(), len(sharepoint.items())) == (["a.txt"], 1)


def test_an_attempt_that_was_frozen_after_its_claim_places_nothing(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = sharepoint.upload("a.txt")
    set_columns(sharepoint.installation, upload_id, attempts="7")
    thaw = Vault.open

    def freeze(self: Vault, saved: Any) -> Any:
        monkeypatch.setattr(Vault, "open", thaw)
        set_columns(sharepoint.installation, upload_id, due_at="now() - interval '1 second'")
        upkeep.sweep()
        upkeep.clean_up()
        sleep(0.6)  # longer than PostgreSQL's answer is good for
        return thaw(self, saved)

    monkeypatch.setattr(Vault, "open", freeze)
    attempt.make(upload_id, means())

    assert row(upload_id).reason == "worn_out"
    assert sharepoint.files() == []


# Wrong bytes, and what may come between them and their removal


def spoil(sharepoint: Library, upload_id: UUID) -> None:
    """Let other bytes be sent than were received."""
    staged_id = row(upload_id).staged_id
    assert staged_id is not None
    path = staging_of(sharepoint.installation).path(staged_id)
    path.write_bytes(b"x" * path.stat().st_size)


def test_wrong_bytes_are_on_record_before_they_are_taken_back(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    upload_id = sharepoint.upload("a.bin")
    wrong = {"/file/hashes/quickXorHash": no_hash()}
    sharepoint.simulator.control("POST faults", method="PUT", path="content", action="amend", set=wrong)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(OneDrive, "abort", die)
        patched.setattr("app.endings.write_down", die)
        attempt.make(upload_id, means())
    assert sharepoint.files() == ["a.bin"]

    assert again(sharepoint, upload_id).state == State.STORED
    assert sharepoint.holds(b"the same bytes")


@pytest.mark.parametrize("replaces", [False, True])
def test_wrong_bytes_of_an_upload_that_is_cancelled_at_that_moment_are_taken_back(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch, *, replaces: bool
) -> None:
    if replaces:
        sharepoint.stored("a.bin", b"the good old bytes")
    upload_id = sharepoint.upload("a.bin", b"new bytes", REPLACE if replaces else FAIL)
    spoil(sharepoint, upload_id)
    put_whole = OneDrive._put_whole

    def slow(*given: Any) -> Any:
        made = put_whole(*given)
        sharepoint.cancel(upload_id)
        monkeypatch.setattr("app.watch.SURE_SECONDS", 0)
        return made

    monkeypatch.setattr(OneDrive, "_put_whole", slow)
    attempt.make(upload_id, means())
    upkeep.clean_up()

    assert (row(upload_id).state, row(upload_id).cleanup_due_at) == (State.CANCELLED, None)
    assert sharepoint.holds(b"the good old bytes") if replaces else sharepoint.files() == []


def test_wrong_bytes_are_on_record_although_postgresql_was_busy(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = sharepoint.upload("a.bin")
    wrong = {"/file/hashes/quickXorHash": no_hash()}
    sharepoint.simulator.control("POST faults", method="PUT", path="content", action="amend", set=wrong)

    def busy(*_: Any) -> None:
        raise OperationalError("UPDATE", None, LockNotAvailable())

    with monkeypatch.context() as patched:
        patched.setattr("app.watch.uploads.checkpoint", busy)
        attempt.make(upload_id, means())
    assert (row(upload_id).reason, sharepoint.files()) == ("database_busy", ["a.bin"])

    assert again(sharepoint, upload_id).state == State.STORED
    assert sharepoint.holds(b"the same bytes")


class LockNotAvailable(Exception):
    pgcode = "55P03"
