"""What steps leave in the draws, measured by these: coarse steps, steps without noise, and runs without a survey."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.budget.direct import First, Measured, measure
from rdmc.budget.step_law import law_of
from rdmc.capture import Modes
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.grid import LinearGrid
from rdmc.locate.survey import Survey
from rdmc.process import OU
from rdmc.reverse import RDMC
from rdmc.schedule import Fixed
from rdmc.steps import Ancestral, EulerMaruyama, Exponential, Heun, Multistep, Step
from tests.exact.gaussian import Gaussian, push
from tests.laws.budget_cases import FACTOR, F, Noisy, close, divergence, mixture_of, noisy_flow, run, target_of
from tests.laws.budget_pair import PAIR, WEIGHT, M, left_by

STEPS: tuple[Step, ...] = (EulerMaruyama(), Exponential(), Ancestral(), Heun(), Multistep())
FLOWS: tuple[Step, ...] = (Heun(), Multistep())


def name(step: object) -> str:
    return type(step).__name__


@pytest.mark.parametrize("levels", [4, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pilot", [True, False])
@pytest.mark.parametrize("step", STEPS, ids=name)
def test_coarse_steps_on_two_modes(step: Step, pilot: bool, levels: int) -> None:
    """Four levels are no small error, and without a pilot the modes are those of the first level's draws."""
    result, process, times = run(PAIR, step, levels, 3.0, pilot=pilot)
    budget = result.error_budget()
    close(budget.left[1], left_by(step, process, times), FACTOR, "draws")
    assert budget.largest == "discretisation" and math.isnan(budget.hidden)
    assert budget.left[2] < 0.1 * budget.left[1]


@pytest.mark.parametrize(
    "levels", [12, pytest.param(24, marks=pytest.mark.slow), pytest.param(48, marks=pytest.mark.slow)]
)
def test_fine_steps_on_two_modes_without_a_pilot(levels: int) -> None:
    result, process, times = run(PAIR, Exponential(), levels, 3.0, pilot=False)
    close(result.error_budget().left[1], left_by(Exponential(), process, times), FACTOR, "draws")


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("step", FLOWS, ids=name)
def test_a_flow_on_a_gaussian(step: Step, d: int) -> None:
    """Its own error and the start's apart: a flow is one to one, and so keeps the divergence that the start had."""
    target = target_of(d)
    mixture = mixture_of(target)
    exact = Noisy(mixture, 0.0)
    for pilot in (True, False):
        result, process, times = run(mixture, step, 4, 2.0, exact, pilot=pilot)
        budget = result.error_budget()
        p_T, p_end = target.marginal(process, times[0]), target.marginal(process, times[-1])
        close(budget.left[1], divergence(p_end, push(step, process, times, target)), 1.5, "draws")
        if not pilot:
            normal = Gaussian(torch.zeros(d, dtype=F), torch.eye(d, dtype=F))
            close(budget.left[0], divergence(p_T, normal), 1.5, "start")
        assert math.isnan(budget.discretisation) and math.isnan(budget.total) and math.isnan(budget.tv_bound)
        assert any("adds no noise" in note for note in budget.notes)


@pytest.mark.parametrize("levels", [4, 8])
@pytest.mark.parametrize("step", FLOWS, ids=name)
def test_a_flow_with_a_noisy_score(step: Step, levels: int) -> None:
    target, sd = target_of(2), 0.5
    mixture = mixture_of(target)
    result, process, times = run(mixture, step, levels, 2.0, Noisy(mixture, sd))
    p_end = target.marginal(process, times[-1])
    wide = Gaussian(p_end.mean, p_end.cov + noisy_flow(step, process, times, target, sd))
    budget = result.error_budget()
    close(budget.left[2], divergence(p_end, wide), FACTOR, "draws")
    assert budget.largest == "score"


@pytest.mark.parametrize(
    ("levels", "horizon", "sd", "worst"),
    [(12, 0.7, 0.02, "start"), (4, 2.0, 0.02, "discretisation"), (16, 2.0, 1.5, "score")],
)
@pytest.mark.parametrize("step", FLOWS, ids=name)
def test_ranking_of_a_flow(step: Step, levels: int, horizon: float, sd: float, worst: str) -> None:
    target = target_of(2)
    mixture = mixture_of(target)
    if step == Multistep() and worst == "discretisation":  # its own is smaller: the start must be nearer
        horizon, levels = 3.0, 4
    result, process, times = run(mixture, step, levels, horizon, Noisy(mixture, sd), pilot=False)
    p_T, p_end = target.marginal(process, times[0]), target.marginal(process, times[-1])
    wide = Gaussian(p_end.mean, p_end.cov + noisy_flow(step, process, times, target, sd))
    measured = {
        "start": divergence(p_T, Gaussian(torch.zeros(2, dtype=F), torch.eye(2, dtype=F))),
        "discretisation": divergence(p_end, push(step, process, times, target)),
        "score": divergence(p_end, wide),
    }
    budget = result.error_budget()
    print(measured, budget.by_term, budget.hidden, budget.sentence)
    assert max(measured, key=lambda term: measured[term]) == worst == budget.largest
    close(budget.by_term[worst], measured[worst], FACTOR, worst)


@dataclass(frozen=True)
class Flow:
    """The probability flow as an exponential step, with a share of the score that should be a half."""

    share: float
    order: ClassVar[float] = 1
    estimates: ClassVar[int] = 1

    def __call__(self, process: Any, denoise: Any, x_t: Tensor, t: float, s: float, noise: Tensor, memory: Any) -> Any:
        r, _ = process.transition(t, s)
        return x_t / r + self.share * process.score_gain(t, s) * denoise(x_t, t).score, None


def test_a_flow_with_a_wrong_factor_is_an_error_that_no_grid_removes() -> None:
    """The planted bug: the right flow's error falls with more levels, the wrong one's does not."""
    target = target_of(2)
    mixture = mixture_of(target)
    found: dict[float, list[float]] = {0.5: [], 0.45: []}
    for share, lefts in found.items():
        for levels in (8, 16):
            step = Flow(share)
            result, process, times = run(mixture, step, levels, 2.0, Noisy(mixture, 0.0))
            lefts.append(result.error_budget().left[1])
            exact = divergence(target.marginal(process, times[-1]), push(step, process, times, target))
            close(lefts[-1], exact, 2.0, f"{share} of the score")
    assert found[0.5][1] < 0.5 * found[0.5][0]
    assert found[0.45][1] > 10 * found[0.5][1] and found[0.45][1] > 0.5 * found[0.45][0], found


def test_what_the_draws_cannot_show_has_a_bound_and_no_rank() -> None:
    result, process, times = run(PAIR, Heun(), 16, 3.0)
    measured, budget = left_by(Heun(), process, times), result.error_budget()
    print(f"measured {measured:.3g}, hidden below {budget.hidden:.3g}")
    assert math.isnan(budget.left[1]) and measured < budget.hidden < 0.02
    assert budget.largest is None and "too little for these draws" in budget.sentence
    assert f"less than {budget.hidden:.1g}" in budget.to_markdown()


def test_few_draws_tell_nothing_of_a_flow() -> None:
    budget = run(PAIR, Heun(), 6, 3.0, draws=40)[0].error_budget()
    assert math.isnan(budget.left[1]) and math.isnan(budget.hidden) and "Not known: discretisation" in budget.sentence


def draws_of(mean: float, sd: float, weight: float, shape: tuple[int, ...], seed: int) -> Tensor:
    """From two modes at -2 and 2, the first one moved by ``mean`` and as wide as ``sd``."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(*shape, generator=generator, dtype=F) < weight
    z = torch.randn(*shape, generator=generator, dtype=F)
    return torch.where(first, -M + mean + sd * z, M + 0.4 * z)[..., None]


@pytest.mark.parametrize(("mean", "sd", "weight"), [(0.0, 0.4, WEIGHT), (0.1, 0.5, 0.6)])
def test_a_measured_divergence_is_without_bias(mean: float, sd: float, weight: float) -> None:
    """Independent draws of two known laws: over repeats the average is the divergence, and errors are as large as is said."""
    mixture = rdmc.GaussianMixture.isotropic(
        torch.tensor([[-M], [M]], dtype=F),
        torch.tensor([0.4, 0.4], dtype=F),
        torch.tensor([WEIGHT, 1.0 - WEIGHT], dtype=F),
    )
    modes = Modes.of(Survey(Affine.identity(1), mixture, torch.zeros(2), torch.zeros(2, dtype=torch.int64), math.nan))
    exact = (
        WEIGHT * math.log(WEIGHT / weight)
        + (1.0 - WEIGHT) * math.log((1.0 - WEIGHT) / (1.0 - weight))
        + WEIGHT * 0.5 * ((0.4 / sd) ** 2 - 1.0 - 2.0 * math.log(0.4 / sd) + (mean / sd) ** 2)
    )
    found: list[Measured] = []
    for seed in range(20):
        first = First(draws_of(0.0, 0.4, WEIGHT, (8, 1000), 2 * seed), torch.zeros(1000, 1, dtype=F))
        one = measure(first, draws_of(mean, sd, weight, (1000,), 2 * seed + 1), None, modes, torch.zeros(1, 1, dtype=F))
        assert one is not None
        found.append(one)
    values, errors = (torch.tensor([getattr(one, field) for one in found], dtype=F) for field in ("nats", "se"))
    spread = float(values.std()) / math.sqrt(len(values))
    print(f"mean {float(values.mean()):.5f}, truth {exact:.5f}, error {spread:.5f}; said {float(errors.mean()):.5f}")
    allowed = 0.1 * exact  # cells are wider than points
    assert abs(float(values.mean()) - exact) < 5.0 * spread + allowed
    assert 0.5 < float(errors.mean()) / float(values.std()) < 2.0


def test_the_law_of_a_flow_is_read_off() -> None:
    process, times = Fixed(OU(2.0), LinearGrid(8, 0.02)).plan(None)
    t, s = times[3:5]
    heun, multistep, noisy = (law_of(step, process, t, s) for step in (Heun(), Multistep(), Exponential()))
    assert heun.flows and not heun.whole and not heun.compares
    assert multistep.flows and not multistep.whole and noisy.compares and noisy.on_noise == noisy.on_mean
    # a point that stays where it is, as mean and as x_t / alpha, must stay there
    for law in (heun, multistep, noisy):
        assert abs(law.on_x_t * process.alpha(t) + law.on_mean - process.alpha(s)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("levels", [4, 8])
def test_the_published_algorithm_on_two_modes(levels: int) -> None:
    sampler = RDMC.published(levels=levels, importance=64, chains=8, steps=64, start_steps=32)
    process, times = Fixed(OU(1.0), LinearGrid(levels, 0.005)).plan(None)
    density = Density(PAIR.log_prob, 1, PAIR.value_and_grad)
    budget = rdmc.sample(density, draws=1000, chains=2, sampler=sampler, progressbar=False).error_budget()
    close(budget.left[1], left_by(Exponential(), process, times), FACTOR, "draws")
    assert budget.largest == "discretisation"


def test_a_result_of_an_older_version_has_its_budget() -> None:
    result = run(mixture_of(target_of(1)), Exponential(), 6, draws=200)[0]
    inner = {name: values for name, values in result.inner.items() if not name.startswith("direct")}
    old = dataclasses.replace(result, inner=inner).error_budget()
    assert old.left[1] > 0.0 and old.discretisation == result.error_budget().discretisation
