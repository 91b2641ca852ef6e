"""The default sampler on problems of other kinds: as near to the truth as independent draws, up to a factor, in any coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from torch import Tensor

import rdmc
import targets
from targets.base import Target

REFERENCE, DIRECTIONS, REPEATS = 20_000, 24, 24
TARGETS: dict[str, Callable[[], Target]] = {
    "two-modes": lambda: targets.two_modes(8),
    "banana": targets.banana,
    "eight-schools": targets.eight_schools,
    "funnel": lambda: targets.funnel(10),
    "many-well": lambda: targets.many_well(32),
    "student": lambda: targets.student_mixture(10),
    "entropic": lambda: targets.entropic_pair(5),
}
QUICK = ("two-modes", "entropic")
PLAIN_ONLY = ("student", "eight-schools")
CASES = [
    pytest.param(
        name,
        disguised,
        marks=() if name in QUICK or (name in PLAIN_ONLY and not disguised) else pytest.mark.slow,
        id=f"{name}-disguised" if disguised else name,
    )
    for name in TARGETS
    for disguised in (False, True)
]


class Truth:
    """Exact draws, sorted along coordinates and random directions, and how far other exact draws are from them."""

    def __init__(self, target: Target) -> None:
        generator = torch.Generator().manual_seed(1)
        exact = target.sample(REFERENCE, generator)
        self.scale = torch.quantile(exact, 0.75, dim=0) - torch.quantile(exact, 0.25, dim=0)
        self.direction = torch.randn(DIRECTIONS, target.dim, generator=generator, dtype=exact.dtype)
        self.columns = self.seen(exact)
        self.target, self.generator = target, generator

    def seen(self, x: Tensor) -> Tensor:
        """``(d + DIRECTIONS, n)`` sorted values."""
        return torch.cat([x.T, self.direction @ (x / self.scale).T]).sort(1).values.contiguous()

    def distance(self, x: Tensor) -> float:
        """Kolmogorov-Smirnov distance, on average over the columns."""
        own, n = self.seen(x), len(x)
        at = torch.searchsorted(self.columns, own).double() / REFERENCE
        step = torch.arange(n + 1, dtype=torch.float64) / n
        return float(torch.maximum((at - step[1:]).abs(), (at - step[:-1]).abs()).amax(1).mean())

    def floor(self, n: int) -> float:
        """Mean distance of n exact draws."""
        return sum(self.distance(self.target.sample(n, self.generator)) for _ in range(REPEATS)) / REPEATS


@lru_cache(maxsize=1)
def known(name: str) -> tuple[Target, Truth, float]:
    target = TARGETS[name]()
    truth = Truth(target)
    return target, truth, truth.floor(1000)


@pytest.mark.parametrize(("name", "disguised"), CASES)
def test_draws_and_evidence_are_near_the_truth(name: str, disguised: bool) -> None:
    """Under 2 x the mean distance of 1000 exact draws; evidence within .15 or four of its standard errors."""
    target, truth, floor = known(name)
    assert target.log_z is not None
    seen = targets.disguise(target, 1) if disguised else target
    result = rdmc.sample(seen, draws=250, chains=4, seed=5, progressbar=False)
    x = result.samples.flatten(0, 1)
    if disguised:
        x = (x - seen.offset) @ seen.inverse.T  # type: ignore[attr-defined]
    distance = truth.distance(x)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None and seen.log_z is not None
    error, told = result.log_evidence - seen.log_z, result.log_evidence_mcse
    print(f"{seen.name}: KS {distance / floor:.2f} x floor, log evidence off by {error:.3f}, standard error {told:.3f}")
    assert distance < 2.0 * floor, f"{distance:.4f} is {distance / floor:.2f} x the floor"
    assert abs(error) < max(0.15, 4.0 * told), f"log evidence is off by {error:.3f}, standard error {told:.3f}"
