"""The soak, for a few seconds: clean with the safeguards, and the same soak without them, which finds what there is."""

import json
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak_verdict import Verdict


def run(folder: Path, *options: str) -> tuple[int, dict]:
    code = soak.main(["--minutes", "0.08", "--json", str(folder / "figures"), *options])
    return code, json.loads((folder / "figures").read_text())


def test_a_worker_that_forks_all_the_time_stays_clean(tmp_path: Path) -> None:
    code, found = run(tmp_path)

    assert (code, found["wrong"]) == (0, [])
    assert found["forks"] >= 10
    assert found["processes_seen"] > 0
    assert all(found["transactions"][who] > 0 for who in ("parent", "child", "grandchild"))


@pytest.mark.prove
def test_the_same_soak_without_safeguards_finds_the_fault(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--unguarded")

    assert code == 1
    assert found["sockets_found"] > 0
    assert any("bad record mac" in message for message in found["known_messages"])


def test_a_soak_that_did_nothing_is_not_clean() -> None:
    assert Verdict(1.0).wrong != []
    lived = {"looks": 9, "children_forked": 9, "grandchildren_forked": 4, "parent_began": 1, "parent_kept": 1}
    done = {"parent": 9, "child": 9, "grandchild": 8}
    assert Verdict(1.0, **lived, transactions=done, processes_seen=9).wrong == []
    assert Verdict(1.0, **lived, transactions=done, processes_seen=0).wrong != []
    assert Verdict(1.0, **lived, transactions={**done, "grandchild": 7}, processes_seen=9).wrong != []
    assert Verdict(1.0, **lived, transactions={**done, "parent": 0}, processes_seen=9).wrong != []


@pytest.mark.parametrize("given", ["0", "-1", "much", "nan"])
def test_minutes_that_cannot_be(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        soak.main(["--minutes", given])

    assert "--minutes" in capsys.readouterr().err
