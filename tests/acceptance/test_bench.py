"""The benchmark, with tiny numbers: every part runs on real servers, and its table has every row."""

import json
import subprocess
from pathlib import Path

import psutil
import pytest

from benchmarks import bench
from benchmarks.speed import drain, memory, over_http, path, queues
from benchmarks.speed.chart import Chart
from benchmarks.speed.memory import Watch
from benchmarks.speed.rounds import Rounds, interleaved, shown

# Several workers and servers are started by each: five times the time that this takes must not end them.
pytestmark = pytest.mark.timeout(400)

TINY = {"rounds": 1, "uploads": 40, "jobs": 100, "requests": 40, "mebibytes": 32, "profiled": 20}


def run(folder: Path, part: str) -> tuple[dict, list[list[str]]]:
    """Measure one part; return its figures, and the rows of its first table."""
    numbers = [word for name, number in TINY.items() for word in (f"--{name}", str(number))]

    code = bench.main(["--only", part, "--into", str(folder), *numbers])

    assert code == 0
    known = json.loads((folder / "figures.json").read_text())
    assert (folder / "tables.md").read_text() == bench.markdown(known)
    return known[part], known[part]["tables"][0]["rows"]


@pytest.mark.prove
def test_a_worker_drains_with_every_number_of_children_and_the_classic_recipe(tmp_path: Path) -> None:
    figures, rows = run(tmp_path, "drain")

    assert [row[0] for row in rows] == list(drain.WORKERS)
    assert all(row["median"] > 0 for row in figures["rounds"]["rows"].values())
    assert "uploads a second" in (tmp_path / "drain.svg").read_text()


@pytest.mark.prove
def test_uploads_are_accepted_with_redis_up_stopped_and_frozen(tmp_path: Path) -> None:
    figures, rows = run(tmp_path, "http")

    assert [row[0] for row in rows] == [over_http.UP, over_http.STOPPED, over_http.FROZEN]
    # A request that waited for Redis would take its second of patience, whatever else the machine does.
    assert figures["accepted"]["rows"][over_http.FROZEN]["ratio"] > 0.1


@pytest.mark.prove
def test_the_memory_of_every_process_is_watched(tmp_path: Path) -> None:
    figures, rows = run(tmp_path, "memory")

    assert [row[0] for row in rows] == ["web", "worker, parent", "beat", "worker, child 1", "worker, child 2"]
    assert all(most[memory.BEFORE] > 1 for most in figures["most_mib"].values())
    assert figures["looks"] >= 1


def test_a_process_that_holds_the_file_is_found() -> None:
    watch = Watch({"web": None})  # type: ignore[dict-item]
    watch.most["web"] = {memory.BEFORE: 100.0, memory.RECEIVING: 170.0, memory.TRANSFERRING: 110.0}

    assert watch.growth("web") == 70.0
    part = memory._told(watch, {memory.RECEIVING: 1.0, memory.TRANSFERRING: 1.0}, 2048)
    assert part.wrong == ["web grew by 70.0 MiB; 64 are allowed"]


def test_a_process_that_ends_while_it_is_watched_is_found() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as ending:
        watch = Watch({"child": psutil.Process(ending.pid)})
        watch.look()
    watch.phase = memory.RECEIVING
    watch.look()

    part = memory._told(watch, {memory.RECEIVING: 1.0, memory.TRANSFERRING: 1.0}, 2048)
    assert part.wrong == ["child has ended while it was watched"]


@pytest.mark.prove
def test_what_one_upload_costs_is_counted(tmp_path: Path) -> None:
    figures, rows = run(tmp_path, "path")

    assert figures["counted"]["tasks"] == TINY["profiled"]
    assert {row[0]: float(row[1]) for row in rows}["transactions"] >= 3
    assert figures["counted"]["fsyncs"] >= 2 * TINY["profiled"], "the file and its folder are flushed"


@pytest.mark.prove
def test_every_queue_gets_the_same_job_done(tmp_path: Path) -> None:
    figures, rows = run(tmp_path, "queues")

    assert [row[0] for row in rows] == [queue.title for queue in queues.QUEUES]
    at_once = {row[0]: row[1] for row in rows}
    assert (at_once["dramatiq"], at_once["dramatiq, one thread each"], at_once[queues.BASE]) == (
        "16",
        "2",
        "2",
    )
    assert at_once["taskiq, one thread each"] == "2"
    assert all(row["median"] > 0 for row in figures["rounds"]["rows"].values())


def test_ratios_are_taken_within_a_round() -> None:
    rounds = Rounds("uploads/s", "base")
    for base, other in ((100, 50), (10, 5), (200, 100)):  # the machine was busy in the second round
        rounds.add("base", base)
        rounds.add("other", other)

    assert rounds.ratio("other") == 0.5
    assert rounds.cells("other") == ["50.0", "5.00 to 100", "0.50", "0.50 to 0.50"]
    assert (
        Chart("T", rounds, "base").drawn().count("<rect") == 1 + 1 + 2
    )  # the card, the base's row, two bars


def test_how_far_the_ratios_of_the_rounds_lie_apart_is_told() -> None:
    rounds = Rounds("uploads/s", "base")
    for base, other in ((100, 50), (10, 20), (100, 70)):
        rounds.add("base", base)
        rounds.add("other", other)

    assert rounds.cells("other")[2:] == ["0.70", "0.50 to 2.00"]
    assert rounds.as_json()["rows"]["other"]["ratios"] == [0.5, 2.0, 0.7]


def test_every_round_begins_with_another_one() -> None:
    found = interleaved({name: lambda: 1.0 for name in "ABC"}, 4, lambda _: None)

    assert "".join(name for name, _ in found) == "ABCBCACABABC"


def test_frames_are_counted_by_their_innermost_line() -> None:
    raw = "thread (1): MainThread;a (a.py:1);b (b.py:2) 3\nthread (2): beat;b (b.py:2) 9\nthread (1): MainThread;a (a.py:1) 1\n"
    raw += "thread (1): MainThread 5\n"  # between two frames, or at its end: no line

    found, samples = path.read_frames(raw)

    assert (dict(found), samples) == ({"b (b.py:2)": 3, "a (a.py:1)": 1}, 4)


@pytest.mark.parametrize(("figure", "written"), [(1234.5, "1,234"), (12.345, "12.3"), (1.234, "1.23")])
def test_figures_are_shown_with_three_digits(figure: float, written: str) -> None:
    assert shown(figure) == written


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--only", "much"], ["--into", "/nowhere/at/all"]])
def test_what_cannot_be_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(words)

    assert words[0] in capsys.readouterr().err
