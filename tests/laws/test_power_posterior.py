"""Guided paths weighted to the product of powers: its constant without bias, its moments, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.errors import ImproperDensityError
from rdmc.grid import LogSNRGrid
from rdmc.guidance import Guidance, Interval, PowerPosterior
from rdmc.guidance.power import log_power
from rdmc.inner import FromSurrogate, Importance
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.schedule import Fixed
from rdmc.start import LangevinStart
from tests.exact.guided import GuidedPair, Moments
from tests.marks import slow
from tests.stats import assert_within

F = torch.float64
POSTERIOR, PRIOR = Moments(1.5, 0.36), Moments(0.0, 1.0)


def gaussian(law: Moments, factor: float = 1.0, shift: float = 0.0) -> GaussianMixture:
    """In two dimensions; a surrogate may be wider or moved."""
    mean = torch.tensor([[law.mean + shift, shift]], dtype=F)
    return GaussianMixture.isotropic(mean, torch.tensor([factor * law.variance**0.5], dtype=F), torch.ones(1, dtype=F))


def density_of(mixture: GaussianMixture) -> Density:
    return Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)


def sampler(g: float, threshold: float = 0.5, factor: float = 1.0, shift: float = 0.0) -> PowerPosterior:
    """Few levels, few inner draws, surrogates that may be off."""
    reverse = RDMC(
        Fixed(EDM(6.0), LogSNRGrid(7, 0.3)),
        Importance(6, FromSurrogate(), gradients=True),
        pilot=Known(gaussian(POSTERIOR, factor, shift)),
        coordinates=rdmc.Affine(torch.zeros(2, dtype=F), 0.8 * torch.eye(2, dtype=F)),
    )
    return PowerPosterior(
        Guidance(density_of(gaussian(PRIOR)), g, reverse, Known(gaussian(PRIOR, factor, -shift))), threshold
    )


def run(own: PowerPosterior, draws: int, chains: int, seed: int = 3) -> rdmc.Result:
    density = density_of(gaussian(POSTERIOR))
    return rdmc.sample(density, draws=draws, chains=chains, sampler=own, seed=seed, progressbar=False)


def truth(g: float) -> tuple[float, Moments]:
    """Log of the integral in two dimensions, and the moments of the first coordinate."""
    first = GuidedPair(POSTERIOR, PRIOR, g)
    second = GuidedPair(Moments(0.0, POSTERIOR.variance), PRIOR, g)
    return first.log_z + second.log_z, first.product


@pytest.mark.parametrize(
    ("g", "factor", "threshold", "runs"),
    [
        (0.5, 1.3, 0.9, 30),
        pytest.param(0.5, 1.3, 0.9, 200, marks=pytest.mark.slow),
        pytest.param(-0.6, 0.9, 0.0, 200, marks=pytest.mark.slow),
        pytest.param(-1.1, 1.1, 0.5, 200, marks=pytest.mark.slow),
    ],
)
def test_the_constant_is_unbiased_over_cheap_runs(g: float, factor: float, threshold: float, runs: int) -> None:
    """Six inner draws, seven levels and surrogates that are off: none of it biases the estimate, nor does resampling."""
    result = run(sampler(g, threshold, factor, 0.1 * (factor != 1.0)), draws=40, chains=runs)
    log_z, _ = truth(g)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    ratio = math.exp(result.log_evidence - log_z)
    print(
        f"g = {g}: estimate / truth {ratio:.4f} +- {result.log_evidence_mcse:.4f}, {result.inner['path_ess'].mean(0).round(2)}"
    )
    assert result.log_evidence_mcse < 0.05
    assert abs(ratio - 1.0) < 3.0 * result.log_evidence_mcse


@pytest.mark.parametrize("g", [0.7, *slow(-0.5, 0.0)])
def test_draws_have_the_moments_of_the_product(g: float) -> None:
    result = run(sampler(g), draws=1000, chains=12)
    _, product = truth(g)
    x = result.samples[..., 0]
    mean, square = x.mean(1), (x - product.mean).square().mean(1)
    # consistent as the draws of a population grow: self-normalised weights of 1000 draws are off by a part in 1000
    assert_within(mean.mean(), product.mean, mean.std() / 12**0.5, allowance=0.002, label="mean")
    assert_within(square.mean(), product.variance, square.std() / 12**0.5, allowance=0.002, label="variance")
    if g == 0.7:  # not what guidance alone gives
        pair = GuidedPair(POSTERIOR, PRIOR, g)
        alone = pair.continuous(pair.start(EDM(6.0), 6.0), 6.0, 1e-3)
        assert abs(float(mean.mean()) - alone.mean) > 0.05


@pytest.mark.slow
def test_from_two_callables_alone() -> None:
    """Modes and all."""
    prior = GaussianMixture.isotropic(
        torch.tensor([[-4.0, 0.0], [4.0, 1.0]], dtype=F),
        torch.tensor([0.9, 0.7], dtype=F),
        torch.tensor([0.5, 0.5], dtype=F),
    )

    def posterior(x: Tensor) -> Tensor:
        return prior.log_prob(x) - 0.5 * (x[..., 0] - 1.0).square() / 9.0

    own = PowerPosterior(Guidance(prior.log_prob, 0.5))
    first = rdmc.sample(posterior, 2, draws=300, sampler=own, seed=2, progressbar=False)
    axis = torch.linspace(-12.0, 12.0, 601, dtype=F)
    grid = torch.cartesian_prod(axis, axis)
    value = 1.5 * posterior(grid) - 0.5 * prior.log_prob(grid)
    log_z = float(value.logsumexp(0)) + 2.0 * math.log(float(axis[1] - axis[0]))
    right = float(torch.softmax(value, 0)[grid[:, 0] > 0.0].sum())
    assert first.log_evidence is not None and first.log_evidence_mcse is not None
    assert_within(first.log_evidence, log_z, first.log_evidence_mcse, label="log evidence")
    share = (first.samples[..., 0] > 0.0).to(F).mean(1)
    assert_within(share.mean(), right, max(float(share.std()) / 2.0, 0.01), label="weight of the right mode")


def test_powers_where_a_density_is_zero() -> None:
    def half(x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0.0, -x.square().sum(-1), -torch.inf)

    def whole(x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)

    x = torch.tensor([[1.0], [-1.0]], dtype=F)
    inside, outside = log_power(1.0, Density(half, 1), Density(whole, 1), x).tolist()
    assert inside == -1.5 and outside == -math.inf
    both = log_power(1.0, Density(half, 1), Density(half, 1), x).tolist()
    assert both == [-1.0, -math.inf]
    counted = Density(whole, 1)
    assert (
        log_power(-1.0, counted, Density(half, 1), x).tolist() == [-1.0, -math.inf] and counted.counter.densities == 0
    )


def test_what_has_no_finite_mass_is_refused() -> None:
    own = dataclasses.replace(sampler(0.5), guidance=dataclasses.replace(sampler(0.5).guidance, strength=-3.0))
    with pytest.raises(ImproperDensityError, match="g = -3"):
        run(own, draws=20, chains=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.5}, "`threshold` must be a number in"),
        ({"threshold": math.nan}, "`threshold` must be a number in"),
        ({"guidance": RDMC()}, "`guidance` must be a Guidance object"),
        ({"guidance": Guidance(lambda x: x, Interval(1.0))}, "must have a number as `strength`"),
        ({"guidance": Guidance(lambda x: x, 1.0, RDMC(pilot=None))}, "must have a pilot"),
        ({"guidance": Guidance(lambda x: x, 1.0, RDMC(start_at=LangevinStart()))}, "must have a pilot and"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sampler(0.5), **change)
