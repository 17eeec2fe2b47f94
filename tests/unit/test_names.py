import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import names
from app.errors import BadName, PathTooLong

legal_names = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255)
    .filter(lambda name: name not in {".", ".."})
    .filter(lambda name: len(name.encode()) <= names.MAX_NAME_BYTES)
)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\0b", "\ud800", "x" * 256, "\u00e9" * 128], ids=ascii
)
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        names.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "...",
        " ",
        ".hidden",
        "CON",
        "a:b*?",
        "a\\b",
        "\n",
        "-rf",
        "x" * 255,
        "e\u0301",
        "\u202egpj.exe",
        "\U0001f4a9",
    ],
    ids=ascii,
)
def test_every_other_name_is_kept_as_it_is(name: str) -> None:
    assert names.check(name) == name


@given(legal_names)
def test_a_legal_name_is_kept_as_it_is(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.TXT", "a.txt"),
        ("\u00c9", "e\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u212b", "\u00e5"),
        ("\u03a3", "\u03c2"),
    ],
    ids=ascii,
)
def test_names_that_differ_in_case_or_composition_count_as_the_same(one: str, other: str) -> None:
    assert names.key(one) == names.key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("a", "\u00e4"), ("a", "a "), ("\ufb01", "\ufb02")], ids=ascii
)
def test_other_names_are_told_apart(one: str, other: str) -> None:
    assert names.key(one) != names.key(other)


@given(legal_names)
def test_the_key_does_not_depend_on_composition(name: str) -> None:
    assert names.key(unicodedata.normalize("NFD", name)) == names.key(unicodedata.normalize("NFC", name))


@given(legal_names)
def test_the_key_fits_into_an_index_beside_the_longest_parent(name: str) -> None:
    assert len(names.key(name).encode()) + 1000 < 2704


@pytest.mark.parametrize(
    ("folder", "parts"), [("", ()), ("/", ()), ("a/b", ("a", "b")), ("/a//b/", ("a", "b")), (" ", (" ",))]
)
def test_a_folders_path_is_split_into_its_names(folder: str, parts: tuple[str, ...]) -> None:
    assert names.parts(folder) == parts


@pytest.mark.parametrize("folder", ["..", "a/../b", "./a", "a/\0", "a/" + "x" * 256])
def test_a_folders_path_with_a_bad_name_in_it_is_refused(folder: str) -> None:
    with pytest.raises(BadName):
        names.parts(folder)


def test_a_path_may_have_900_bytes_and_no_more() -> None:
    folders = ("x" * 255, "x" * 255, "x" * 255)

    names.check_path(folders, "y" * (900 - 3 * 256))

    with pytest.raises(PathTooLong):
        names.check_path(folders, "y" * (900 - 3 * 256 + 1))


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("a.txt", 0, "a.txt"),
        ("a.txt", 1, "a (1).txt"),
        ("a.tar.gz", 12, "a.tar (12).gz"),
        ("README", 2, "README (2)"),
        (".profile", 1, ".profile (1)"),
    ],
)
def test_a_number_stands_before_the_suffix(name: str, number: int, expected: str) -> None:
    assert names.numbered(name, number) == expected


@given(legal_names, st.integers(min_value=0, max_value=1000))
def test_a_numbered_name_is_a_legal_name(name: str, number: int) -> None:
    names.check(names.numbered(name, number))


@pytest.mark.parametrize(
    "name",
    [
        "x" * 255,
        "x" * 251 + ".txt",
        "\U0001f4a9" * 63 + "abc",
        "a." + "x" * 253,
        "." + "x" * 254,
        "a" * 9 + "." + "\u00e9" * 122,
    ],
    ids=ascii,
)
def test_a_numbered_name_stays_legal_at_255_bytes(name: str) -> None:
    one, other = names.numbered(name, 1), names.numbered(name, 1000)

    assert names.check(one) != names.check(other)


@given(legal_names, st.integers(0, 1000), st.integers(0, 1000))
def test_two_numbers_give_two_names(name: str, one: int, other: int) -> None:
    same = names.key(names.numbered(name, one)) == names.key(names.numbered(name, other))

    assert same == (one == other)


@given(st.text())
def test_a_printable_name_cannot_move_the_cursor_or_the_reading_direction(name: str) -> None:
    shown = names.printable(name)

    assert all(unicodedata.category(one)[0] != "C" and one not in "\u2028\u2029" for one in shown)
    shown.encode()


def test_a_printable_name_shows_what_was_hidden() -> None:
    assert names.printable("a\x1b[2J\u202eb\n") == "a\\u001b[2J\\u202eb\\u000a"
