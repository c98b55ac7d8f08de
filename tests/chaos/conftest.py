"""The seed of the moments, places and bits, and runs that nothing disturbed."""

import random
from pathlib import Path

import pytest

from tests.chaos.trials import LONG, finish


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of moments, bits and lengths (default: 0)")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{request.config.getoption('--seed', default=0)} {request.node.nodeid}")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of LONG."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(*LONG, folder=folder)
    return folder
