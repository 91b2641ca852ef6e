"""The reference laws that the tests go over, and targets for which everything is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from scipy import stats
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.correct import Law, ProductMixture, Reference
from rdmc.correct.axes import AxesMixture
from rdmc.correct.pooled import PooledLaw
from rdmc.density import Density
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from tests.laws.cases import F, generator, spd

META = torch.device("meta")
RARE = 1e-6  # p-value below which a test fails: with under 50 such tests the false-alarm rate stays below 1e-4
T = TypeVar("T")


def streams(n: int, *key: int, dtype: torch.dtype = F, device: torch.device | str = "cpu") -> Streams:
    """One shard of n particles."""
    return Streams.seeded(17, [n], [key], dtype=dtype, device=device)


def moved(value: T, dtype: torch.dtype, device: torch.device | str = "cpu") -> T:
    """A dataclass of tensors, and of such dataclasses, elsewhere."""
    changes: dict[str, object] = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if isinstance(part, Tensor):
            changes[field.name] = part.to(device, dtype)
        elif dataclasses.is_dataclass(part):
            changes[field.name] = moved(part, dtype, device)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def affine(dim: int) -> Affine:
    """Off-centre, turned, and of unequal scales."""
    scale = torch.logspace(-0.2, 0.3, dim, dtype=F)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator(dim), dtype=F))[0]
    return Affine(torch.linspace(0.5, -0.8, dim, dtype=F), turn * scale)


def core(dim: int) -> GaussianMixture:
    """Three components of unequal weights, means and covariances."""
    mean = 1.5 * torch.randn(3, dim, generator=generator(20 + dim), dtype=F)
    covariance = torch.stack([(0.15 + 0.5 * k) * spd(dim, 30 + k) for k in range(3)])
    return GaussianMixture.from_covariance(mean, covariance, torch.tensor([0.2, 0.5, 0.3], dtype=F))


def student(dim: int) -> StudentMixture:
    """Tails with a second moment, just."""
    return StudentMixture(core(dim), 3)


def product(dim: int) -> ProductMixture:
    """Two components a coordinate, other ones in each."""
    mean = torch.randn(dim, 2, generator=generator(40 + dim), dtype=F)
    sd = torch.linspace(0.3, 1.2, 2 * dim, dtype=F).view(dim, 2)
    first = torch.linspace(0.25, 0.6, dim, dtype=F)
    return ProductMixture(affine(dim), torch.stack([first, 1.0 - first], -1).log(), mean, sd)


def axes(dim: int) -> AxesMixture:
    """Three products of Student laws."""
    mean = 1.5 * torch.randn(3, dim, generator=generator(50 + dim), dtype=F)
    scale = torch.linspace(0.25, 1.0, 3 * dim, dtype=F).view(3, dim)
    return AxesMixture(affine(dim), torch.tensor([0.2, 0.5, 0.3], dtype=F).log(), mean, scale, 3)


def pooled(dim: int) -> PooledLaw:
    """Half Student, half product."""
    return PooledLaw(student(dim), product(dim))


LAWS: dict[str, Callable[[int], Law]] = {"student": student, "product": product, "axes": axes, "pooled": pooled}


def gaussian_law(mean: Tensor, cov: Tensor) -> ProductMixture:
    """N(mean, cov) as a reference law."""
    one = torch.ones(len(mean), 1, dtype=F)
    return ProductMixture(Affine.from_covariance(mean, cov), 0.0 * one, 0.0 * one, one)


def reference(law: Law) -> Reference:
    """The law with a guide of unequal components, so that a label's term in a ratio shows."""
    dim = law.draw(streams(2))[0].shape[-1]
    return Reference(law, StudentMixture(core(dim), 4), "test")


def as_target(mixture: GaussianMixture, log_z: float = 0.0) -> Density:
    """A mixture times exp(log_z), counted, in closed form."""

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = mixture.value_and_grad(x)
        return value + log_z, grad

    kind = {"dtype": mixture.mean.dtype, "device": mixture.mean.device}
    return Density(lambda x: mixture.log_prob(x) + log_z, mixture.dim, value_and_grad, **kind)  # type: ignore[arg-type]


def pair(weight: float = 1 / 3, apart: float = 6.0) -> GaussianMixture:
    """Two modes in the plane, of unequal weights and widths, with nothing between them."""
    return GaussianMixture.from_covariance(
        torch.tensor([[-0.5 * apart, 0.0], [0.5 * apart, 1.0]], dtype=F),
        torch.stack([spd(2, 1), 0.4 * spd(2, 2)]),
        torch.tensor([weight, 1.0 - weight], dtype=F),
    )


@dataclass(frozen=True, eq=False)
class OnLine:
    """A law on the line by quadrature of its unnormalised log density: distribution function and exact draws."""

    log_density: Callable[[Tensor], Tensor]
    reach: float = 60.0

    def __post_init__(self) -> None:
        u = torch.linspace(-math.asinh(self.reach), math.asinh(self.reach), 40_001, dtype=F)
        x = u.sinh()
        height = (self.log_density(x[:, None]) + u.cosh().log()).exp()
        cumulative = torch.cat([torch.zeros(1, dtype=F), (0.5 * (height[1:] + height[:-1])).cumsum(0)])
        object.__setattr__(self, "_grid", (u, cumulative / cumulative[-1]))
        object.__setattr__(self, "mass", float(cumulative[-1] * (u[1] - u[0])))

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at ``(n,)`` points."""
        u, cumulative = self._grid  # type: ignore[attr-defined]
        place = ((x.asinh() - u[0]) / (u[1] - u[0])).clamp(0.0, len(u) - 1.001)
        low = place.floor().long()
        return torch.lerp(cumulative[low], cumulative[low + 1], place - low)

    def draw(self, n: int, seed: int) -> Tensor:
        """``(n, 1)`` independent draws."""
        u, cumulative = self._grid  # type: ignore[attr-defined]
        p = torch.rand(n, generator=generator(seed), dtype=F)
        high = torch.searchsorted(cumulative, p).clamp(1, len(u) - 1)
        share = (p - cumulative[high - 1]) / (cumulative[high] - cumulative[high - 1])
        return torch.lerp(u[high - 1], u[high], share).sinh()[:, None]

    def assert_law_of(self, x: Tensor, label: str = "") -> None:
        """Fail if independent ``(n,)`` draws are not of this law, by Kolmogorov and Smirnov."""
        distance, p = stats.kstest(self.cdf(x).numpy(), "uniform")
        assert p > RARE, f"{label}: KS distance {distance:.4g} of {len(x)} draws has p = {p:.3g}"
