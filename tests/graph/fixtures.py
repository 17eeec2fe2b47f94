"""Fixtures of the tests of the simulator itself: one process for all of them, and a drive for each test."""

from collections.abc import Iterator

import httpx
import pytest

from tests.graph.launch import Simulator, running


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with running("--resource-units=0") as made:
        yield made


@pytest.fixture
def graph(simulator: Simulator) -> Iterator[httpx.Client]:
    """A client with a token; what it or others script is forgotten afterwards."""
    with simulator.graph() as client:
        yield client
    simulator.control("DELETE faults")


@pytest.fixture
def bare(simulator: Simulator) -> Iterator[httpx.Client]:
    """A client without a token, for upload URLs."""
    with simulator.http() as client:
        yield client


@pytest.fixture
def graph_drive(simulator: Simulator) -> str:
    return simulator.new_drive()
