"""A worker made from a sample that marks its queries, and what must be true of it when nothing crosses a fork."""

from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import evidence
from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_markers import Mark

ONE_TASK_PER_CHILD = ("--max-tasks-per-child", "1")


@dataclass
class Forking:
    """One such worker; the folder is its SAMPLE_DIR."""

    haulage: Haulage
    folder: Path

    def start(self, sample: str, *options: str, without: str = "", **extra: str) -> None:
        """Start the worker, for a control without the safeguards that samples/fork_without.py lists."""
        sample = f"tests.acceptance.samples.{sample}"
        self.haulage.start_worker(
            *options, sample=sample, SAMPLE_DIR=str(self.folder), WITHOUT=without, **extra
        )

    def marks(self, who: str | None = None) -> list[Mark]:
        return fork_markers.read(self.folder, who)

    def wait_for(self, who: str, number: int) -> None:
        wait_until(lambda: len(self.marks(who)) >= number, f"{number} marks by {who}", tell=self.marks)

    def problems(self, who: str | None = None) -> list[str]:
        return fork_markers.problems(self.marks(who))

    def shared(self) -> dict[str, set[str]]:
        return fork_markers.shared(self.marks())

    def shared_sessions(self) -> list[str]:
        return [thing for thing in self.shared() if thing.startswith("session ")]

    def crossing(self) -> dict[int, set[int]]:
        """Return the processes of the worker that hold a socket towards PostgreSQL together with another one, now."""
        port = evidence.port_of(self.haulage.installation.environment["DATABASE_URL"])
        return evidence.crossing(self.haulage.pid(), port)

    def stop(self) -> None:
        """Look into the living worker, then end it warmly."""
        # A child that is made just now shares everything until its hooks have run; what is left by then stays.
        wait_until(lambda: self.crossing() == {}, "no process holds another's socket", tell=self.crossing)
        self.haulage.system.stop("worker")

    def assert_nothing_crossed(self) -> None:
        problems, shared, faults = self.problems(), self.shared(), self.haulage.faults_in_logs()
        assert (problems, shared, faults) == ([], {}, []), (problems, shared, faults)

    def noted(self) -> list[str]:
        """Return the kinds of the events that transactions of samples wrote, as far as they were committed."""
        rows = self.haulage.installation.query(
            "SELECT kind FROM corporate.upload_events WHERE attempt = 0 AND kind <> 'queued' ORDER BY kind"
        )
        return [kind for (kind,) in rows]
