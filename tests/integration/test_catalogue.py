import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from app import catalogue
from app.catalogue import NewItem
from app.database import session_scope
from app.errors import CorporationUnknown, NameTaken, NotFound
from app.models import Kind
from tests.factories import ROOT, counts, race, wide_pool
from tests.installation import CORP, Installation

HASH, OTHER_HASH = "a" * 64, "b" * 64


def record(new: NewItem, *, replace: bool = False) -> tuple[str, bool]:
    with session_scope() as session:
        item_id, is_new = catalogue.record(session, CORP, new, replace=replace)
        if is_new:
            catalogue.count_in(session, CORP, new.parent_id)
        return item_id, is_new


def file(name: str = "a.txt", sha256: str = HASH, **more: object) -> NewItem:
    return NewItem(f"{ROOT}/{name}", ROOT, name, size=1, sha256=sha256, **more)  # type: ignore[arg-type]


def recount(folder_id: str = ROOT) -> int:
    with session_scope() as session:
        return catalogue.recount(session, CORP, folder_id)


def test_the_same_item_twice_is_one(installation: Installation) -> None:
    assert [record(file()), record(file())] == [("7/a.txt", True), ("7/a.txt", False)]
    assert counts(installation) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other"), [("A.TXT", "a.txt"), ("\u00e9", "e\u0301"), ("Stra\u00dfe", "STRASSE")]
)
def test_a_name_that_counts_as_the_same_with_the_same_bytes_is_the_existing_item(
    installation: Installation, one: str, other: str
) -> None:
    record(file(one))

    assert record(file(other)) == (f"7/{one}", False)
    assert counts(installation) == (1, 1)


def test_other_bytes_under_a_name_are_refused(installation: Installation) -> None:
    record(file())

    with pytest.raises(NameTaken):
        record(file(sha256=OTHER_HASH))


def test_replacing_keeps_the_id_and_the_count(installation: Installation) -> None:
    record(file())

    assert record(file(sha256=OTHER_HASH), replace=True) == ("7/a.txt", False)
    assert installation.query("SELECT sha256 FROM corporate.vmb_items WHERE name = 'a.txt'") == [
        (OTHER_HASH,)
    ]
    assert counts(installation) == (1, 1)


@pytest.mark.parametrize("kind", Kind)
def test_a_folder_and_a_file_never_replace_each_other(installation: Installation, kind: Kind) -> None:
    new = file()
    folder = NewItem("7/a.txt", ROOT, "a.txt", Kind.FOLDER)
    first, second = (new, folder) if kind == Kind.FILE else (folder, new)
    record(first)

    with pytest.raises(NameTaken):
        record(second, replace=True)


def test_an_id_that_belongs_elsewhere_is_refused(installation: Installation) -> None:
    record(file())

    with pytest.raises(NameTaken):
        record(NewItem("7/a.txt", ROOT, "b.txt", size=1, sha256=HASH))


def test_a_corporation_without_a_root_is_unknown(installation: Installation) -> None:
    with session_scope() as session, pytest.raises(CorporationUnknown):
        catalogue.root_id(session, 8)


def test_what_the_drive_did_not_tell_is_null_for_every_reader_of_the_table(
    installation: Installation,
) -> None:
    record(file())

    assert installation.query("SELECT drive_info IS NULL FROM corporate.vmb_items WHERE name = 'a.txt'") == [
        (True,)
    ]


# The count


def naive_recount() -> None:
    with session_scope() as session:
        session.execute(
            text(
                "UPDATE corporate.vmb_items p SET child_count = (SELECT count(*) FROM corporate.vmb_items c"
                " WHERE c.corp_index = p.corp_index AND c.parent_id = p.onedrive_item_id)"
                " WHERE corp_index = 7 AND onedrive_item_id = '7'"
            )
        )


def test_a_count_taken_in_its_own_statement_misses_a_sibling(installation: Installation) -> None:
    """The control: what the safeguard is for."""
    assert child_beside(naive_recount, installation) == (1, 2)


def child_beside(recounts: Callable[[], object], installation: Installation) -> tuple[int, int]:
    """Add a child and recount, both inside another child's transaction, by the recount that is given."""
    recorded, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with session_scope() as session:
            session.execute(
                text(
                    "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind)"
                    " VALUES (7, '7/first', '7', 'first', 'first', 'file')"
                )
            )
            if recounts is not naive_recount:
                catalogue.count_in(session, CORP, ROOT)
            recorded.set()
            go_on.wait(10)

    def second() -> None:
        recorded.wait(10)
        if recounts is naive_recount:
            with session_scope() as session:
                catalogue.record(session, CORP, file("second"))
            naive_recount()
        go_on.set()
        if recounts is not naive_recount:
            record(file("second"))
            recounts()

    race([first, second])
    return counts(installation)


def test_a_recount_beside_a_sibling_that_is_about_to_commit_is_exact(installation: Installation) -> None:
    assert child_beside(recount, installation) == (2, 2)


def test_forty_siblings_at_once_beside_running_recounts_are_counted_exactly(
    installation: Installation,
) -> None:
    works: list[Callable[[], object]] = [
        lambda start=start: [record(file(f"{number}.txt")) for number in range(start, start + 4)]
        for start in range(0, 40, 4)
    ]

    with wide_pool():
        results = race([*works, *[lambda: [recount() for _ in range(10)]] * 3])

    assert [one for one in results if isinstance(one, BaseException)] == []
    assert [correction for one in results[10:] for correction in one] == [0] * 30
    assert counts(installation) == (40, 40)


def test_a_wrong_count_is_corrected_and_the_correction_told(installation: Installation) -> None:
    record(file())
    installation.query("UPDATE corporate.vmb_items SET child_count = 5 WHERE parent_id IS NULL")

    assert [recount(), recount()] == [-4, 0]
    assert counts(installation) == (1, 1)


def test_a_recount_of_what_is_not_there_is_told(installation: Installation) -> None:
    with pytest.raises(NotFound):
        recount("7/nowhere")


def test_pages_hold_every_item_once(installation: Installation) -> None:
    for number in range(5):
        record(file(f"{number}.txt"))
    seen: list[str] = []
    after = 0

    while True:
        with session_scope() as session:
            page = catalogue.children(session, CORP, ROOT, after, limit=2)
        if not page:
            break
        seen += [item.name for item in page]
        after = page[-1].id

    assert seen == [f"{number}.txt" for number in range(5)]
