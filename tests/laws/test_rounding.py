"""Ascents take few calls, tell a mode from the rounding of huge terms, and leave alone whatever only looks like it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.locate.atlas import Atlas
from rdmc.locate.optimise import ascend
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from tests.laws.cases import F

COUNTS = torch.tensor([30.0, 90.0, 210.0, 330.0, 50.0, 280.0, 130.0, 20.0, 410.0, 240.0] * 8, dtype=F)
START = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=F)


def overdispersed(x: Tensor) -> Tensor:
    """Negative-binomial counts of log mean x0 and log shape x1; beyond x1 = 35 the two log-gamma terms cancel to rounding alone."""
    mean, shape = x[..., :1], x[..., 1:].exp()
    terms = torch.lgamma(COUNTS + shape) - torch.lgamma(shape) - torch.lgamma(COUNTS + 1.0) + COUNTS * mean
    terms = terms + shape * x[..., 1:] - (COUNTS + shape) * torch.logaddexp(mean, x[..., 1:])
    return terms.sum(-1) - 0.5 * (mean[..., 0] / 5.0).square() - 0.5 * (x[..., 1] - 1.0).square()


def in_the_noise() -> tuple[Density, Tensor]:
    """The density, and the highest 20 of 20,000 points where its values are rounding alone."""
    density = Density(overdispersed, 2)
    uniform = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=F)
    x = torch.tensor([-2.0, 36.0], dtype=F) + torch.tensor([6.0, 3.0], dtype=F) * uniform
    return density, x[density(x).argsort(descending=True)[:20]]


def test_rounding_is_no_mode() -> None:
    density, noise = in_the_noise()
    mode = ascend(density, torch.tensor([[1.0, 1.0]], dtype=F))
    assert bool(mode.converged.all())
    assert float(density(noise).min()) > float(mode.value) + 20.0  # control: it looks higher than the mode
    end = ascend(density, noise)
    assert not bool(end.converged.any()) and bool((end.value == -torch.inf).all())


def test_a_list_of_modes_copes_with_nothing_but_rounding() -> None:
    density, noise = in_the_noise()
    atlas = Atlas(density)
    atlas.add(noise)
    assert atlas.mean == []
    atlas.add(torch.cat([noise, torch.ones(1, 2, dtype=F)]))
    assert len(atlas.mean) == 1 and float(atlas.mean[0].norm()) < 6.0
    atlas.add(noise)
    assert len(atlas.mean) == 1 and atlas.hits == [1]


def test_the_pilot_finds_the_mode_and_not_the_rounding() -> None:
    density = Density(overdispersed, 2)
    found = [Pilot(scan=4).run(density, Streams.seeded(seed, [64])).modes for seed in range(3)]
    highest = max(float(modes.abs().max()) for modes in found)
    assert highest < 6.0, highest


TINY = 1e-9


@pytest.mark.parametrize(
    ("f", "start"),
    [
        (lambda x: -0.5 * (x - 3.0).square().sum(-1) + 1e6, START),
        (lambda x: -0.5 * (x - 3.0).square().sum(-1) + 1e15, START),
        (lambda x: -(x - 3.0).abs().sum(-1), START),
        (lambda x: -1e9 * (x - 1e3).abs().sum(-1), 1e3 + TINY * START),
        (lambda x: -0.5 * ((x - 1e3) / TINY).square().sum(-1), 1e3 + 10.0 * TINY * START),
        (lambda x: -0.5 * ((x - 1e3) / 1e-12).square().sum(-1), 1e3 + 1e-11 * START),
        (lambda x: -0.5 * ((x - 1e3) / 1e-3).square().sum(-1), (1e3 + 1e-2 * START).float()),
        (lambda x: -0.5 * (x - 3.0).square().sum(-1) + 1e6, START.float()),
        (lambda x: torch.where(x[..., 0] >= 3.0, -20.0 * (x - 3.0).abs().sum(-1), -torch.inf), 3.0 + START.abs()),
        (lambda x: -0.5 * (x - 3.0).square().sum(-1) + 5.0 * (x[..., 0] >= 3.0), START + 3.0),
        (lambda x: -(5.0 * (x - 3.0)).cosh().sum(-1), START),
    ],
    ids=[
        "an offset of 1e6",
        "an offset beyond one nat",
        "a Laplace peak",
        "a sharp Laplace peak",
        "a width of 1e-9",
        "a width of nine last digits",
        "the same in single precision",
        "an offset in single precision",
        "an edge",
        "a jump",
        "walls",
    ],
)
def test_modes_that_are_narrow_sharp_or_shifted_stay(f: Callable[[Tensor], Tensor], start: Tensor) -> None:
    density = Density(f, 2, dtype=start.dtype)
    end = ascend(density, start)
    assert bool(torch.isfinite(end.value).all()), end.value.tolist()
    assert torch.equal(end.value, density.value_and_grad(end.x)[0])


def test_a_step_at_the_end_itself_counts_on_both_sides_only() -> None:
    """Higher by 5 at one number alone: on both sides; higher from there on: on one."""
    at = torch.tensor([[3.0]], dtype=F)
    spike = Density(lambda x: -x.square().sum(-1) + torch.where(x[..., 0] == 3.0, 5.0, 0.0), 1)
    step = Density(lambda x: -x.square().sum(-1) + torch.where(x[..., 0] >= 3.0, 50.0, 0.0), 1)
    assert float(ascend(spike, at, iterations=0).value) == -torch.inf
    assert float(ascend(step, at, iterations=0).value) == 41.0


def test_four_evaluations_an_end() -> None:
    density = Density(lambda x: -x.square().sum(-1), 2)
    ascend(density, START)
    assert density.counter.densities == 4 * len(START)


def walls(x: Tensor) -> Tensor:
    """Walls too steep for a first step."""
    return -(4.0 * x).cosh().sum(-1)


def test_of_the_shorter_steps_the_longest_that_gains_enough_is_taken() -> None:
    density = Density(walls, 2)
    x = torch.logspace(-4.0, 0.0, 24, dtype=F).view(12, 2)  # a step of .1 is too long for most
    value, grad = density.value_and_grad(x)
    direction = 0.1 * x.norm(dim=-1, keepdim=True).clamp(min=1.0) / grad.norm(dim=-1, keepdim=True) * grad
    slope = (direction * grad).sum(-1)
    wanted, steps = x.clone(), set()
    for k, point in enumerate(x):
        for power in range(8):
            there = point + 0.25**power * direction[k]
            if float(walls(there)) >= float(value[k] + 1e-4 * 0.25**power * slope[k]):
                wanted[k] = there
                steps.add(power)
                break
    assert len(steps) > 1, steps  # control: not all of one length
    torch.testing.assert_close(ascend(density, x, iterations=1).x, wanted, rtol=0.0, atol=1e-14)


def test_an_iteration_takes_at_most_three_calls() -> None:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return walls(x)

    ascend(Density(counted, 2), 4.0 * START, iterations=10)
    assert len(calls) <= 1 + 3 * 10 + 2, calls
