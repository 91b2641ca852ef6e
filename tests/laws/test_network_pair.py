"""A network guided by a second one: closed forms for two Gaussians, the ends of the strength, and coordinates that both share."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

import rdmc
from rdmc.coordinates import Affine
from rdmc.guidance import Interval
from rdmc.network import NetworkGuide, ScoreNetwork, Training
from rdmc.network.flow import push
from rdmc.network.module import DenoisingNetwork
from rdmc.process import EDM
from tests.laws.test_network import SMALL, F, gaussian
from tests.marks import slow
from tests.stats import assert_moments, assert_within

MEAN = torch.tensor([1.5, -0.4], dtype=F)
VARIANCE = torch.tensor([0.36, 0.8], dtype=F)
HIGH = 8.0


class Normal(nn.Module):
    """The exact denoiser of N(mean, diag(variance))."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, z: Tensor, sigma: Tensor) -> Tensor:
        return self.mean + self.variance / (self.variance + sigma[:, None] ** 2) * (z - self.mean)


def prior() -> ScoreNetwork:
    """N(0, I) in whitened coordinates, exactly."""
    return gaussian(2, sigma_max=HIGH)


def posterior() -> ScoreNetwork:
    """Another normal law in the same coordinates."""
    module = cast("DenoisingNetwork", Normal(MEAN, VARIANCE))
    return dataclasses.replace(prior(), module=module, spread=Affine(MEAN, VARIANCE.sqrt().diag()))


def reference(g: float, low: float, flow: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance of the guided process at noise ``low``: linear equations for both, by Runge-Kutta in log sigma.

    The probability flow has dm = sigma (P m - h) dsigma and dV = 2 sigma P V dsigma; the reverse equation twice these less 2 sigma.
    """
    times, twice = torch.linspace(math.log(HIGH), math.log(low), 2001, dtype=F), 1.0 if flow else 2.0

    def slope(u: float, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        square = math.exp(2.0 * u)
        p = (1.0 + g) / (VARIANCE + square) - g / (1.0 + square)
        h = (1.0 + g) * MEAN / (VARIANCE + square)
        return twice * square * (p * m - h), twice * 2.0 * square * p * v - (0.0 if flow else 2.0 * square)

    gain = VARIANCE / (VARIANCE + HIGH**2)
    m = (1.0 + g) * MEAN - g * MEAN / (1.0 + HIGH**2)  # the guided denoiser at the mean
    assert bool((gain < 1.0).all())
    v = VARIANCE + HIGH**2
    step = float(times[1] - times[0])
    for u in times[:-1].tolist():
        a, va = slope(u, m, v)
        b, vb = slope(u + step / 2, m + step / 2 * a, v + step / 2 * va)
        c, vc = slope(u + step / 2, m + step / 2 * b, v + step / 2 * vb)
        e, ve = slope(u + step, m + step * c, v + step * vc)
        m, v = m + step / 6 * (a + 2 * b + 2 * c + e), v + step / 6 * (va + 2 * vb + 2 * vc + ve)
    return m, v


@pytest.mark.parametrize("g", [-0.5, 1.0, *slow(-1.0, 0.0, 3.0)])
def test_flow_of_a_gaussian_pair_is_the_closed_form(g: float) -> None:
    """The flow is an affine map here, so two points a coordinate tell its law without Monte Carlo."""
    known = posterior()
    at, start = known.begin(NetworkGuide(prior(), g))
    unit = torch.cat([torch.zeros(1, 2, dtype=F), torch.eye(2, dtype=F)])
    found = push(at, known.process, known.times(300), start.affine.to_user(unit), start.log_prob).z
    mean, variance = reference(g, known.sigma_min, flow=True)
    power = ((VARIANCE + known.sigma_min**2) / (VARIANCE + HIGH**2)) ** (1 + g) * (
        (1 + HIGH**2) / (1 + known.sigma_min**2)
    ) ** g
    torch.testing.assert_close(
        variance, (VARIANCE + HIGH**2) * power, rtol=1e-6, atol=0
    )  # the reference's own closed form
    torch.testing.assert_close(found[0], mean, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close((found[1:] - found[0]).diagonal() ** 2, variance, rtol=5e-3, atol=0)


def test_reverse_equation_of_a_gaussian_pair_is_another_law() -> None:
    known, n = posterior(), 6000
    x = known.sample(n, seed=1, steps=150, method="exponential", guide=NetworkGuide(prior(), 1.0))
    mean, variance = reference(1.0, known.sigma_min, flow=False)
    other = reference(1.0, known.sigma_min, flow=True)
    assert float((mean - other[0])[0].abs()) > 0.1 and float((variance / other[1])[0]) > 1.2
    z = (known.affine.to_white(x) - mean) / variance.sqrt()
    assert_moments(z, 0.0, 1.0, allowance=(0.02, 0.05), label="guided")  # of first order in the step


def test_ends_of_the_strength_are_the_two_networks() -> None:
    known, other = posterior(), prior()
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F)
    for sigma in (0.02, 1.0, 7.0):
        assert torch.equal(NetworkGuide(other, 0.0).wrapped(known)(z, sigma), known.at(z, sigma))
        assert torch.equal(NetworkGuide(other, -1.0).wrapped(known)(z, sigma), other.at(z, sigma))
    inside = NetworkGuide(other, Interval(2.0, above=0.5, below=3.0)).wrapped(known)
    assert torch.equal(inside(z, 4.0), known.at(z, 4.0)) and torch.equal(inside(z, 0.5), known.at(z, 0.5))
    torch.testing.assert_close(inside(z, 1.0), 3 * known.at(z, 1.0) - 2 * other.at(z, 1.0))
    assert torch.equal(known.sample(9, seed=2, guide=NetworkGuide(other, 0.0)), known.sample(9, seed=2))


def test_weights_lead_to_the_product_of_powers() -> None:
    known, other, g, n = posterior(), prior(), 0.7, 4000

    def product(x: Tensor) -> Tensor:
        z = known.affine.to_white(x)
        first = -0.5 * ((z - MEAN).square() / VARIANCE + (2 * math.pi * VARIANCE).log()).sum(-1)
        return (1 + g) * first + g * 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - known.affine.log_det()

    precision, pull = (1 + g) / VARIANCE - g, (1 + g) * MEAN / VARIANCE
    height = (1 + g) * (MEAN**2 / VARIANCE + (2 * math.pi * VARIANCE).log()) - g * math.log(2 * math.pi)
    truth = float(0.5 * ((2 * math.pi / precision).log() - height + pull**2 / precision).sum())
    found = known.weights(product, n, seed=1, guide=NetworkGuide(other, g))
    assert_within(found.log_evidence, truth, found.log_evidence_mcse, found.ess, label="log of the product's mass")
    assert found.pareto_k < 0.7 and found.ess > 0.3 * n and found.known is None


def test_networks_must_see_the_same_noise() -> None:
    known = posterior()
    moved = dataclasses.replace(prior(), affine=Affine(known.affine.centre + 1.0, known.affine.factor))
    for other, word in (
        (moved, "whitening"),
        (dataclasses.replace(prior(), process=EDM(9.0)), "noise levels"),
        (gaussian(1, sigma_max=HIGH), "dimension"),
    ):
        with pytest.raises(ValueError, match=f"`prior` must have the {word}"):
            known.sample(5, guide=NetworkGuide(other))
    with pytest.raises(ValueError, match="`strength`"):
        NetworkGuide(prior(), math.nan)


def test_distilled_like_another_has_its_noise_and_keeps_its_own_moments(tmp_path: Path) -> None:
    """Draws of a law beside the first one's: the noise begins at their own mean and width."""
    generator = torch.Generator().manual_seed(0)
    wide, narrow = (torch.randn(600, 2, generator=generator, dtype=F) for _ in range(2))
    narrow = torch.tensor([2.0, 0.5], dtype=F) + narrow * torch.tensor([0.5, 0.9], dtype=F)
    quick = Training(steps=300, every=50, average=0.98)
    first = rdmc.distill(wide, architecture=SMALL, training=quick, progressbar=False)
    second = rdmc.distill(narrow, like=first, architecture=SMALL, training=quick, progressbar=False)
    assert second.affine is first.affine and second.spread is not None
    assert (second.sigma_min, second.sigma_max) == (first.sigma_min, first.sigma_max)
    z = first.affine.to_white(narrow)
    torch.testing.assert_close(second.spread.centre, z.mean(0))
    torch.testing.assert_close(second.spread.factor @ second.spread.factor.T, torch.cov(z.T))
    x = second.sample(4000, seed=1)
    mean, sd = narrow.mean(0), narrow.std(0)
    assert_moments((x - mean) / sd, 0.0, 1.0, allowance=(0.08, 0.1), label="like")  # the network's own error
    assert second.sample(5, guide=NetworkGuide(first)).shape == (5, 2)
    back = ScoreNetwork.load(second.save(tmp_path / "second.npz"))
    assert torch.equal(
        back.sample(20, seed=1, guide=NetworkGuide(first)), second.sample(20, seed=1, guide=NetworkGuide(first))
    )
    for call, name in (
        (lambda: rdmc.distill(narrow, like=first, sigma_range=(0.1, 5.0), progressbar=False), "sigma_range"),
        (lambda: rdmc.distill(narrow[:, :1], like=first, progressbar=False), "like"),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            call()


def test_density_in_borrowed_coordinates_is_the_normal_law() -> None:
    """The noise at sigma_max has the moments of the draws: with those of the first network's the density would be off."""
    known = posterior()
    x = known.affine.to_user(MEAN + torch.tensor([[0.0, 0.0], [0.5, -1.0]], dtype=F))
    law = torch.distributions.Normal(MEAN, (VARIANCE + known.sigma_min**2).sqrt())
    truth = law.log_prob(known.affine.to_white(x)).sum(-1) - known.affine.log_det()
    torch.testing.assert_close(known.log_density(x, steps=128), truth, rtol=0, atol=1e-4)
    wrong = dataclasses.replace(known, spread=None)
    assert float((wrong.log_density(x, steps=128) - truth).abs().max()) > 1e-2
