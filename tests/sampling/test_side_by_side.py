"""Shards of a chain that run as one batch, as they do on a GPU, give what they give one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import rdmc
import targets
from rdmc.registry import sampler_named
from rdmc.sampler import Sampler, Unit, joined
from tests.marks import slow

SHARDS, SIZE = 3, 256


@dataclass(frozen=True)
class Split:
    """A sampler with small shards, each a batch of its own or all of a chain together."""

    engine: Sampler[Any]
    together: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def batches(self, draws: int, chains: int) -> tuple[tuple[Unit, ...], ...]:
        """Units of equal size."""
        alone = tuple((Unit(chain, shard, SIZE),) for chain in range(chains) for shard in range(SHARDS))
        return joined(alone, 2) if self.together else alone


SAMPLERS = {name: sampler_named(name) for name in ("auto", "rdmc", "rdmc-smc", "annealed-langevin")}
SAMPLERS["guidance"] = rdmc.Guidance(lambda x: -0.5 * x.square().sum(-1), strength=0.5)


@pytest.mark.parametrize("name", ["auto", "rdmc", "rdmc-smc", "annealed-langevin", *slow("guidance")])
def test_together_equals_one_after_the_other(name: str) -> None:
    assert SAMPLERS[name].side_by_side

    def run(together: bool) -> rdmc.Result:
        engine = Split(SAMPLERS[name], together)
        return rdmc.sample(targets.two_modes(2), draws=SHARDS * SIZE, chains=2, sampler=engine, progressbar=False)

    alone, together = run(False), run(True)
    # a product with a matrix rounds by the number of its rows
    torch.testing.assert_close(together.samples, alone.samples, rtol=0.0, atol=1e-12)
    if alone.log_evidence is not None:
        assert together.log_evidence == pytest.approx(alone.log_evidence, abs=1e-9)
        assert together.log_evidence_mcse == pytest.approx(alone.log_evidence_mcse, rel=1e-6)
    assert together.gradient_evaluations == alone.gradient_evaluations
    assert set(together.inner) == set(alone.inner)
    if "evaluations" in alone.inner:
        np.testing.assert_allclose(together.inner["evaluations"], alone.inner["evaluations"])


def test_batches_of_one_chain_are_joined_up_to_a_size() -> None:
    alone = tuple((Unit(chain, shard, 4096),) for chain in range(2) for shard in range(100))
    for dim, most in ((1, 100), (2, 64), (8, 16), (32, 4), (5000, 1)):
        together = joined(alone, dim)
        assert [unit for batch in together for unit in batch] == [unit for (unit,) in alone]
        assert max(map(len, together)) == most and len(together) == 2 * -(-100 // most)
        assert all(len({unit.chain for unit in batch}) == 1 for batch in together)


def test_samplers_that_compare_weights_within_a_batch_are_left_alone() -> None:
    others = [sampler_named(name) for name in ("mala", "parallel-tempering", "tempered-smc", "emcee", "nuts")]
    power = rdmc.PowerPosterior(rdmc.Guidance(lambda x: -0.5 * x.square().sum(-1), strength=0.5))
    assert not any(getattr(sampler, "side_by_side", False) for sampler in (*others, power))


def test_chains_of_one_particle_stay_as_they_are() -> None:
    side_by_side = (tuple(Unit(chain, 0, 1) for chain in range(4)),)
    assert joined(side_by_side, 3) == side_by_side
    apart = tuple((Unit(chain, 0, 1),) for chain in range(4))
    assert joined(apart, 3) == apart
