"""The terms of the error budget on two modes in one dimension, where everything is a quadrature."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

import rdmc
from rdmc.budget.step_law import law_of
from rdmc.density import Density
from rdmc.grid import LogSNRGrid
from rdmc.inner import Chains, Draws, GuidedChains, Warm
from rdmc.kernels import MALA
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.schedule import Fixed
from rdmc.steps import Ancestral, Bridge, Exponential, Step
from tests.exact.gaussian import Gaussian, push
from tests.laws.budget_cases import FACTOR, F, Off, close, divergence, run
from tests.laws.budget_pair import GRID, PAIR, WEIGHT, WIDTH, M, S, between, moved, noised, normal
from tests.marks import slow


@pytest.mark.parametrize("step", [Exponential(), Ancestral()], ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("levels", [6, *slow(15, 40)])
def test_coarse_grid_on_two_modes(step: Step, levels: int) -> None:
    result, process, times = run(PAIR, step, levels, 3.0)
    budget, p, paths = result.error_budget(), noised(process, times[0]), 0.0
    for t, s in pairwise(times):
        p = moved(p, step, process, t, s)
        q, law, bridge = (
            PAIR.condition(GRID[:, None], process.alpha(t), process.sigma(t)),
            law_of(step, process, t, s),
            None,
        )
        bridge = process.bridge(t, s)
        assert law is not None
        mean, p_t = (q.log_weight.exp() * q.mean[..., 0]).sum(-1), noised(process, t)
        variance = bridge.on_x_0**2 * q.variance[:, 0] + bridge.sd**2
        for i in range(0, len(GRID), 8):
            centre = bridge.on_x_0 * q.mean[i, :, 0] + bridge.on_x_t * GRID[i]
            kernel = (q.log_weight[i].exp() * normal(GRID[:, None], centre, variance)).sum(-1)
            own = normal(GRID, law.on_x_t * GRID[i] + law.on_mean * mean[i], law.sd**2)
            paths += 8 * WIDTH * float(p_t[i]) * between(kernel, own)
    true = noised(process, times[-1])
    close(budget.discretisation, paths, 1.5, "paths")
    close(budget.left[1], between(true, p), 2.0, "draws")
    assert 0.5 * float((p - true).abs().sum()) * WIDTH < budget.tv_bound


def test_shapes_are_not_counted_twice() -> None:
    """Three coordinates in which the modes are not apart: the view of the whole must leave them to the view within modes."""
    mean = torch.zeros(2, 4, dtype=F)
    mean[:, 0] = torch.tensor([-M, M], dtype=F)
    mixture = GaussianMixture.isotropic(mean, torch.tensor([S, S], dtype=F), PAIR.log_weight.exp())
    step = Exponential()
    result, process, times = run(mixture, step, 15, 3.0)
    p = noised(process, times[0])
    for t, s in pairwise(times):
        p = moved(p, step, process, t, s)
    alone = Gaussian(torch.zeros(1, dtype=F), torch.full((1, 1), S**2, dtype=F))
    across = divergence(alone.marginal(process, times[-1]), push(step, process, times, alone))
    along = between(noised(process, times[-1]), p)
    assert across > 0.6 * along, (across, along)
    close(result.error_budget().left[1], along + 3.0 * across, 1.4, "draws")


def test_bad_start_on_two_modes_is_one_of_weights() -> None:
    """From a start that is too far to one side the exact bridge ends with wrong weights: by quadrature over x_T."""
    start = Off(1.0, 0.3)
    result, process, times = run(PAIR, Bridge(), 8, 1.0, start=start)
    mean, covariance = PAIR.moments()
    alpha, sigma = process.alpha(times[0]), process.sigma(times[0])
    x_T = normal(GRID, alpha * float(mean) + start.shift, alpha**2 * float(covariance) + sigma**2)
    q = PAIR.condition(GRID[:, None], alpha, sigma)
    wrong = float((q.log_weight[:, 0].exp() * x_T).sum() * WIDTH)
    measured = WEIGHT * math.log(WEIGHT / wrong) + (1.0 - WEIGHT) * math.log((1.0 - WEIGHT) / (1.0 - wrong))
    budget = result.error_budget()
    print("weights", WEIGHT, wrong)
    close(budget.left[0], measured, FACTOR, "weights")
    assert budget.largest == "start" and abs(wrong - WEIGHT) < budget.tv_bound


@pytest.mark.parametrize("mixing", [True, False])
def test_forgetful_draws_bound_the_weights(mixing: bool) -> None:
    """The bridge with chains from a surrogate of wrong weights: the bound holds whether or not they forget it."""
    wrong = GaussianMixture(torch.tensor([0.2, 0.8], dtype=F).log(), PAIR.mean, PAIR.basis, PAIR.variance)
    inner = GuidedChains(rounds=6, witnesses=256) if mixing else Cold(wrong)
    sampler = RDMC(Fixed(EDM(20.0), LogSNRGrid(6, 0.5)), inner, pilot=Known(wrong))
    density = Density(PAIR.log_prob, 1, PAIR.value_and_grad)
    result = rdmc.sample(density, draws=2000, chains=2, sampler=sampler, progressbar=False)
    share = float((result.samples < 0).double().mean())
    measured = WEIGHT * math.log(WEIGHT / share) + (1.0 - WEIGHT) * math.log((1.0 - WEIGHT) / (1.0 - share))
    budget = result.error_budget()
    print(f"weight {share:.3f} for {WEIGHT}, {measured:.3g} nats, bound {budget.score:.3g}")
    assert measured <= budget.score + 0.002  # of 4000 draws
    assert budget.score < 0.1 if mixing else measured > 0.1
    assert budget.trusted is mixing and ("what they missed" in budget.sentence) is not mixing


@dataclass(frozen=True)
class Cold:
    """Local chains that begin at draws of a mixture and hardly move between its modes."""

    mixture: GaussianMixture

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        begin = start or Warm(self.mixture.condition(q.x_t, q.alpha, q.sigma).draw(rng, (4,))[0])
        drawn = Chains(MALA(0.02), chains=4, burn_in=2, steps=4).draw(q, rng, begin)
        return dataclasses.replace(drawn, continued=start is not None)
