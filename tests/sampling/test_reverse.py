"""The reverse diffusion as a whole: exact parts give exact laws, the published algorithm is itself, diagnostics tell the truth."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.density import Density
from rdmc.diagnostics import mode_weight_tv
from rdmc.grid import LogSNRGrid
from rdmc.inner import Chains, FromSurrogate, GuidedChains, Importance, InnerSampler, Started
from rdmc.journal import Journal
from rdmc.kernels import HMC, MALA, ULA
from rdmc.level import Level
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.process import EDM, OU, VE, VP
from rdmc.rate import LinearRate
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Plan
from rdmc.schedule import Fitted, Fixed
from rdmc.score import MinimumVariance, ScoreEstimator, SteinControlVariate, TargetScore, Tweedie
from rdmc.start import LangevinStart, MatchedNormal
from rdmc.steps import Ancestral, Bridge, EulerMaruyama, Exponential, Heun, Multistep, Step
from tests.exact import meta
from tests.laws.cases import name_of
from tests.marks import crossed
from tests.stats import assert_moments, assert_within

F = torch.float64
PROCESSES = (OU(4.0), VP(LinearRate(0.1, 20.0, 1.0), 1.0), VE(LinearRate(1.0, 40.0, 1.0), 1.0), EDM(8.0))
STEPS: tuple[Step, ...] = (EulerMaruyama(), Exponential(), Ancestral(), Bridge(), Heun(), Multistep())


def gaussian() -> GaussianMixture:
    return GaussianMixture.from_covariance(
        torch.tensor([[1.5, -0.5]], dtype=F), torch.tensor([[[0.3, 0.1], [0.1, 0.6]]], dtype=F), torch.ones(1, dtype=F)
    )


def pair() -> GaussianMixture:
    """Two unequal modes, far apart, off the origin."""
    return GaussianMixture.isotropic(
        torch.tensor([[4.0, 1.0], [-6.0, 2.0]], dtype=F),
        torch.tensor([0.5, 0.8], dtype=F),
        torch.tensor([0.3, 0.7], dtype=F),
    )


def density_of(mixture: GaussianMixture) -> Density:
    return Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)


def draws_of(mixture: GaussianMixture, sampler: RDMC, n: int = 4000, seed: int = 1) -> Tensor:
    result = rdmc.sample(density_of(mixture), draws=n, chains=1, sampler=sampler, seed=seed, progressbar=False)
    return result.samples.flatten(0, 1)


EXACT = Importance(24, FromSurrogate())


@pytest.mark.parametrize(("step", "process"), crossed(STEPS, PROCESSES, Bridge, EDM))
def test_exact_posterior_draws_give_the_target(step: Step, process: object) -> None:
    """Every step and process, with the score from 24 exact draws. Allowance: the grid's error of a first-order step at K = 60."""
    mixture = gaussian()
    schedule = Fixed(process, LogSNRGrid(60, 1e-3))  # type: ignore[arg-type]
    sampler = RDMC(schedule, EXACT, step, Tweedie(), pilot=Known(mixture), finish="draw")
    x = draws_of(mixture, sampler)
    mean, covariance = mixture.moments()
    variance = torch.diagonal(covariance)
    # exact draws average 24 of them: a deterministic step adds no noise but the score's own, of relative size 1/24
    allowance = 0.0 if isinstance(step, Bridge) else 0.12
    assert_within(x.mean(0), mean, (variance / len(x)).sqrt(), allowance=0.3 * allowance, label="mean")
    assert_within(x.var(0) / variance, 1.0, (2.0 / len(x)) ** 0.5, allowance=allowance, label="variance ratio")


@pytest.mark.parametrize("levels", [2, 5])
def test_the_bridge_keeps_mode_weights_at_any_grid(levels: int) -> None:
    target = targets.four_modes(shift=(20.0, 20.0))
    mixture = GaussianMixture.from_covariance(target.means, target.factors @ target.factors.mT, target.weights)
    schedule = Fixed(EDM(80.0), LogSNRGrid(levels, 0.1))
    sampler = RDMC(schedule, Importance(1, FromSurrogate()), estimator=Tweedie(), pilot=Known(mixture))
    x = draws_of(mixture, sampler, n=8000)
    assert (
        float(mode_weight_tv(target.mode_of(x), target.mode_weights)) < 0.01 + 0.0075
    )  # the i.i.d. value at 8000 is .0075


def test_a_first_order_step_does_not() -> None:
    """The control: with the same exact draws and five levels the exponential step is far off."""
    target = targets.four_modes(shift=(20.0, 20.0))
    mixture = GaussianMixture.from_covariance(target.means, target.factors @ target.factors.mT, target.weights)
    sampler = RDMC(
        Fixed(EDM(80.0), LogSNRGrid(5, 0.1)),
        Importance(64, FromSurrogate()),
        Exponential(),
        Tweedie(),
        pilot=Known(mixture),
    )
    x = draws_of(mixture, sampler, n=4000)
    assert float(mode_weight_tv(target.mode_of(x), target.mode_weights)) > 0.05


def test_the_published_algorithm_is_right_on_a_gaussian() -> None:
    """Variance .3 in d = 2: the missing factor 2 would give more than .6, a wrong clock or sign anything else."""
    sampler = RDMC.published(horizon=0.8, levels=40, importance=32, chains=8, steps=16, step_size=0.05)
    result = rdmc.sample(
        lambda x: -0.5 * (x.square() / 0.3).sum(-1), dim=2, draws=1000, chains=1, sampler=sampler, progressbar=False
    )
    x = result.samples.flatten(0, 1)
    # ULA's own bias on q, 1/(1 - h/2 (1 + 1/.3)) of the variance, reaches the result through the mean only: allow .03
    assert_within(x.var(0), 0.3, 0.3 * (2.0 / len(x)) ** 0.5, allowance=0.03, label="variance")


def test_defaults_find_scales_and_places_by_themselves() -> None:
    """A thousand units from the origin, with coordinate scales from .01 to 100."""
    target = targets.disguise(targets.two_modes(6), seed=3)
    result = rdmc.sample(target, draws=500, chains=4, sampler="rdmc", seed=2, progressbar=False)
    x = result.samples.flatten(0, 1)
    assert_within(
        (target.mode_of(x) == 0).double().mean(), target.mode_weights[0], (2 / 9 / len(x)) ** 0.5, label="weight"
    )
    y = target.sample(200_000, torch.Generator().manual_seed(0))
    assert_within(x.mean(0), y.mean(0), y.std(0) / len(x) ** 0.5, label="mean")
    assert result.check() == []
    assert result.evaluations_per_draw < 120


def test_a_skewed_target() -> None:
    density = Density(lambda x: (x - x.exp()).sum(-1), 3)
    sampler = RDMC(
        inner=GuidedChains(rounds=8)
    )  # the law holds in the limit of many rounds; a tail of exp(x) takes some
    result = rdmc.sample(density, draws=1000, chains=4, sampler=sampler, progressbar=False)
    assert_moments(result.samples.flatten(0, 1), -0.5772156649015329, torch.pi**2 / 6)


@pytest.mark.parametrize("good", [True, False], ids=["guided", "local"])
def test_inner_rhat_tells_whether_chains_mix_between_modes(good: bool) -> None:
    """At noise levels where q is bimodal, local chains keep their mode: R-hat and check() must say so, and only then."""
    mixture = pair()
    inner: InnerSampler = GuidedChains() if good else Chains(MALA(), chains=4, burn_in=4, steps=4)
    sampler = RDMC(Fixed(EDM(40.0), LogSNRGrid(6, 2.0)), inner, pilot=Known(mixture))
    result = rdmc.sample(density_of(mixture), draws=400, chains=2, sampler=sampler, progressbar=False)
    told = [problem for problem in result.check() if "forgotten" in problem]
    assert bool(told) is not good, (result.inner["rhat"], result.inner["memory"])
    top = float(result.inner["rhat"][:, 1].mean())
    assert top < 1.4 if good else top > 2.0  # 32 witnesses: the noise of 1.0 is about .1


def test_a_budget_too_small_is_told() -> None:
    """Two ULA steps from one importance draw at every level: nothing has mixed."""
    target = targets.two_modes(8)
    sampler = RDMC.published(horizon=1.0, levels=8, importance=8, chains=4, steps=2, step_size=0.01)
    result = rdmc.sample(target, draws=200, chains=2, sampler=sampler, progressbar=False)
    assert any("inner budget is too small" in problem for problem in result.check())


INNER = (
    GuidedChains(rounds=2, steps=1, witnesses=2),
    Chains(ULA(), chains=2, burn_in=1, steps=2),
    Chains(MALA(), chains=2, burn_in=1, steps=2),
    Chains(HMC(leapfrogs=2), chains=2, burn_in=1, steps=2),
    Started(Importance(4), Chains(MALA(), chains=2, burn_in=1, steps=1), chains=2),
)


def outer_step(inner: InnerSampler, step: Step, estimator: ScoreEstimator) -> None:
    """Two levels and a start on `meta`."""
    target = targets.two_modes(3).to(device=meta.META)
    density = Density(target.log_density, 3, target.value_and_grad, device=meta.META)
    survey = meta.survey(3)
    sampler = RDMC(Fixed(EDM(3.0), LogSNRGrid(3, 0.5)), inner, step, estimator, pilot=None)
    detail = sampler.prepare(density, 0, Journal(density.counter)).detail
    plan = Plan(survey, detail)
    rng = Streams.seeded(0, [4, 3], [(0, 0), (0, 1)], device=meta.META)
    state = sampler.start(density, plan, rng, 7)
    for _ in range(2):
        state = sampler.advance(density, plan, state, rng)
    assert state.x_t.device.type == "meta" and state.x_t.shape == (7, 3)
    x_T = LangevinStart(1).draw(EDM(3.0), None, 3, lambda x, t: sampler.look(density, plan, x, t, rng, None)[0], rng)
    assert x_T.shape == MatchedNormal().draw(EDM(3.0), survey.surrogate, 3, lambda x, t: None, rng).shape  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("inner", "step"), crossed(INNER, STEPS, GuidedChains, Heun))
def test_a_whole_outer_step_never_waits_for_the_device(inner: InnerSampler, step: Step) -> None:
    """Inner chains, adaptation, estimate and step on `meta`: host reads, data-dependent shapes and mixed devices raise there."""
    outer_step(inner, step, SteinControlVariate())


@pytest.mark.parametrize("estimator", [Tweedie(), TargetScore(), MinimumVariance()], ids=name_of)
def test_no_estimate_waits_for_the_device(estimator: ScoreEstimator) -> None:
    outer_step(INNER[0], Bridge(), estimator)


@dataclasses.dataclass(frozen=True)
class Reads:
    """A step that reads a number back: what the test above must catch."""

    order = 1.0
    estimates = 1

    def __call__(self, process: object, denoise: object, x_t: Tensor, *_: object) -> tuple[Tensor, None]:
        return (x_t if float(x_t.sum()) > 0 else -x_t), None


def test_a_host_read_in_a_step_would_be_caught() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        outer_step(INNER[0], Reads(), Tweedie())  # type: ignore[arg-type]


def test_trace_has_one_row_a_level_and_adds_up() -> None:
    result = rdmc.sample(targets.two_modes(2), draws=60, chains=3, sampler="rdmc", progressbar=False)
    assert set(Level._fields) <= set(result.inner)
    assert len(result.trace) == result.inner["t"].shape[1]
    sigma = result.inner["sigma"][0]
    assert (sigma[:-1] > sigma[1:]).all()
    assert result.inner["evaluations"].sum() < result.gradient_evaluations  # the rest is the pilot's


@pytest.mark.parametrize(
    "make", [lambda: RDMC(finish="best"), lambda: Fitted(reach=0.0), lambda: LangevinStart(step_size=0.0)]
)
def test_bad_choices_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()  # type: ignore[operator]


def test_fitted_without_a_pilot_says_so() -> None:
    with pytest.raises(ValueError, match="needs a pilot"):
        rdmc.sample(targets.two_modes(2), draws=10, sampler=RDMC(pilot=None), progressbar=False)
