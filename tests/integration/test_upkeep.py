"""How often what time sets off may run."""

from datetime import timedelta

from app.database import session_scope
from app.upkeep import is_due
from tests.factories import race, wide_pool
from tests.installation import Installation

HOUR = timedelta(hours=1)


def due(task: str, interval: timedelta = HOUR) -> bool:
    with session_scope() as session:
        return is_due(session, task, interval)


def test_a_task_runs_once_however_many_messages_have_gathered(installation: Installation) -> None:
    assert [due("a") for _ in range(5)] == [True, False, False, False, False]
    assert due("b")


def test_a_task_runs_again_after_its_interval(installation: Installation) -> None:
    assert due("a")
    installation.query("UPDATE corporate.upkeep_runs SET ran_at = ran_at - interval '40 minutes'")

    assert due("a")


def test_one_of_many_at_once_runs(installation: Installation) -> None:
    with wide_pool():
        assert sorted(race([lambda: due("a")] * 6)) == [False] * 5 + [True]
