import pytest

from app import places
from app.database import session_scope
from app.errors import NameBusy, NameTaken
from app.models import OnConflict, Upload
from tests.factories import ROOT, attempt_at, claimed, items, make_means, make_upload, row
from tests.installation import Installation

BEFORE, OTHER = b"before", b"other"


def held(
    installation: Installation, content: bytes, name: str = "a.txt", policy: OnConflict = OnConflict.FAIL
) -> Upload:
    return claimed(make_upload(installation, content, name=name, on_conflict=policy))


def take(upload: Upload, first: int) -> places.Place:
    with session_scope() as session:
        return places.take(session, upload, ROOT, first)


@pytest.fixture
def before(installation: Installation) -> Installation:
    attempt_at(make_upload(installation, BEFORE), make_means(installation))
    return installation


def test_taking_keeps_rivals_out(installation: Installation) -> None:
    one, other = held(installation, BEFORE), held(installation, OTHER, "A.TXT")
    take(one, 0)

    with pytest.raises(NameBusy):
        take(other, 0)
    assert take(one, 0).name == "a.txt"


def test_a_free_name_is_taken_as_it_is(installation: Installation) -> None:
    upload = held(installation, BEFORE)

    assert take(upload, 0) == places.Place("a.txt", 0)
    assert row(upload.id).reserved_name == "a.txt"


@pytest.mark.parametrize("policy", OnConflict)
def test_the_same_bytes_are_there_already(before: Installation, policy: OnConflict) -> None:
    place = take(held(before, BEFORE, "A.txt", policy), 0)

    assert place.existing is not None
    assert place.existing.drive_item_id == "7/a.txt"


def test_other_bytes_are_refused(before: Installation) -> None:
    upload = held(before, OTHER)

    with pytest.raises(NameTaken):
        take(upload, 0)
    assert row(upload.id).reserved_key is None


def test_other_bytes_get_the_next_number(before: Installation) -> None:
    upload = held(before, OTHER, policy=OnConflict.RENAME)

    assert take(upload, 0) == places.Place("a (1).txt", 1)
    assert take(upload, 5) == places.Place("a (5).txt", 5)


def test_other_bytes_replace_under_the_existing_spelling(before: Installation) -> None:
    taken = take(held(before, OTHER, "A.TXT", OnConflict.REPLACE), 0)

    assert taken == places.Place("a.txt", 0, replaces="7/a.txt")


def test_an_end_of_all_numbers_is_a_name_that_is_taken(
    before: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.places.MAX_NUMBERED", 0)

    with pytest.raises(NameTaken):
        take(held(before, OTHER, policy=OnConflict.RENAME), 0)


def test_behind_the_last_number_the_name_is_taken_as_well(installation: Installation) -> None:
    """The drive may say so of the last one."""
    with pytest.raises(NameTaken):
        take(held(installation, OTHER, policy=OnConflict.RENAME), places.MAX_NUMBERED + 1)


def test_two_names_that_are_one_elsewhere_are_two_in_a_directory(installation: Installation) -> None:
    """As a worker of 0.2.0 has it, which may run beside this one."""
    one, other = held(installation, BEFORE, "a:b.txt"), held(installation, OTHER, "A\uff1aB.txt")

    assert (take(one, 0).number, take(other, 0).number) == (0, 0)
    assert row(one.id).reserved_key == "a:b.txt"


def test_the_longest_name_can_be_renamed(installation: Installation) -> None:
    name = "a." + "x" * 253
    attempt_at(make_upload(installation, BEFORE, name=name), make_means(installation))

    attempt_at(
        make_upload(installation, OTHER, name=name, on_conflict=OnConflict.RENAME), make_means(installation)
    )

    assert len(items(installation)) == 2
