"""What counts as crossing a fork, among what processes wrote down about themselves."""

from tests.acceptance.samples.fork_markers import Mark, shared


def mark(process: str, session: str, used: int, *others: int) -> Mark:
    return Mark("child", process, session, sorted([used, *others]), used, "")


def test_a_session_of_two_processes_is_shared() -> None:
    assert shared([mark("1", "s", 7), mark("2", "s", 8)]) == {"session s": {"1", "2"}}


def test_a_socket_in_use_that_another_process_holds_is_shared() -> None:
    assert shared([mark("1", "s", 7), mark("2", "t", 8, 7)]) == {"socket 7": {"1", "2"}}


def test_remains_that_nobody_uses_are_not() -> None:
    assert shared([mark("1", "s", 7, 9), mark("2", "t", 8, 9)]) == {}
