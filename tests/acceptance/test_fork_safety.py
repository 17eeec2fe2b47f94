"""Prefork workers and PostgreSQL over TLS, with a parent that does everything one should not."""

from pathlib import Path

from local.system import BIN
from tests.acceptance.conftest import Haulage, wait_until

UPLOADS = 24


def run(haulage: Haulage, sample: str, tmp_path: Path, *options: str) -> None:
    haulage.hand_in(UPLOADS)
    haulage.start_beat()
    haulage.start_worker(*options, sample=f"tests.acceptance.samples.{sample}", SAMPLE_DIR=str(tmp_path))


def test_a_query_at_import_and_one_task_per_child_share_no_session(haulage: Haulage, tmp_path: Path) -> None:
    run(haulage, "import_time_query", tmp_path, "--max-tasks-per-child", "1")

    haulage.wait_until_stored(UPLOADS)
    haulage.system.stop("worker")

    parent = int((tmp_path / "parent").read_text())
    served = haulage.served_by()
    assert parent not in served
    assert all(len(processes) == 1 for processes in served.values())
    assert len(served) == UPLOADS
    assert haulage.faults_in_logs() == []
    noted = haulage.installation.query(
        "SELECT 1 FROM corporate.upload_events WHERE kind = 'noted by the parent'"
    )
    assert len(noted) == 1, "the parent's open transaction must commit"
    assert haulage.problems() == []


def test_the_same_worker_without_safeguards_fails_by_name(haulage: Haulage, tmp_path: Path) -> None:
    run(haulage, "unguarded", tmp_path, "--max-tasks-per-child", "1")

    wait_until(
        lambda: any("decryption failed or bad record mac" in line for line in haulage.faults_in_logs()),
        "the classic fault shows itself",
    )


def test_worker_process_init_alone_holds_for_idle_connections(haulage: Haulage, tmp_path: Path) -> None:
    run(haulage, "init_alone", tmp_path)

    haulage.wait_until_stored(UPLOADS)

    served = haulage.served_by()
    assert all(len(processes) == 1 for processes in served.values())
    assert haulage.faults_in_logs() == []


def test_children_that_get_no_pool_of_their_own_stop_the_worker(haulage: Haulage, tmp_path: Path) -> None:
    run(haulage, "failing_init", tmp_path, "--max-tasks-per-child", "1")
    haulage.wait_until_stored(UPLOADS)

    (tmp_path / "fail").touch()

    assert haulage.system.processes["worker"].wait(60) != 0
    haulage.system.processes.pop("worker")
    failed = haulage.log().count("this child could not be given a pool of its own")
    assert 5 <= failed <= 20, "five in a row, and those that were under way: no storm of forks"
    assert "this worker stops" in haulage.log()


def test_a_worker_whose_first_children_get_no_pool_does_not_start(haulage: Haulage, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    sample = "tests.acceptance.samples.failing_init"

    haulage.system.start(
        "worker", BIN / "celery", "-A", sample, "worker", "-c", "2", SAMPLE_DIR=str(tmp_path)
    )

    assert haulage.system.processes["worker"].wait(60) != 0
    haulage.system.processes.pop("worker")
