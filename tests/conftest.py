"""Options and fixtures that every test gets."""

import pytest
import torch

from runkit import gl

gl.set_up()  # before any test imports MuJoCo


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "the long versions of the torture and fuzz tests"
    parser.addoption("--thorough", action="store_true", help=text)


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for the long versions."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """One thread: the fastest for networks this small, and sums always in the same order."""
    torch.set_num_threads(1)
