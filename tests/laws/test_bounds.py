"""Supports that are boxes: found where they are, seen without bounds, and nothing else taken for one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from rdmc.supports.bounds import find_box
from rdmc.supports.box import Box
from rdmc.supports.support import Support
from tests.laws.cases import F
from tests.laws.supports import BOX
from tests.marks import slow
from tests.quick import QUICK
from tests.stats import assert_within

INF = math.inf


def outside(inside: Tensor, value: Tensor) -> Tensor:
    """The value, and -inf where a point is not inside."""
    return torch.where(inside, value, -torch.inf)


def truncated(box: Box) -> Density:
    """A law that knows of the box."""
    return Density(lambda x: outside(box.contains(x), -0.3 * (1.0 + (x.sum(-1) - 1.0).square()).sqrt()), len(box.lower))


def searched(f: Callable[[Tensor], Tensor], dim: int) -> Support | None:
    return Pilot().support(Density(f, dim), Streams.seeded(3, [64]))


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([0.0], [1.0]),
        ([-INF, 0.0], [INF, INF]),
        ([0.0] * 8, [INF] * 8),
        ([-3.0, 1000.0, -INF], [50.0, 1000.125, 7.0]),
        ([1e-3, -1e6], [2e-3, 1e6]),
    ],
)
def test_boxes_are_found_where_they_are(lower: list[float], upper: list[float]) -> None:
    truth = Box(torch.tensor(lower, dtype=F), torch.tensor(upper, dtype=F))
    x = truth.forward(torch.full((1, len(lower)), -0.37, dtype=F))
    box = find_box(truncated(truth), x, Streams.seeded(0, [64]))
    assert box is not None and box.kind == truth.kind
    for found, true in ((box.lower, truth.lower), (box.upper, truth.upper)):
        torch.testing.assert_close(found, true, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    "inside",
    [
        lambda x: x.square().sum(-1) < 1e4,
        lambda x: (x > 0.0).all(-1) & (x.sum(-1) < 60.0),
        lambda x: x[..., 0] + 0.5 * x[..., 1] > 3.0,
        lambda x: (x > 0.0).all(-1) | (x < -1.0).all(-1),
        lambda x: (x[..., 0].abs() < 40.0) & ~((x[..., 0] > 8.0) & (x[..., 0] < 20.0)),
    ],
    ids=["disc", "simplex", "slope", "two quarters", "gap"],
)
def test_no_other_set_is_taken_for_one(inside: Callable[[Tensor], Tensor]) -> None:
    """Whether many of its points are known or one."""

    def f(x: Tensor) -> Tensor:
        return outside(inside(x), -0.01 * x.square().sum(-1))

    assert not isinstance(searched(f, 2), Box)
    for x in ([5.0, 1.5], [0.0, 0.0]):  # all of a disc is between the bounds that are seen from its centre
        assert find_box(Density(f, 2), torch.tensor([x], dtype=F), Streams.seeded(0, [64])) is None


def test_an_island_that_no_axis_meets_is_seen_from_elsewhere() -> None:
    island, wall = torch.tensor([-1.0, 40.0], dtype=F), torch.tensor([0.0, 0.0], dtype=F)

    def f(x: Tensor) -> Tensor:
        there = (x[..., 0] < island[0]) & (x[..., 1] > island[1])
        return outside((x > wall).all(-1) | there, -x.abs().sum(-1))

    origin, rng = torch.tensor([[1.3, 2.7]], dtype=F), Streams.seeded(0, [64])
    assert find_box(Density(lambda x: outside((x > wall).all(-1), f(x)), 2), origin, rng) is not None
    assert find_box(Density(f, 2), origin, rng) is None


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), *slow((-1.0, 0.0), (0.0, INF))])
def test_a_box_in_one_of_many_orthants_is_found(lower: float, upper: float) -> None:
    """Of directions drawn in d = 30 one in 1e9 leads there."""
    truth = Box(torch.full((30,), lower, dtype=F), torch.full((30,), upper, dtype=F))
    box = searched(lambda x: outside(truth.contains(x), -x.square().sum(-1)), 30)
    assert box is not None and torch.equal(box.lower, truth.lower) and torch.equal(box.upper, truth.upper)


def test_densities_without_bounds_cost_a_look() -> None:
    density = Density(lambda x: -0.5 * x.square().sum(-1), 3)
    assert Pilot().support(density, Streams.seeded(0, [64])) is None
    assert (density.counter.densities, density.counter.gradients) == (64, 0)


def gammas(x: Tensor) -> Tensor:
    """Gamma laws of shapes .4 and 6 and scales 100 and .01: a pole and a hump."""
    shape, scale = x.new_tensor([0.4, 6.0]), x.new_tensor([100.0, 0.01])
    positive = x.clamp(min=torch.finfo(x.dtype).tiny)
    value = (shape - 1.0) * positive.log() - positive / scale - torch.lgamma(shape) - shape * scale.log()
    return outside((x > 0.0).all(-1), value.sum(-1))


def test_poles_and_humps_have_their_mass() -> None:
    result = rdmc.sample(gammas, dim=2, draws=200, sampler=QUICK, progressbar=False)
    assert set(result.stages["support"]) == {"bounds"} and "Coordinates have bounds" in result.summary()
    x = result.samples.flatten(0, 1)
    assert bool((x > 0.0).all()) and bool(torch.isfinite(result.log_density).all())
    shape, scale = torch.tensor([0.4, 6.0], dtype=F), torch.tensor([100.0, 0.01], dtype=F)
    error = scale * shape.sqrt() / 200.0**0.5  # of 800 draws: resampling leaves some copies
    assert_within(x.mean(0), shape * scale, error, label="mean")
    assert_within(result.log_evidence or math.nan, 0.0, result.log_evidence_mcse or math.nan, label="log evidence")
    torch.testing.assert_close(result.log_density.flatten(), gammas(x))
    assert torch.tensor(result.modes["location"][0]).gt(0.0).all()


def test_a_box_of_many_dimensions_is_as_easy_as_a_normal_law() -> None:
    """Uniform in 20 dimensions, where Gaussians leave it through one of 40 sides."""
    box = Box(torch.full((20,), -3.0, dtype=F), torch.full((20,), 50.0, dtype=F))
    result = rdmc.sample(
        lambda x: outside(box.contains(x), 0.0 * x.sum(-1)), dim=20, draws=250, sampler=QUICK, progressbar=False
    )
    assert set(result.stages["support"]) == {"box"} and result.check() == []
    x = result.samples.flatten(0, 1)
    assert_within(x.mean(0), 23.5, 53.0 / 12**0.5 / 1000**0.5, label="mean")
    assert_within(
        result.log_evidence or math.nan, 20 * math.log(53.0), result.log_evidence_mcse or math.nan, label="log evidence"
    )
    assert result.gradient_evaluations / 1000 < 100


@pytest.mark.parametrize("seed", [0, *slow(1, 2, 3)])
def test_narrow_modes_in_a_box_are_found_where_shells_would_miss_them(seed: int) -> None:
    """In d = 5 a hundredth as wide as the box, beside one a fifth as wide: without the box 1 of 6 searches finds it."""
    place, wide = torch.tensor([0.1, 0.9, 0.15, 0.85, 0.1], dtype=F), torch.full((5,), 0.5, dtype=F)
    unit = Box(torch.zeros(5, dtype=F), torch.ones(5, dtype=F))

    def f(x: Tensor) -> Tensor:
        hump = -0.5 * ((x - wide) / 0.2).square().sum(-1) - 5 * math.log(0.2)
        spike = -0.5 * ((x - place) / 0.01).square().sum(-1) - 5 * math.log(0.01)
        return outside(unit.contains(x), torch.logaddexp(hump, spike))

    box = searched(f, 5)
    assert box is not None and box.kind == "box"
    survey = Pilot().search(box.seen(Density(f, 5)), Streams.seeded(seed, [64]), box.scattered)
    assert bool(((box.forward(survey.modes) - place).norm(dim=1) < 0.01).any())


def test_points_are_scattered_between_finite_bounds_alone() -> None:
    box = Box(torch.tensor([-1.0, 3.0], dtype=F), torch.tensor([1.0, 3.5], dtype=F))
    x = box.forward(box.scattered(40_000, Streams.seeded(0, [64])))
    assert_within(x.mean(0), torch.tensor([0.0, 3.25]), torch.tensor([2.0, 0.5]) / 12**0.5 / 200.0, label="mean")
    assert_within(x.var(0), torch.tensor([4.0, 0.25]) / 12, torch.tensor([4.0, 0.25]) / 12 / 200.0, label="variance")
    with pytest.raises(ValueError, match="finite bounds"):
        BOX.scattered(10, Streams.seeded(0, [4]))


def test_bad_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(d,\)"):
        Box(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match="`lower` must be less than `upper`"):
        Box(torch.zeros(2), torch.tensor([1.0, 0.0]))
