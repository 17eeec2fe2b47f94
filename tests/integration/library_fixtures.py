"""The fixture of tests that make whole attempts at uploads into a library of SharePoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.graph.launch import running
from tests.installation import Installation, with_library
from tests.integration.library_case import Library


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wake.queue.waiting", lambda *_: 0)
    monkeypatch.setattr("app.wake.queue.wake", lambda ids, _queue=None: list(ids))
    monkeypatch.setattr("tasks.upkeep.is_due", lambda *_: True)


@pytest.fixture
def sharepoint(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_broker: None
) -> Iterator[Library]:
    (tmp_path / "graph").mkdir()
    with running("--resource-units=0", folder=tmp_path / "graph") as simulator:
        simulator.drive = simulator.new_drive(type="documentLibrary")
        made = with_library(installation, simulator)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        made.forget_process_state()
        yield Library(made, simulator)
