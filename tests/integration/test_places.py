import pytest

from app import places
from app.errors import NameBusy, NameTaken
from app.models import OnConflict, Upload
from tests.factories import ROOT, attempt_at, claimed, items, make_means, make_upload, row
from tests.installation import Installation

BEFORE, OTHER = b"before", b"other"


def held(
    installation: Installation, content: bytes, name: str = "a.txt", policy: OnConflict = OnConflict.FAIL
) -> Upload:
    return claimed(make_upload(installation, content, name=name, on_conflict=policy))


@pytest.fixture
def before(installation: Installation) -> Installation:
    attempt_at(make_upload(installation, BEFORE), make_means(installation))
    return installation


def test_taking_keeps_rivals_out(installation: Installation) -> None:
    one, other = held(installation, BEFORE), held(installation, OTHER, "A.TXT")
    places.take(one, ROOT, 0)

    with pytest.raises(NameBusy):
        places.take(other, ROOT, 0)
    assert places.take(one, ROOT, 0).name == "a.txt"


def test_a_free_name_is_taken_as_it_is(installation: Installation) -> None:
    upload = held(installation, BEFORE)

    assert places.take(upload, ROOT, 0) == places.Place("a.txt", 0)
    assert row(upload.id).reserved_name == "a.txt"


@pytest.mark.parametrize("policy", OnConflict)
def test_the_same_bytes_are_there_already(before: Installation, policy: OnConflict) -> None:
    place = places.take(held(before, BEFORE, "A.txt", policy), ROOT, 0)

    assert place.existing is not None
    assert place.existing.drive_item_id == "7/a.txt"


def test_other_bytes_are_refused(before: Installation) -> None:
    upload = held(before, OTHER)

    with pytest.raises(NameTaken):
        places.take(upload, ROOT, 0)
    assert row(upload.id).reserved_key is None


def test_other_bytes_get_the_next_number(before: Installation) -> None:
    upload = held(before, OTHER, policy=OnConflict.RENAME)

    assert places.take(upload, ROOT, 0) == places.Place("a (1).txt", 1)
    assert places.take(upload, ROOT, 5) == places.Place("a (5).txt", 5)


def test_other_bytes_replace_under_the_existing_spelling(before: Installation) -> None:
    taken = places.take(held(before, OTHER, "A.TXT", OnConflict.REPLACE), ROOT, 0)

    assert taken == places.Place("a.txt", 0, replaces="7/a.txt")


def test_an_end_of_all_numbers_is_a_name_that_is_taken(
    before: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.places.MAX_NUMBERED", 0)

    with pytest.raises(NameTaken):
        places.take(held(before, OTHER, policy=OnConflict.RENAME), ROOT, 0)


def test_the_longest_name_can_be_renamed(installation: Installation) -> None:
    name = "a." + "x" * 253
    attempt_at(make_upload(installation, BEFORE, name=name), make_means(installation))

    attempt_at(
        make_upload(installation, OTHER, name=name, on_conflict=OnConflict.RENAME), make_means(installation)
    )

    assert len(items(installation)) == 2
