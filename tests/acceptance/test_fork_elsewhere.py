"""Forks that no `worker_process_init` follows, and the one pool in which it fires without a fork."""

from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.forking import Forking
from tests.acceptance.samples import fork_markers

TASKS = 4
GRANDCHILDREN = 4  # one for each way to fork in samples/fork_in_task.py


def test_beat_inside_a_worker_has_sessions_of_its_own_and_leaves_the_parent_its(forking: Forking) -> None:
    forking.start("fork_beat", "-B")
    fork_markers.send(TASKS)

    forking.wait_for("child", TASKS)
    forking.wait_for("beat", 3)
    forking.stop()

    forking.assert_nothing_crossed()
    processes = {part: {one.process for one in forking.marks(part)} for part in ("parent", "beat", "child")}
    assert len(processes["parent"]) == len(processes["beat"]) == 1
    assert len(set().union(*processes.values())) == sum(map(len, processes.values()))
    assert len({one.session for one in forking.marks("beat")}) == 1, "beat keeps its session"


def test_with_worker_process_init_alone_beat_uses_what_it_inherited(forking: Forking) -> None:
    forking.start("fork_beat", "-B", without="hook")

    wait_until(lambda: forking.problems("beat, plain"), "beat writes to a connection that it never made")


def test_a_solo_pool_keeps_its_live_session(haulage: Haulage, forking: Forking) -> None:
    forking.start("fork_solo", "--pool", "solo")
    fork_markers.send(TASKS)

    forking.wait_for("child", TASKS)

    assert forking.problems() == []
    used = {one.session for one in forking.marks()}
    assert len(used) == len({one.process for one in forking.marks()}) == 1
    wait_until(
        lambda: sessions_of(haulage) == used, "there is no other session", tell=lambda: sessions_of(haulage)
    )


def test_a_blind_renewal_leaks_the_live_session_of_a_solo_pool(haulage: Haulage, forking: Forking) -> None:
    forking.start("fork_solo", "--pool", "solo", BLIND="1")
    fork_markers.send(TASKS)

    forking.wait_for("child", TASKS)

    assert forking.problems() == []
    (before,) = forking.marks("before")
    used = {one.session for one in forking.marks("child")}
    assert before.session not in used
    leaked = {before.session, *used}
    wait_until(lambda: sessions_of(haulage) == leaked, "there are two", tell=lambda: sessions_of(haulage))


def sessions_of(haulage: Haulage) -> set[str]:
    """Return the sessions that PostgreSQL keeps for the worker's own process, named as in marks."""
    rows = haulage.installation.look(
        "SELECT pid || '@' || extract(epoch FROM backend_start) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE %s",
        f"{haulage.pid()} %",
    )
    return {name for (name,) in rows}


def test_processes_that_tasks_fork_have_sessions_of_their_own_and_leave_the_childs_alone(
    haulage: Haulage, forking: Forking
) -> None:
    haulage.hand_in(1)
    forking.start("fork_in_task")
    fork_markers.send(2, "fork_in_task.fork")

    wait_until(
        lambda: len(forking.noted()) == 2, "the children's transactions, open at four forks each, commit"
    )
    forking.stop()

    forking.assert_nothing_crossed()
    grandchildren = forking.marks("grandchild")
    assert len({one.process for one in grandchildren}) == len(grandchildren) == 2 * GRANDCHILDREN
    told = (forking.folder / "initialised").read_text().split()
    assert not {one.process.split("@")[0] for one in grandchildren} & set(told), "the fork hook did it alone"
    assert len(forking.marks("child")) == 2 * (2 * GRANDCHILDREN + 1)


def test_with_worker_process_init_alone_processes_that_tasks_fork_take_the_childs_sessions(
    haulage: Haulage, forking: Forking
) -> None:
    haulage.hand_in(1)
    forking.start("fork_in_task", without="hook")
    fork_markers.send(1, "fork_in_task.fork")

    forking.wait_for("grandchild", GRANDCHILDREN)

    taken = {one.session for one in forking.marks("grandchild")}
    assert taken <= {one.session for one in forking.marks("child")}
    wait_until(haulage.faults_in_logs, "and PostgreSQL tells of it")
