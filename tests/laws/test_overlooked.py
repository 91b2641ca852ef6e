"""What a search says that it would have missed, against searches for modes that are there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rdmc.atlas import Atlas
from rdmc.density import Density
from rdmc.overlooked import overlooked
from rdmc.pilot import Pilot
from rdmc.rng import Streams
from tests.laws.cases import F, generator

SEARCHES = 24


def found(dim: int, place: Tensor, seed: int) -> bool:
    """Whether a search finds a mode half as wide and a tenth as heavy as a Gaussian, put there."""

    def f(x: Tensor) -> Tensor:
        hidden = math.log(0.1) + dim * math.log(2.0) - 2.0 * (x - place).square().sum(-1)
        return torch.logaddexp(-0.5 * x.square().sum(-1), hidden)

    survey = Pilot(starts=16, scan=16).run(Density(f, dim), Streams.seeded(seed, [16]))
    return bool(((survey.modes - place).norm(dim=1) < 0.3).any())


@pytest.mark.parametrize("dim", [4, 12])
def test_searches_miss_as_many_modes_as_they_say(dim: int) -> None:
    """Nearly none in d = 4 and a good part in d = 12, at places like those of the scan."""
    alone = Pilot(starts=16, scan=16).run(Density(lambda x: -0.5 * x.square().sum(-1), dim), Streams.seeded(0, [16]))
    random = generator(dim)
    missed = 0
    for seed in range(SEARCHES):
        width = 2.0 * 10.0 ** torch.rand((), generator=random, dtype=F) * (0.5 if seed % 2 else 1.0)
        place = width * torch.randn(dim, generator=random, dtype=F)
        missed += not found(dim, place, seed + 1)
    share = missed / SEARCHES
    error = math.sqrt(max(share * (1.0 - share), 1.0 / SEARCHES) / SEARCHES)
    assert abs(share - alone.overlooked) < 3.0 * error, (
        f"missed {share:.2f} +- {error:.2f}, said {alone.overlooked:.2f}"
    )
    assert (alone.overlooked > 0.2) == (dim == 12)


def test_the_places_of_a_mode_on_a_line_by_hand() -> None:
    """Points 0, 4, 8, ... under N(0, 1), a mode of sd 1/2: its top is log .2, and at 4 away it has fallen by 32."""
    atlas = Atlas(Density(lambda x: -0.5 * x.square().sum(-1), 1))
    atlas.add(torch.tensor([[0.5]], dtype=F))
    x = 4.0 * torch.arange(4, dtype=F)[:, None]

    value = -0.5 * x.square().sum(-1)
    tops = math.log(0.2) - 0.5 * ((x - x.T) / 0.5).square()
    places = [i for i in range(4) if value[i] < math.log(0.2)]
    missed = [sum(tops[i, j] > value[j] for j in range(4) if j != i) == 0 for i in places]
    assert places == [1, 2, 3] and 0 < sum(missed) < 3
    assert overlooked(atlas, x, value) == pytest.approx(sum(missed) / 3)
    assert math.isnan(overlooked(atlas, x, torch.full_like(value, 1.0)))
