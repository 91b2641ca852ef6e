"""What is one for a whole process is the same for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """With small tensors, two threads waiting for each other on a busy machine are 25 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _checked_distributions() -> Iterator[None]:
    """``torch.compile`` turns the checks of ``torch.distributions`` off for the rest of the process."""
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)
