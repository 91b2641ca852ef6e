"""A look at many points for modes too narrow to draw an ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.locate.atlas import STRANGE, TAIL, Atlas
from rdmc.locate.overlooked import overlooked
from rdmc.locate.survey import Overlooked
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams

__all__ = ["Scan", "between", "equally_explained", "scattered"]

_AT_ONCE = 8192  # points
_ROUND = 0.5  # of the widths for points in all directions alike, which are measured by a mode's widest direction
_AMONG = 0.1  # of the widths for points about all modes: from a fifth of their spread to six times that


@dataclass(frozen=True)
class Scan:
    """Values at points in shells about the known modes, from near to far, and from where the density rises strangely.

    A narrow mode beside a wide one draws ascents only from a small ball about itself, so many points are looked at. They lie about
    the known modes, in their shape and in all directions alike, as a mode that is thin in some direction says nothing of how far
    others are there; and, where there are several, about all, at distances like those between them. Those outside the support,
    as bounds leave most, give their places to points between two that are inside.

    Law: none. Cost: two or three density evaluations a point, one more for those that fall outside. Source: ours.

    Args:
        points: At most this many.
        widths: From where to where it looks, in widths of a mode.
        shells: Distances in between, in equal ratios.
    """

    points: int
    widths: tuple[float, float] = (2.0, 60.0)
    shells: int = 22

    def run(
        self, atlas: Atlas, known: GaussianMixture, groups: int, rng: Streams, crowd: Tensor | None = None
    ) -> tuple[Tensor, Overlooked]:
        """Where to climb from, and what would have escaped all points.

        Args:
            atlas: What is known.
            known: Its modes.
            groups: Points compete with those that are explained equally well, in this many groups.
            rng: Random numbers; points come in multiples of its particles.
            crowd: ``(n, d)`` points to look at besides, which are everywhere that modes can be.

        Returns:
            ``(n, d)`` points, n <= groups, of each group the one with the strangest slope; and the shares of modes overlooked.
        """
        known = known.levelled(1.0)
        laws = [known, known.rounded().widened(_ROUND)]
        if known.components > 1:
            laws.append(known.gathered().widened(_AMONG))
        draws = max(1, self.points // (rng.particles * self.shells * len(laws)))
        batch = max(1, _AT_ONCE // (rng.particles * len(laws)))
        counts = [min(batch, draws - first) for first in range(0, draws, batch)]
        shells = [self._shell(atlas, laws, shell, count, rng) for shell in range(self.shells) for count in counts]
        x = torch.cat(shells if crowd is None else [*shells, crowd])
        slope, value, explained = _seen(atlas, x)
        outside = (~torch.isfinite(value)).nonzero()[:, 0]
        if 0 < len(outside) < len(x) - 1:
            x[outside] = between(x[torch.isfinite(value)], len(outside), rng)
            slope[outside], value[outside], explained[outside] = _seen(atlas, x[outside])
        equal = equally_explained(explained, groups)
        strange = (slope[equal] - slope[equal].nanmedian(1, keepdim=True).values).abs().nan_to_num(0.0, torch.inf)
        most, at = strange.max(1)
        chosen = equal[torch.arange(len(at), device=at.device), at][most > STRANGE]
        return x[chosen], overlooked(atlas, x, value, 0 if crowd is None else len(x) - len(crowd))

    def _shell(self, atlas: Atlas, laws: list[GaussianMixture], shell: int, count: int, rng: Streams) -> Tensor:
        """``(M, d)`` points of one shell."""
        low, high = self.widths
        widening = low * (high / low) ** ((shell + 0.5) / self.shells)
        x = torch.cat([law.widened(widening).draw(rng, (count,))[0] for law in laws])
        return atlas.anywhere(x, rng).flatten(0, 1)


def _seen(atlas: Atlas, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At each of ``(M, d)`` points the slope, the value, and what known modes explain of it."""
    parts = []
    for some in x.split(_AT_ONCE):
        slope, value = atlas.slope(some)
        parts.append((slope, value, atlas.excess(some, value, TAIL)[1]))
    slope, value, explained = (torch.cat(part) for part in zip(*parts, strict=True))
    return slope, value, explained


def between(x: Tensor, count: int, rng: Streams) -> Tensor:
    """``(count, d)`` points, each uniform on the way between two of ``(M, d)`` points: they fill what is convex about them."""
    shape = (-(-count // rng.particles), rng.particles)
    a, b = (x[rng.integers(shape, len(x)).flatten()[:count]] for _ in range(2))
    return a + rng.uniform(shape).flatten()[:count, None] * (b - a)


def scattered(surrogate: GaussianMixture, multiple: int, rng: Streams) -> Tensor:
    """``(multiple, B, d)`` points, a third each: in the shape of what was found, in all directions, about one mode at any scale."""
    m, d = rng.particles, surrogate.dim
    mean, covariance = surrogate.moments()
    values, vectors = torch.linalg.eigh(covariance)
    size = 0.5 * torch.exp(math.log(6.0) * rng.uniform((multiple, m)))[..., None]
    z = rng.normal((multiple, m, d))
    shaped = mean + size * ((z * values.clamp(min=0.0).sqrt()) @ vectors.T)
    round_ = mean + 0.5 * size * values[-1].sqrt() * z
    flat = GaussianMixture(torch.zeros_like(surrogate.log_weight), surrogate.mean, surrogate.basis, surrogate.variance)
    point, label = flat.draw(rng, (multiple,))
    widening = torch.exp(math.log(1000.0) * rng.uniform((multiple, m)))[..., None]
    about_one = flat.mean[label] + widening * (point - flat.mean[label])
    kind = rng.uniform((multiple, m))[..., None]
    return torch.where(kind < 1 / 3, shaped, torch.where(kind < 2 / 3, round_, about_one))


def equally_explained(explained: Tensor, groups: int) -> Tensor:
    """``(groups, M // groups)`` indices of ``(M,)`` points, in the order of what is explained; what is left over is left out."""
    return explained.nan_to_num().argsort()[: len(explained) // groups * groups].view(groups, -1)
