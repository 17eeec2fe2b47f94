import re
from datetime import timedelta

import pytest

from app import errors
from app.errors import HaulageError, Postponed


def descendants(of: type[HaulageError]) -> list[type[HaulageError]]:
    return [one for child in of.__subclasses__() for one in (child, *descendants(child))]


def drawn() -> dict[str, str]:
    """Return the tree in the module's docstring: a class's name, and its parent's."""
    parents: dict[int, str] = {}
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^([\u2502 \u251c\u2514\u2500]*)([A-Z]\w+)(  .*)?$", line):
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            if match[2] != "HaulageError":
                found[match[2]] = parents[depth - 1]
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_the_code() -> None:
    real = {one.__name__: one.__bases__[0].__name__ for one in descendants(HaulageError)}

    assert drawn() == real


def test_every_error_has_a_code_of_its_own_for_programs() -> None:
    families = (errors.Unfit, errors.Refused, errors.Hopeless, errors.Setback, Postponed)

    for family in families:
        codes = [one.code for one in (family, *descendants(family))]
        assert len(codes) == len(set(codes))
        assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_every_class_names_its_code_itself() -> None:
    assert [one for one in descendants(HaulageError) if "code" not in vars(one)] == []


@pytest.mark.parametrize("kind", [Postponed, *descendants(Postponed)])
def test_what_is_postponed_carries_its_delay(kind: type[Postponed]) -> None:
    assert kind("later").delay == timedelta(0)
    assert kind("later", timedelta(seconds=3)).delay == timedelta(seconds=3)


def test_no_error_ends_a_process_unseen() -> None:
    assert all(issubclass(one, Exception) for one in descendants(HaulageError))
