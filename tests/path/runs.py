"""Short runs of weighed paths, with the evidence of every population."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from rdmc.assembly import measured_units
from rdmc.density import Density
from rdmc.grid import LogSNRGrid
from rdmc.inner import FromSurrogate, Importance
from rdmc.job import Job
from rdmc.journal import Journal
from rdmc.locate.survey import Known
from rdmc.path import Controlled, Diagonal, FirstOrder, Isotropic, LowRank, ReverseKernel
from rdmc.path_smc import PathSMC
from rdmc.process import EDM
from rdmc.sampler import Block
from rdmc.schedule import Fixed
from tests.laws.cases import near_skewed, skewed

LOG_Z = math.log(3.0)
KERNELS: dict[str, ReverseKernel] = {
    "first": FirstOrder(),
    "isotropic": Isotropic(prior=1.5),
    "diagonal": Diagonal(prior=3.0),
    # narrower than the exact kernel its weights have heavy tails, and a standard error of 200 runs says little
    "low-rank": LowRank(prior=8.0),
    "controlled": Controlled(),
    "controlled-fitted": Controlled(fitted=True),
}


def heavy(dim: int = 2) -> Density:
    """Logarithms of exponential variables, with evidence 3: asymmetric, and no mixture of Gaussians."""
    base = skewed(dim)

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = base.value_and_grad(x)
        return value + LOG_Z, grad

    return Density(lambda x: base(x) + LOG_Z, dim, value_and_grad)


def short(levels: int, kernel: ReverseKernel, draws: int = 4, dim: int = 2) -> PathSMC:
    """Few noisy draws a level, guided by a mixture that is wrong, on a grid of that many steps in all."""
    return PathSMC(
        schedule=Fixed(EDM(6.0), LogSNRGrid(levels - 1, 0.3)),
        inner=Importance(draws, FromSurrogate(), gradients=True),
        kernel=kernel,
        particles=32,
        pilot=Known(near_skewed(dim)),
        refit=None,
    )


def blocks(sampler: PathSMC, density: Density, draws: int, chains: int, seed: int = 0) -> list[Block]:
    """What every population gives."""
    journal = Journal(density.counter)
    plan = sampler.prepare(density, seed, journal)
    batches = sampler.batches(draws, chains)
    jobs = [Job(sampler, density, plan, seed, draws, i, units) for i, units in enumerate(batches)]
    return [block for _, block in measured_units([(job.units, job.run(journal).block) for job in jobs])]


def evidences(sampler: PathSMC, density: Density, draws: int, chains: int, seed: int = 0) -> Tensor:
    """``(chains,)`` estimates of the log evidence."""
    found = [block.log_evidence for block in blocks(sampler, density, draws, chains, seed)]
    return torch.cat([part for part in found if part is not None])


def without_resampling(sampler: PathSMC) -> PathSMC:
    """Plain importance sampling of paths."""
    return replace(sampler, threshold=0.0)
