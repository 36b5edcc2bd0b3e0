"""Fixtures that every test gets."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """One thread: the fastest for networks this small, and sums always in the same order."""
    torch.set_num_threads(1)
