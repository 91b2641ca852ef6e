"""Gaussians that climb the evidence lower bound: right where the answer is known, and found where ascents are not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.density import Density, as_density
from rdmc.locate.variational import MeanField
from rdmc.rng import Streams
from tests.laws.cases import F, generator

WIDTHS = torch.tensor([0.1, 1.0, 3.0, 0.5, 20.0], dtype=F)
CENTRE = torch.tensor([1.0, -2.0, 3.0, 0.0, 100.0], dtype=F)


def streams(key: int = 0, particles: int = 64) -> Streams:
    return Streams.seeded(3, [particles], [(key,)])


def scattered(n: int, dim: int, size: float = 10.0) -> Tensor:
    return size * torch.randn(n, dim, generator=generator(dim), dtype=F)


def diagonal(unit: float) -> tuple[Density, float]:
    """A Gaussian of diagonal covariance times e^3, and its log normaliser."""
    mean, sd = unit * CENTRE, unit * WIDTHS
    f = Density(lambda x: 3.0 - 0.5 * ((x - mean) / sd).square().sum(-1), 5)
    return f, 3.0 + float(sd.log().sum()) + 2.5 * math.log(2.0 * math.pi)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_a_diagonal_gaussian_is_found_in_any_units(unit: float) -> None:
    """With antithetic pairs means are exact; widths are as noisy as the last steps, and a bound lacks about half their squares."""
    f, log_z = diagonal(unit)
    x = scattered(16, 5)
    mean, sd, bound, slope = MeanField().climb(f, x, torch.ones_like(x) / 3.0, streams())
    away, wide, short = (mean - unit * CENTRE) / (unit * WIDTHS), (sd / (unit * WIDTHS)).log(), log_z - bound
    print(
        f"means off by {away.abs().max():.2g} sd, log sd by {wide.abs().max():.2g}, bounds short by {short.aminmax()}"
    )
    assert float(away.abs().max()) < 0.01
    assert float(wide.abs().max()) < 0.25 and float(wide.mean().abs()) < 0.1
    assert float(short.min()) > -0.5 and float(short.max()) < 0.5
    assert float(slope.max()) < 0.25


@pytest.mark.parametrize("make", [lambda: targets.funnel(10), lambda: targets.eight_schools(centred=True)])
def test_the_bound_is_below_the_evidence_and_near_it_where_there_is_a_neck(make: object) -> None:
    target = make()  # type: ignore[operator]
    f, x = as_density(target), scattered(64, 10, 3.0)
    found = MeanField().mixture(f, x, f(x), streams())
    assert found is not None
    print(f"bounds {found[1].tolist()}, log evidence {target.log_z:.3f}")
    assert target.log_z - 4.0 < float(found[1].max()) < target.log_z


def wages(unit: float) -> Density:
    """Three groups' effects about a mean of 4e4, whose spread and errors are on a log scale: a neck, and cliffs of 1e9 nats."""
    y = unit * torch.tensor([3.1e4, 3.6e4, 3.2e4, 4.7e4, 5.2e4, 4.5e4, 4.4e4, 5.1e4, 4.8e4], dtype=F)
    group = torch.arange(3).repeat_interleave(3)

    def f(x: Tensor) -> Tensor:
        mu, effect, log_tau, log_sd = x[:, :1], x[:, 1:4], x[:, 4:5], x[:, 5:]
        value = -0.5 * ((y - effect[:, group]) / log_sd.exp()).square() - log_sd
        between = -0.5 * ((effect - mu) / log_tau.exp()).square() - log_tau
        scales = sum(s - torch.log1p((s.exp() / (5e3 * unit)).square()) for s in (log_tau[:, 0], log_sd[:, 0]))
        return value.sum(1) + between.sum(1) + scales - 0.5 * ((mu[:, 0] / unit - 4e4) / 2e4).square()

    return Density(f, 6)


def test_tempering_leads_gaussians_off_a_cliff() -> None:
    """From points of 1e6 to 1e10 nats below; without it every Gaussian shrinks on the cliff and stands still."""
    f, x = wages(1.0), scattered(64, 6, 3.0)
    mean, _, bound, slope = MeanField().climb(f, x[:16], torch.ones_like(x[:16]) / 3.0, streams())
    arrived = slope < 0.5
    print(f"{int(arrived.sum())} of 16 arrived; bounds {bound.tolist()}")
    assert int(arrived.sum()) >= 4
    assert float(bound[arrived].max() - bound[arrived].median()) < 1.0
    assert bool(((mean[arrived, 0] > 3e4) & (mean[arrived, 0] < 5.5e4)).all())


def test_where_there_is_no_density_or_no_gradient_nothing_breaks() -> None:
    """A Gaussian cut at 3 standard deviations in one coordinate, and NaN beyond as many in the other."""
    centre = torch.tensor([0.0, 0.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        value = -0.5 * (x - centre).square().sum(-1)
        value = torch.where(x[:, 0] > 3.0, -torch.inf, value)
        return value + 0.0 * (x[:, 1] + 3.0).sqrt()  # NaN below -3, and its gradient too

    points = torch.cat([scattered(60, 2, 1.0), torch.tensor([[torch.nan, 0.0], [9.0, 0.0], [0.0, -9.0]], dtype=F)])
    density = Density(f, 2)
    found = MeanField().mixture(density, points, density(points), streams())
    assert found is not None
    assert float(found[0].mean.abs().max()) < 0.5 and 0.4 < float(found[0].variance.sqrt().max()) < 1.2


@pytest.mark.parametrize(
    "log_density",
    [
        lambda x: torch.full_like(x[:, 0], torch.nan),
        lambda x: torch.full_like(x[:, 0], -torch.inf),
        lambda x: x[:, 0] - x[:, 1].square(),
        lambda x: 0.0 * x[:, 0],
        lambda x: -1e30 - 0.5 * x.square().sum(-1),
    ],
    ids=["nan", "zero", "slope", "flat", "offset"],
)
def test_what_no_gaussian_reaches_is_not_said_to_be_found(log_density: object) -> None:
    f = Density(log_density, 2)  # type: ignore[arg-type]
    x = scattered(64, 2)
    assert MeanField().mixture(f, x, f(x), streams()) is None


def test_gaussians_that_say_the_same_are_one_and_others_stay() -> None:
    f, x = as_density(targets.two_modes(3)), scattered(64, 3)
    found = MeanField().mixture(f, x, f(x), streams())
    assert found is not None
    distance = torch.pdist(found[0].mean)
    print(f"means {found[0].mean.tolist()}")
    assert found[0].components == 2 and float(distance.min()) > 1.0


def test_the_same_streams_give_the_same_bits_whatever_their_size() -> None:
    f, _ = diagonal(1.0)
    x = scattered(64, 5)

    def means(key: int, particles: int) -> Tensor:
        return MeanField(iterations=40).climb(f, x[:16], torch.ones_like(x[:16]), streams(key, particles)).sd

    assert torch.equal(means(1, 64), means(1, 64))
    assert not torch.equal(means(1, 64), means(2, 64))
    assert bool(torch.isfinite(means(1, 3)).all())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_evidence_of_a_centred_hierarchy(seed: int) -> None:
    """The density has no upper limit; the truth is a one-dimensional integral over the log scale."""
    target = targets.eight_schools(centred=True)
    result = rdmc.sample(target, draws=100, seed=seed, progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None and target.log_z is not None
    error, se = result.log_evidence - target.log_z, result.log_evidence_mcse
    print(
        f"log evidence {result.log_evidence:.3f}, truth {target.log_z:.3f}, error {error:.3f}, standard error {se:.3f}"
    )
    assert abs(error) < max(0.1, 3.0 * se) and se < 0.2


def test_the_evidence_at_a_pole() -> None:
    r"""Ascents end on an ever steeper slope; with :math:`\pi = r^{-1/2} e^{-r}` in the plane :math:`Z = 2 \pi \Gamma(3/2)`."""
    result = rdmc.sample(
        lambda x: -0.5 * x.norm(dim=-1).log() - x.norm(dim=-1), 2, draws=100, seed=0, progressbar=False
    )
    truth = math.log(2.0 * math.pi) + math.lgamma(1.5)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    print(f"log evidence {result.log_evidence:.3f}, truth {truth:.3f}, standard error {result.log_evidence_mcse:.3f}")
    assert abs(result.log_evidence - truth) < 5.0 * result.log_evidence_mcse < 0.5
