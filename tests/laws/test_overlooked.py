"""What a search says that it would have missed, against searches for modes that are there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from rdmc.density import Density
from rdmc.locate.atlas import Atlas
from rdmc.locate.overlooked import shares_overlooked
from rdmc.locate.pilot import Pilot
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from tests.laws.cases import F, generator
from tests.marks import slow

SEARCHES = 24


def found(dim: int, width: float, place: Tensor, seed: int) -> bool:
    """Whether a search finds a mode a tenth as heavy as a Gaussian and of this width beside it, put there."""

    def f(x: Tensor) -> Tensor:
        hidden = math.log(0.1) - dim * math.log(width) - 0.5 * ((x - place) / width).square().sum(-1)
        return torch.logaddexp(-0.5 * x.square().sum(-1), hidden)

    survey = Pilot(starts=16, scan=16).run(Density(f, dim), Streams.seeded(seed, [16]))
    return bool(((survey.modes - place).norm(dim=1) < 0.6 * width).any())


@pytest.mark.parametrize(("dim", "width"), [(12, 0.5), (3, 0.1), *slow((4, 0.5))])
def test_searches_miss_as_many_modes_as_they_say(dim: int, width: float) -> None:
    """At places like those of the scan: nearly none in d = 4, a good part in d = 12 and of the narrow ones."""
    alone = Pilot(starts=16, scan=16).run(Density(lambda x: -0.5 * x.square().sum(-1), dim), Streams.seeded(0, [16]))
    said = alone.overlooked.half if width == 0.5 else alone.overlooked.tenth
    random = generator(dim)
    missed = 0
    for seed in range(SEARCHES):
        distance = 2.0 * 30.0 ** torch.rand((), generator=random, dtype=F) * (0.5 if seed % 2 else 1.0)
        place = distance * torch.randn(dim, generator=random, dtype=F)
        missed += not found(dim, width, place, seed + 1)
    share = missed / SEARCHES
    error = math.sqrt(max(share * (1.0 - share), 1.0 / SEARCHES) / SEARCHES)
    assert abs(share - said) < 3.0 * error, f"missed {share:.2f} +- {error:.2f}, said {said:.2f}"
    assert (said > 0.2) == (dim != 4)


def test_the_share_is_that_of_normal_laws_put_at_every_place() -> None:
    """Two known modes, the heavier one turned, long and off the origin; the hidden one is a normal law of torch."""
    random, angle = generator(3), torch.tensor(0.6, dtype=F)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    basis, sd = torch.stack([torch.eye(2, dtype=F), turn]), torch.tensor([[1.0, 1.0], [3.0, 0.5]], dtype=F)
    mean, weight = torch.tensor([[6.0, 1.0], [-2.0, 3.0]], dtype=F), torch.tensor([0.2, 0.8], dtype=F)
    known = GaussianMixture(weight.log(), mean, basis, sd.square())
    density = Density(known.log_prob, 2)
    atlas = Atlas(density)
    atlas.recall(known, density(mean), torch.ones(2))
    x = mean[1] + 9.0 * torch.randn(30, 2, generator=random, dtype=F)
    value = density(x)
    # Laplace's mass of the heavier mode, as a part of which the other is seen too
    mass = float(density(mean)[1]) + math.log(2.0 * math.pi) + float(sd[1].log().sum())
    widths, truth = (0.5, 0.2), []
    for width in widths:
        covariance = width**2 * turn @ sd[1].square().diag() @ turn.T
        seen, places = 0, 0
        for i, place in enumerate(x):
            hidden = math.log(0.1) + mass + MultivariateNormal(place, covariance).log_prob(x)
            if hidden[i] > value[i]:
                places += 1
                seen += bool((hidden > value)[torch.arange(len(x)) != i].any())
        assert 0 < seen < places, f"{seen} of {places}"
        truth.append(1.0 - seen / places)
    assert shares_overlooked(atlas, x, value, widths) == pytest.approx(truth, abs=1e-12)


def test_where_no_mode_would_stand_out_nothing_is_said() -> None:
    atlas = Atlas(Density(lambda x: -0.5 * x.square().sum(-1), 1))
    atlas.add(torch.tensor([[0.5]], dtype=F))
    (share,) = shares_overlooked(atlas, torch.zeros(3, 1, dtype=F), torch.ones(3, dtype=F), (0.5,))
    assert math.isnan(share)


def test_points_outside_the_support_have_seen_nothing() -> None:
    """Two points outside that would see anything inside, if a density of 0 were one to be doubled."""
    atlas = Atlas(Density(lambda x: -0.5 * x.square().sum(-1), 1))
    atlas.add(torch.tensor([[0.5]], dtype=F))
    x = torch.tensor([[30.0], [5.0], [31.0]], dtype=F)
    value = torch.tensor([-torch.inf, -12.5, torch.nan], dtype=F)
    assert shares_overlooked(atlas, x, value, (0.5, 0.1)) == [1.0, 1.0]
