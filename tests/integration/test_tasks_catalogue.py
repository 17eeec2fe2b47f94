import pytest

from app.errors import NameTaken, NotFound, Refused
from tasks import (
    catalogue,  # not the tasks themselves: looking for tests, pytest would bind them without settings
)
from tests.factories import ROOT, counts, items, race, wide_pool
from tests.installation import CORP, Installation

HASH = "a" * 64


def test_an_item_is_recorded_and_counted_once(installation: Installation) -> None:
    for _ in range(2):
        catalogue.record_item(CORP, "7/item-1", ROOT, "a.txt", size=3, sha256=HASH)

    assert items(installation) == {"7/item-1": "file"}
    assert counts(installation) == (1, 1)


def test_the_same_item_from_many_workers_at_once_is_one(installation: Installation) -> None:
    with wide_pool():
        results = race(
            [lambda: catalogue.record_item(CORP, "7/item-1", ROOT, "a.txt", size=3, sha256=HASH)] * 8
        )

    assert results == [None] * 8
    assert counts(installation) == (1, 1)


def test_the_same_item_without_a_hash_twice_changes_nothing(installation: Installation) -> None:
    for _ in range(2):
        catalogue.record_item(CORP, "7/item-1", ROOT, "a.txt")

    assert counts(installation) == (1, 1)


def test_another_item_under_the_name_is_refused(installation: Installation) -> None:
    catalogue.record_item(CORP, "7/item-1", ROOT, "a.txt", size=3, sha256=HASH)

    with pytest.raises(NameTaken):
        catalogue.record_item(CORP, "7/item-2", ROOT, "A.txt", size=4, sha256="b" * 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ".."},
        {"name": "a/b"},
        {"kind": "shortcut"},
        {"parent_id": "nowhere"},
        {"parent_id": "7/a-file"},
        {"corp_index": 8},
        {"size": -1},
        {"sha256": "short"},
        {"onedrive_item_id": "8/theirs"},
        {"onedrive_item_id": "7/../8"},
        {"onedrive_item_id": ""},
        {"onedrive_item_id": "7/" + "x" * 3000},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(installation: Installation, wrong: dict[str, object]) -> None:
    catalogue.record_item(CORP, "7/a-file", ROOT, "file.txt", size=3, sha256=HASH)
    before = counts(installation)
    right = {"corp_index": CORP, "onedrive_item_id": "7/x", "parent_id": ROOT, "name": "x"}

    with pytest.raises(Refused):
        catalogue.record_item(**right | wrong)

    assert counts(installation) == before


def test_a_recount_corrects_one_folder_or_all(installation: Installation) -> None:
    catalogue.record_item(CORP, "7/folder", ROOT, "folder", "folder")
    catalogue.record_item(CORP, "7/folder/child", "7/folder", "child")
    wrong = "UPDATE corporate.vmb_items SET child_count = 9 WHERE kind = 'folder'"

    installation.query(wrong)
    catalogue.recount(CORP, "7/folder")
    assert [counts(installation, one) for one in (ROOT, "7/folder")] == [(9, 1), (1, 1)]

    catalogue.recount(CORP)
    assert [counts(installation, one) for one in (ROOT, "7/folder")] == [(1, 1), (1, 1)]


def test_a_recount_of_what_is_not_there_is_told(installation: Installation) -> None:
    with pytest.raises(NotFound):
        catalogue.recount(CORP, "nowhere")
