"""Runs that are cut off, and what must be equal when they are resumed."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from tests.quick import QUICK

PAIR = targets.two_modes(dim=8)


class Killed(BaseException):
    """Ends a run as a signal would: nothing in the library catches it."""


class Mortal:
    """The pair of modes, which ends the run at the given call."""

    dim = PAIR.dim

    def __init__(self, last: int | None = None, error: type[BaseException] = Killed) -> None:
        self.last = last
        self.error = error
        self.calls = 0

    def log_density(self, x: Tensor) -> Tensor:
        """The value, until the last call."""
        self._count()
        return PAIR.log_density(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the gradient, until the last call."""
        self._count()
        return PAIR.value_and_grad(x)

    def _count(self) -> None:
        self.calls += 1
        if self.last is not None and self.calls > self.last:
            self.last = None
            raise self.error("out of time")


def run(density: Any, sampler: object = QUICK, **options: Any) -> rdmc.Result:
    """A short run with several batches."""
    options = {"draws": 60, "chains": 3, "seed": 5, "progressbar": False} | options
    return rdmc.sample(density, sampler=sampler, **options)  # type: ignore[arg-type]


def digest(result: rdmc.Result) -> str:
    """Of everything that two equal runs have equal, which is all but clock readings."""
    stages = [{k: v for k, v in row.items() if k != "seconds"} for row in result.stages]
    inner = {name: values.tolist() for name, values in sorted(result.inner.items()) if name != "seconds"}
    rest = (
        result.log_density.tolist(),
        result.log_evidence,
        result.log_evidence_mcse,
        result.gradient_evaluations,
        result.density_evaluations,
        list(result.modes),
        stages,
        inner,
        result.partial,
    )
    bits = result.samples.contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(bits + repr(rest).encode(), digest_size=16).hexdigest()
