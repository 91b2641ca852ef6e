"""Samplers whose law is known: exact draws, the same with the wrong weights or in the wrong place, and one that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import targets
from rdmc.density import Density
from rdmc.journal import Journal
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Progress, Unit, batches_of_shards

PAIR = targets.two_modes(dim=2)


def hidden(x: Tensor) -> Tensor:
    """The pair with no ground truth to see."""
    return PAIR.log_density(x)


@dataclass(frozen=True)
class Exact:
    """Exact draws of the pair; ``keep`` of those in the second mode survive, and all are moved by ``shift``."""

    keep: float = 1.0
    shift: float = 0.0

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        return batches_of_shards(draws, chains)

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        return Plan()

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> Tensor | None:
        return None

    def advance(self, density: Density, plan: Plan, state: Tensor | None, rng: Streams) -> Tensor:
        generator = rng.generators[0]
        x = PAIR.sample(4 * rng.particles, generator)
        kept = (PAIR.mode_of(x) == 0) | (torch.rand(len(x), generator=generator) < self.keep)
        density.value_and_grad(x[:1])
        return x[kept][: rng.particles] + self.shift

    def progress(self, plan: Plan, state: Tensor | None) -> Progress:
        return Progress(int(state is not None), 1, "exact")

    def collect(self, density: Density, plan: Plan, state: Any) -> Block:
        return Block(state[:, None, :])


@dataclass(frozen=True)
class Failing(Exact):
    """Raises as soon as it is used."""

    error: type[BaseException] = RuntimeError

    def prepare(self, density: Density, seed: int, journal: Journal) -> Plan:
        raise self.error("out of luck")


@dataclass(frozen=True)
class Watched(Exact):
    """Has diagnostics of its own inside, which see nothing wrong."""

    def collect(self, density: Density, plan: Plan, state: Any) -> Block:
        return Block(state[:, None, :], {"evaluations": np.array([1.0])})


@dataclass(frozen=True)
class Interrupted(Exact):
    """Ctrl-C in the second population."""

    def start(self, density: Density, plan: Plan, rng: Streams, draws: int) -> Tensor | None:
        if density.counter.gradients > 20:
            raise KeyboardInterrupt
        density.value_and_grad(torch.zeros(20, density.dim, dtype=torch.float64))
        return None
