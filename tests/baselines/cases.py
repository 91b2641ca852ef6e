"""The baselines that the laws are tested on: a new one adds a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rdmc
from rdmc.baselines import NUTS, AnnealedLangevin, Ensemble, LongChains, ParallelTempering, TemperedSMC
from rdmc.kernels import HMC, MALA, ULA
from rdmc.locate.pilot import Pilot
from rdmc.sampler import Sampler
from tests.laws.cases import SKEWED_VARIANCE

PILOT = Pilot(starts=16, rounds=3)


@dataclass(frozen=True)
class BaselineCase:
    """A baseline at a budget; ``allowance`` is its known bias of mean and variance of the skewed law."""

    name: str
    sampler: Callable[[float], Sampler[Any]]
    budget: float
    chains: int = 24
    draws: int = 60
    allowance: tuple[float, float] = (0.0, 0.0)
    extra: str | None = None


BASELINES = [
    # ULA at step h: bias O(h), the allowance of the kernel's own law test scaled from h = .02; the pilot's unit is the mode's width
    BaselineCase("ula", lambda b: LongChains(ULA(0.05), b, pilot=PILOT), 80, allowance=(0.05, 0.05 * SKEWED_VARIANCE)),
    BaselineCase("mala", lambda b: LongChains(MALA(), b, pilot=PILOT), 80),
    BaselineCase("hmc", lambda b: LongChains(HMC(), b, pilot=PILOT), 80),
    BaselineCase(
        "annealed-langevin",
        lambda b: AnnealedLangevin(b, step_size=0.03, levels=10, pilot=PILOT),
        400,
        draws=150,
        allowance=(0.03, 0.03 * SKEWED_VARIANCE),
    ),
    BaselineCase("parallel-tempering", lambda b: ParallelTempering(budget=b, pilot=PILOT), 80),
    BaselineCase("nuts", lambda b: NUTS(budget=b, pilot=PILOT), 80, extra="blackjax"),
    BaselineCase("tempered-smc", lambda b: TemperedSMC(b, particles=128, pilot=PILOT), 75, draws=128, extra="blackjax"),
    BaselineCase("emcee", lambda b: Ensemble(b, pilot=PILOT), 100, extra="emcee"),
]


def run(case: BaselineCase, density: Any, seed: int = 0, **options: Any) -> rdmc.Result:
    """The case on a density."""
    options = {"draws": case.draws, "chains": case.chains, "budget": case.budget, **options}
    return rdmc.sample(
        density,
        draws=options["draws"],
        chains=options["chains"],
        sampler=case.sampler(options["budget"]),
        seed=seed,
        progressbar=False,
    )
