"""Runs with guidance: bits, counts, workers, checkpoints, devices, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rdmc
import rdmc.journal
from rdmc.density import Density
from rdmc.errors import CheckpointError, DensityError, NonFiniteDensityError
from rdmc.grid import LogSNRGrid
from rdmc.guidance import Guidance, Interval, PowerPosterior
from rdmc.guidance.places import Setting
from rdmc.inner import Chains, FromSurrogate, GuidedChains, Importance
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Plan
from rdmc.schedule import Fixed
from rdmc.steps import Bridge, Exponential, Heun
from tests.exact import meta
from tests.exact.guided import FEW_LEVELS, SHORT, Moments, density_of, isotropic, two_and_three
from tests.marks import slow

F = torch.float64
POSTERIOR, PRIOR = Moments(1.5, 0.36), Moments(0.0, 1.0)


def gaussian(law: Moments) -> GaussianMixture:
    return isotropic(([law.mean, 0.0], law.variance**0.5, 1.0))


def test_same_seed_same_bits_and_all_evaluations_are_counted() -> None:
    prior, posterior = two_and_three()
    calls = {"gradients": 0, "densities": 0}

    def watched(mixture: GaussianMixture) -> Density:
        def value(x: Tensor) -> Tensor:
            calls["densities"] += len(x)
            return mixture.log_prob(x)

        def both(x: Tensor) -> tuple[Tensor, Tensor]:
            calls["gradients"] += len(x)
            return mixture.value_and_grad(x)

        return Density(value, 2, both)

    def run(seed: int) -> rdmc.Result:
        sampler = Guidance(watched(prior), 1.0, FEW_LEVELS)
        return rdmc.sample(
            watched(posterior), draws=30, chains=2, sampler=sampler, seed=seed, progressbar=False, compile=False
        )

    first = run(1)
    assert first.gradient_evaluations == calls["gradients"], calls
    # the check of a closed form asks autograd for a gradient of the value, which counts as a gradient
    assert abs(first.density_evaluations - calls["densities"]) <= 12, (first.density_evaluations, calls)
    assert torch.equal(first.samples, run(1).samples)
    assert not torch.equal(first.samples, run(2).samples)
    before = torch.random.get_rng_state()
    run(1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_executor_gives_the_same_bits() -> None:
    prior, posterior = two_and_three()
    sampler = Guidance(density_of(prior), 0.7, FEW_LEVELS)
    options: dict[str, Any] = {"draws": 20, "chains": 2, "sampler": sampler, "progressbar": False}
    alone = rdmc.sample(density_of(posterior), **options)
    with ThreadPoolExecutor(1) as pool:
        spread = rdmc.sample(density_of(posterior), executor=pool, **options)
    assert torch.equal(alone.samples, spread.samples)
    assert alone.gradient_evaluations == spread.gradient_evaluations


class _Killed(BaseException):
    """Ends a run as a signal would."""


@pytest.mark.parametrize("kind", ["power", *slow("guidance")])
def test_a_run_that_was_cut_off_goes_on_and_another_prior_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdmc.journal, "INTERVAL", 0.0)
    prior, posterior = two_and_three()

    def run(
        last: int | None = None, shift: float = 0.0, strength: Any = 1.0, **options: Any
    ) -> tuple[rdmc.Result, int]:
        calls = 0

        def prior_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            if last is not None and calls > last:
                raise _Killed
            return prior.value_and_grad(x + shift)

        own = Density(lambda x: prior.log_prob(x + shift), 2, prior_gradient)
        guidance = Guidance(own, strength, FEW_LEVELS)
        sampler = guidance if kind == "guidance" else PowerPosterior(guidance)
        run_options = {"draws": 40, "chains": 2, "sampler": sampler, "progressbar": False, "compile": False} | options
        return rdmc.sample(density_of(posterior), **run_options), calls

    whole, calls = run()
    path = tmp_path / "run"
    for share in (0.3, 0.4):
        with pytest.raises(_Killed):
            run(round(share * calls), checkpoint=path)
    with pytest.raises(CheckpointError, match="`prior` or `strength`"):
        run(shift=0.1, checkpoint=path)
    again, rest = run(checkpoint=path)
    assert torch.equal(again.samples, whole.samples) and rest < calls
    assert again.gradient_evaluations == whole.gradient_evaluations
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run(strength=2.0, checkpoint=path)


def test_the_repr_has_no_address() -> None:
    prior, _ = two_and_three()
    for strength in (1.0, Interval(2.0, 0.1, 3.0), lambda noise: noise / (1.0 + noise)):
        for given in (prior.log_prob, density_of(prior), lambda x: prior.log_prob(x)):
            text = repr(Guidance(given, strength))
            assert not re.search(r"0x[0-9a-f]{6}", text), text
    assert repr(Guidance(prior.log_prob, 1.0)) != repr(Guidance(prior.log_prob, 2.0))


@pytest.mark.parametrize(
    "inner",
    [
        GuidedChains(2, 1, witnesses=2),
        Importance(8, FromSurrogate(), gradients=True),
        Chains(chains=2, burn_in=1, steps=2),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("g", [-0.4, *slow(0.0, 1.5)])
def test_a_whole_level_never_waits_for_the_device(inner: Any, g: float) -> None:
    survey = meta.survey(3)
    mixture = survey.surrogate
    density = Density(mixture.log_prob, 3, mixture.value_and_grad, device=meta.META)
    for step in (Bridge(), Exponential(), Heun()):
        reverse = RDMC(Fixed(EDM(3.0), LogSNRGrid(3, 0.5)), inner, step, pilot=None)
        sampler = Guidance(density, g, reverse)
        process, times = reverse.schedule.plan(None)
        setting = Setting(survey.affine, process, times, density, survey, survey, mixture)
        plan = Plan(survey, setting)
        rng = Streams.seeded(0, [4, 3], [(0, 0), (0, 1)], device=meta.META)
        state = sampler.start(density, plan, rng, 7)
        for _ in range(3):
            state = sampler.advance(density, plan, state, rng)
        assert state.x_0.device.type == "meta" and state.x_0.shape == (7, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": 3.0}, "`prior` must be a batched function"),
        ({"prior": Density}, "`prior` must be a batched function.*the class Density"),
        ({"strength": math.nan}, "`strength` must be a finite number"),
        ({"strength": math.inf}, "`strength` must be a finite number"),
        ({"strength": "1"}, "`strength` must be a finite number"),
        ({"strength": True}, "`strength` must be a finite number"),
        ({"reverse": Bridge()}, "`reverse` must be an RDMC object"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(**({"prior": gaussian(PRIOR).log_prob} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((math.nan,), "`strength`"), ((1.0, 2.0, 1.0), "`above` and `below`"), ((1.0, -1.0), "`above` and `below`")],
)
def test_bad_intervals_are_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval(*arguments)


def test_bad_priors_are_refused_when_they_are_asked() -> None:
    posterior = density_of(gaussian(POSTERIOR))
    options: dict[str, Any] = {"draws": 20, "chains": 1, "progressbar": False}
    with pytest.raises(ValueError, match="`prior` must have the dimension of the density: wanted 2, got 3"):
        rdmc.sample(posterior, sampler=Guidance(Density(lambda x: -x.square().sum(-1), 3)), **options)
    with pytest.raises(DensityError, match=r"of `prior`.*wanted"):
        rdmc.sample(posterior, sampler=Guidance(lambda x: -x.square()), **options)
    with pytest.raises(ValueError, match="finite number at every noise level"):
        rdmc.sample(posterior, sampler=Guidance(gaussian(PRIOR).log_prob, lambda noise: math.nan), **options)

    def sometimes(x: Tensor) -> Tensor:
        value = gaussian(PRIOR).log_prob(x)
        return torch.where(x[..., 0] > 0.2, torch.nan, value)

    sampler = dataclasses.replace(Guidance(sometimes), prior_pilot=Known(gaussian(PRIOR)))
    with pytest.raises(NonFiniteDensityError, match="`prior` gave NaN"):
        rdmc.sample(posterior, sampler=sampler, **options)


def test_the_posterior_is_reached_with_its_weights_at_every_level_and_a_guided_law_is_not() -> None:
    """At g = 0 the path is the diffusion's own; at g = 2 its frequencies move from level to level."""
    prior, posterior = two_and_three()
    weight = posterior.log_weight.exp()
    for g, kept in ((0.0, True), (2.0, False)):
        result = rdmc.sample(
            density_of(posterior), draws=500, sampler=Guidance(density_of(prior), g, SHORT), seed=3, progressbar=False
        )
        capture = result.capture()
        order = [
            int((posterior.mean - torch.tensor(place)).norm(dim=1).argmin()) for place in capture.places["location"]
        ]
        shares = torch.tensor([capture.table[f"mode {k}"] for k in range(len(order))], dtype=F)
        truth = weight[order]
        off = ((shares - truth[:, None]).abs() / (truth * (1.0 - truth) / 2000).sqrt()[:, None]).max()
        assert bool(off < 5.0) is kept, f"g = {g}: frequencies are up to {off:.1f} standard errors off the posterior's"
