"""A temperature runs on `meta`, where a tensor has no values: between two gradients nothing waits for the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rdmc.correct import Law, Reference, Tempered, Tempering
from rdmc.correct.temper import Rung
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from tests.correct.cases import LAWS, META, as_target, core, moved, streams
from tests.laws.cases import bimodal

N, D = 12, 2
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def reference(law: Law, dtype: torch.dtype) -> Reference:
    return Reference(law, moved(StudentMixture(core(D), 4), dtype, META), "test")


def rung(beta: float, dtype: torch.dtype) -> Rung:
    return Rung(beta, 2, torch.full((1, 3), math.log(0.5), dtype=dtype, device=META), 3)


@DTYPES
@pytest.mark.parametrize("name", LAWS)
def test_a_step_reads_nothing_back(name: str, dtype: torch.dtype) -> None:
    target, own = as_target(moved(bimodal(D), dtype, META)), reference(moved(LAWS[name](D), dtype, META), dtype)
    rng = Streams.seeded(0, [N // 2, N // 2], [(0, 0), (0, 1)], dtype=dtype, device=META)
    tempering = Tempering(local=2)
    population = tempering.begin(target, own.law, rng)
    for beta, then in ((0.0, 0.4), (0.4, 1.0)):
        population, tuning, stage = tempering.step(target, own, population, beta, rung(then, dtype), rng, gain=0.3)
    assert [part.shape for part in population] == [(N, D), (N,), (N, D), (N,)]
    assert {part.dtype for part in population[:3]} == {dtype} and population.origin.dtype == torch.int64
    assert tuning.shape == (2, 3) and all(part.shape == (2,) for part in stage)
    assert {part.device for part in (*population, tuning, *stage)} == {META}


@DTYPES
def test_a_step_keeps_the_dtype(dtype: torch.dtype) -> None:
    target, law = as_target(moved(bimodal(D), dtype)), moved(LAWS["axes"](D), dtype)
    own = Reference(law, moved(StudentMixture(core(D), 4), dtype), "test")
    rng = streams(N, dtype=dtype)
    tempering = Tempering(local=2)
    trial = tempering.learn(target, own, rng)
    assert {part.dtype for part in trial.population[:3]} == {dtype}
    assert {rung.tuning.dtype for rung in trial.ladder.rungs} == {dtype}
    assert bool(torch.isfinite(trial.population.x).all())


@dataclass(frozen=True, eq=False)
class Reads:
    """Negative control: a law that looks at a value."""

    law: Law

    def draw(self, rng: Streams, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """Draws."""
        return self.law.draw(rng, lead)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, if there is any."""
        value = self.law.log_prob(x)
        return value - 0.0 * float(value.max())

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        return self.law.value_and_grad(x)


def test_a_law_that_waits_for_the_device_fails_here() -> None:
    target, dtype = as_target(moved(bimodal(D), torch.float64, META)), torch.float64
    own = reference(Reads(moved(LAWS["student"](D), dtype, META)), dtype)
    rng = streams(N, device=META)
    population = Tempering().begin(target, own.law, rng)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta|item"):
        Tempering().step(target, own, population, 0.0, rung(1.0, dtype), rng)


def test_a_tempered_law_is_on_the_device_of_its_parts() -> None:
    target, law = as_target(moved(bimodal(D), torch.float32, META)), moved(LAWS["product"](D), torch.float32, META)
    value, grad = Tempered(target, law, 0.3).value_and_grad(torch.zeros(N, D, dtype=torch.float32, device=META))
    assert (value.shape, grad.shape, value.dtype, grad.device) == ((N,), (N, D), torch.float32, META)
