"""Prefork workers and PostgreSQL over TLS, with a parent that does everything one should not."""

from itertools import pairwise

from local.system import BIN
from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.forking import ONE_TASK_PER_CHILD, Forking
from tests.acceptance.samples import fork_markers

UPLOADS = 24
CHILDREN = 12
FORKS = 20
ENDINGS = ["closed", "collected", "removed"]


def test_a_query_at_import_and_one_task_per_child_share_no_session(
    haulage: Haulage, forking: Forking
) -> None:
    haulage.hand_in(CHILDREN)
    haulage.start_beat()
    forking.start("import_time_query", *ONE_TASK_PER_CHILD)

    haulage.wait_until_stored(CHILDREN)
    forking.stop()

    parent = int((forking.folder / "parent").read_text())
    served = haulage.served_by()
    assert parent not in served
    assert all(len(processes) == 1 for processes in served.values())
    assert len(served) == CHILDREN
    assert haulage.faults_in_logs() == []
    assert forking.noted() == ["noted by the parent"], "the parent's open transaction must commit"
    assert haulage.problems() == []


def test_the_same_worker_without_safeguards_fails_by_name(haulage: Haulage, forking: Forking) -> None:
    haulage.hand_in(UPLOADS)
    haulage.start_beat()
    forking.start("import_time_query", *ONE_TASK_PER_CHILD, without="everything")

    wait_until(
        lambda: any("decryption failed or bad record mac" in line for line in haulage.faults_in_logs()),
        "the classic fault shows itself",
    )


def test_worker_process_init_alone_holds_for_idle_connections_but_leaves_a_socket(
    haulage: Haulage, forking: Forking
) -> None:
    forking.start("fork_worker", without="hook", PARENT="works")
    fork_markers.send(6)

    forking.wait_for("child", 6)

    assert forking.problems() == []
    assert forking.shared_sessions() == []
    assert haulage.faults_in_logs() == []
    assert forking.crossing() != {}


def test_a_parent_at_work_shares_nothing_with_children_that_come_and_go(forking: Forking) -> None:
    forking.start("fork_worker", *ONE_TASK_PER_CHILD, PARENT="works")
    fork_markers.send(FORKS)

    forking.wait_for("child", FORKS)
    forking.wait_for("parent", len(forking.marks("parent")) + 1)
    forking.stop()

    forking.assert_nothing_crossed()
    children = forking.marks("child")
    assert len({one.process for one in children}) == len({one.session for one in children}) == FORKS
    parts = [one.who for one in forking.marks()]
    turns = sum(pair == ("parent", "child") for pair in pairwise(parts))
    assert turns > FORKS / 2, "the parent worked between its children's queries"


def test_a_parent_at_work_without_safeguards_fails_by_name(haulage: Haulage, forking: Forking) -> None:
    forking.start("fork_worker", *ONE_TASK_PER_CHILD, without="everything", PARENT="works")
    fork_markers.send(FORKS)

    wait_until(
        lambda: any("decryption failed or bad record mac" in line for line in haulage.faults_in_logs()),
        "the server reads what two processes wrote over one connection",
    )


def test_children_may_end_the_sessions_they_inherit_and_the_parent_commits_them(
    haulage: Haulage, forking: Forking
) -> None:
    haulage.hand_in(1)
    forking.start("fork_open_sessions", DB_POOL_SIZE="4")
    fork_markers.send(4, "fork_open_sessions.end")

    forking.wait_for("child", 4)
    forking.stop()

    assert forking.noted() == ENDINGS
    forking.assert_nothing_crossed()


def test_with_worker_process_init_alone_a_child_ends_the_transactions_of_its_parent(
    haulage: Haulage, forking: Forking
) -> None:
    haulage.hand_in(1)
    forking.start("fork_open_sessions", without="hook", DB_POOL_SIZE="4")
    fork_markers.send(1, "fork_open_sessions.end")

    forking.wait_for("child", 1)
    assert forking.crossing() != {}
    haulage.system.stop("worker")

    assert forking.noted() == []
    for ending in ENDINGS:
        assert len(forking.problems(f"parent, {ending}")) == 1, ending
    assert haulage.faults_in_logs() != []


def test_an_engine_that_somebody_else_made_is_covered_too(forking: Forking) -> None:
    forking.start("fork_two_engines", *ONE_TASK_PER_CHILD)
    fork_markers.send(4, "fork_two_engines.ask")

    forking.wait_for("child, second", 4)
    forking.stop()

    forking.assert_nothing_crossed()


def test_worker_process_init_alone_does_not_cover_a_second_engine(haulage: Haulage, forking: Forking) -> None:
    forking.start("fork_two_engines", *ONE_TASK_PER_CHILD, without="hook")
    fork_markers.send(4, "fork_two_engines.ask")

    forking.wait_for("child, second", 4)

    assert forking.problems("child, second") + forking.problems("parent, second") != []
    assert forking.problems("child, first") == forking.problems("parent, first") == []
    wait_until(haulage.faults_in_logs, "the server reads what two processes wrote over one connection")


def test_children_that_get_no_pool_of_their_own_stop_the_worker(haulage: Haulage, forking: Forking) -> None:
    forking.start("failing_init", *ONE_TASK_PER_CHILD)
    (forking.folder / "fail").touch()
    fork_markers.send(2)  # the children that are well make place

    assert haulage.system.processes["worker"].wait(60) != 0
    haulage.system.processes.pop("worker")
    failed = haulage.log().count("this child could not be given a pool of its own")
    assert 5 <= failed <= 20, "five in a row, and those that were under way: no storm of forks"
    assert len(broken(forking)) == failed
    assert served_by_broken(forking) == set()
    assert "this worker stops" in haulage.log()


def test_children_that_end_at_once_and_uncounted_are_a_storm_of_forks(
    haulage: Haulage, forking: Forking
) -> None:
    forking.start("failing_init", *ONE_TASK_PER_CHILD, FAILING="at once")
    (forking.folder / "fail").touch()
    fork_markers.send(2)

    wait_until(lambda: len(broken(forking)) > 25, "one fork follows the other")
    assert haulage.system.processes["worker"].poll() is None, "and the worker looks alive"


def test_children_that_only_raise_in_worker_process_init_serve_all_the_same(forking: Forking) -> None:
    forking.start("failing_init", *ONE_TASK_PER_CHILD, FAILING="unchecked")
    (forking.folder / "fail").touch()
    fork_markers.send(4)

    wait_until(lambda: served_by_broken(forking), "a broken child serves a task")


def broken(forking: Forking) -> set[str]:
    """Return the pids of the children that got no pool of their own."""
    file = forking.folder / "broken"
    return set(file.read_text().split()) if file.exists() else set()


def served_by_broken(forking: Forking) -> set[str]:
    return broken(forking) & {one.process.split("@")[0] for one in forking.marks("child")}


def test_a_worker_whose_first_children_get_no_pool_does_not_start(haulage: Haulage, forking: Forking) -> None:
    (forking.folder / "fail").touch()
    worker = (BIN / "celery", "-A", "tests.acceptance.samples.failing_init", "worker", "-c", "2")

    haulage.system.start("worker", *worker, SAMPLE_DIR=str(forking.folder))

    assert haulage.system.processes["worker"].wait(60) != 0
    haulage.system.processes.pop("worker")
