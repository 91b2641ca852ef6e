r"""A short pilot: where the target's modes are, at which scales, and so the coordinates every process runs in.

Many ascents from scattered points find modes; the curvature at each, checked against the density itself, makes a Gaussian of it.
The weighted sum of these (a Laplace mixture) is a *surrogate*: it proposes and preconditions, and decides nothing, so errors in it
cost efficiency and not correctness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from rdmc.atlas import Atlas
from rdmc.coordinates import Affine, InCoordinates
from rdmc.curvature import principal_axes
from rdmc.errors import DensityError, ImproperDensityError
from rdmc.mixture import GaussianMixture
from rdmc.optimise import Ascent, ascend
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Known", "Pilot", "Survey", "Surveyor"]

_LEADERS = 8  # of the first ascents, how many are followed while the coordinates are found
_SEARCHES = 64  # batches of first points tried, at ever other radii, until the density is finite at one
_STRETCH = 3.0
_LOST = 1e3  # slope, in units of the coordinates found, at which the best point reached is nowhere near a mode
_RUNAWAY = 1e12  # an ascent that got this far from its starting point is going to infinity


@dataclass(frozen=True, eq=False)
class Survey:
    """What a pilot found.

    Attributes:
        affine: The coordinates z in which the modes lie about the origin and have unit width on average.
        surrogate: Gaussian mixture in z, one component a mode.
        peak: ``(K,)`` log density at each mode.
        hits: ``(K,)`` ascents that ended at each mode.
        unseen: Good-Turing estimate of the probability that one more ascent would find a new mode.
    """

    affine: Affine
    surrogate: GaussianMixture
    peak: Tensor
    hits: Tensor
    unseen: float

    @property
    def modes(self) -> Tensor:
        """``(K, d)`` the modes in the user's coordinates."""
        return self.affine.to_user(self.surrogate.mean)

    def groups(self) -> list[int]:
        """Which mode each component belongs to: components with no valley of a nat between them are one mode."""
        k = self.surrogate.components
        mean = self.surrogate.mean
        u = torch.linspace(0.0, 1.0, 9, dtype=mean.dtype, device=mean.device)[:, None, None, None]
        way = self.surrogate.log_prob(mean[None, :, None] * (1.0 - u) + mean[None, None] * u)
        joined = way.amin(0) >= torch.minimum(way[0], way[-1]) - 1.0
        group = list(range(k))
        for i, j in joined.nonzero().tolist():
            low, high = sorted((group[i], group[j]))
            group = [low if g == high else g for g in group]
        return group

    def whitened(self) -> Survey:
        """The same in coordinates where the components are centred and, on average, of unit covariance."""
        centre, _ = self.surrogate.moments()
        variance, axes = torch.linalg.eigh(self.surrogate.within())
        inner = Affine(centre, axes * variance.clamp(min=1e-14 * float(variance[-1])).sqrt())
        outer = Affine(self.affine.to_user(inner.centre), self.affine.factor @ inner.factor)
        return replace(
            self, affine=outer, surrogate=self.surrogate.affine(inner.centre, torch.linalg.inv(inner.factor))
        )

    def seen_in(self, affine: Affine) -> Survey:
        """The same findings in other coordinates."""
        between = torch.linalg.solve(affine.factor, self.affine.factor)
        origin = torch.linalg.solve(self.affine.factor, affine.centre - self.affine.centre)
        return replace(self, affine=affine, surrogate=self.surrogate.affine(origin, between))

    @property
    def spread(self) -> float:
        """Largest standard deviation of the surrogate in any direction, in mean mode widths."""
        _, covariance = self.surrogate.moments()
        return math.sqrt(float(torch.linalg.eigvalsh(covariance)[-1]))


class Surveyor(Protocol):
    """A way to learn about the target before any population runs."""

    @property
    def starts(self) -> int:
        """Particles whose random streams it uses."""
        ...

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """Find modes, coordinates and the surrogate."""
        ...


@dataclass(frozen=True, eq=False)
class Known:
    """What the caller knows already, for example from a Laplace or variational approximation, in place of a pilot.

    Cost: one density evaluation per component.

    Args:
        mixture: Gaussian mixture near the target, in the user's coordinates.
    """

    mixture: GaussianMixture
    starts: int = 1

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """The mixture in coordinates of its own average scale."""
        centre, _ = self.mixture.moments()
        affine = Affine.from_covariance(centre, self.mixture.within())
        surrogate = self.mixture.affine(affine.centre, torch.linalg.inv(affine.factor))
        peak = f(self.mixture.mean)
        return Survey(affine, surrogate, peak, torch.zeros(self.mixture.components, dtype=torch.int64), math.nan)


@dataclass(frozen=True)
class Pilot:
    """Multi-start ascent and curvature.

    The first starting points are scattered about the origin over log-uniform radii, because nothing is known. The curvature at the
    best point they reach gives coordinates of unit scale; each further round scatters many points about what was found, in those
    coordinates, so the pilot works in any units, and climbs from those where the density most exceeds the modes known so far.
    Rounds go on until several in a row find nothing new.

    Law: none; everything found is a proposal that later stages correct.
    Cost: per round ``starts x candidates`` density and about 5 to 15 gradient evaluations a start; per mode 4d gradient and 2d to
    24d density evaluations.

    Args:
        starts: Ascents a round.
        rounds: At most this many rounds.
        radii: Smallest and largest distance of the first starts from the origin.
        candidates: Points a start is chosen from.
        patience: Rounds without a new mode before stopping.
        unseen: Stop only if the Good-Turing estimate of the probability of a new mode is at most this.
        modes: Keep at most this many.

    Raises:
        ValueError: If an argument is out of range.
    """

    starts: int = 64
    rounds: int = 32
    radii: tuple[float, float] = (0.1, 100.0)
    candidates: int = 32
    patience: int = 3
    unseen: float = 0.02
    modes: int = 64

    def __post_init__(self) -> None:
        for name in ("starts", "rounds", "candidates", "patience", "modes"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {getattr(self, name)!r}")
        low, high = self.radii
        if not 0.0 < low <= high:
            raise ValueError(f"`radii` must be two positive floats in increasing order, got {self.radii!r}")

    def first_points(self, dim: int, rng: Streams) -> Tensor:
        """``(starts, d)`` points in uniform directions at log-uniform radii."""
        low, high = (math.log(r) for r in self.radii)
        direction = rng.normal((rng.particles, dim))
        radius = torch.exp(low + (high - low) * rng.uniform((rng.particles,)))
        return direction / direction.norm(dim=-1, keepdim=True) * radius[:, None]

    def _usable_points(self, f: BatchedDensity, rng: Streams) -> Tensor:
        """The first points, or where the density is finite at none of them, points at other radii until it is at one."""
        x = self.first_points(f.dim, rng)
        value = f(x)
        for stretch in range(1, _SEARCHES):
            if bool(torch.isfinite(value).any()):
                break
            x = _STRETCH ** (stretch % 8 - 3) * self.first_points(f.dim, rng)
            value = f(x)
        return x

    def _next_points(self, atlas: Atlas, rng: Streams) -> Tensor:
        """``(starts, d)`` starting points: half where the density most exceeds what the known modes explain, half anywhere."""
        points = _scattered(atlas.surrogate(self.modes)[0], self.candidates, rng)
        chosen = atlas.excess(points).topk(self.starts // 2).indices
        return torch.cat([points[chosen], points[: self.starts - len(chosen)]])

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """Find modes, coordinates and the surrogate.

        Args:
            f: The log density in the user's coordinates.
            rng: Streams of ``starts`` particles.

        Raises:
            DensityError: If the density is not finite at any starting point.
            ImproperDensityError: If ascents run off to infinity.
        """
        reached = _climb(f, self._usable_points(f, rng))
        affine = _coordinates(f, reached)
        _require_arrival(InCoordinates(f, affine), torch.zeros_like(affine.centre))
        atlas = Atlas(InCoordinates(f, affine))
        atlas.add(torch.cat([torch.zeros_like(affine.centre)[None], affine.to_white(reached.x)]))
        quiet = 0
        for _ in range(1, self.rounds):
            known = len(atlas.mean)
            atlas.add(self._next_points(atlas, rng))
            quiet = quiet + 1 if len(atlas.mean) == known else 0
            if quiet >= self.patience and atlas.unseen() <= self.unseen:
                break
        mixture, peak, hits = atlas.surrogate(self.modes)
        return Survey(affine, mixture, peak, hits, atlas.unseen()).whitened()


def _climb(f: BatchedDensity, x: Tensor) -> Ascent:
    """Ascents from the first points, or the reason why there are none."""
    end = ascend(f, x)
    finite = torch.isfinite(end.value)
    if not bool(finite.any()):
        raise DensityError(
            f"`log_density` must be finite at some of the {x.shape[0]} starting points, got {end.value.unique().tolist()[:4]}; "
            "pass a `Pilot` with other `radii`, or shift the density to where its mass is"
        )
    away = finite & ~end.converged & ((end.x - x).norm(dim=-1) > _RUNAWAY * (1.0 + x.norm(dim=-1)))
    if bool(away.any()):
        raise ImproperDensityError(
            f"`log_density` must have finite mass: {int(away.sum())} of {x.shape[0]} ascents went further than {_RUNAWAY:.0e} "
            "times their starting distance and still climbed; check the prior and the sign",
            points=end.x[away],
        )
    return Ascent(*(part[finite] for part in end))


def _coordinates(f: BatchedDensity, reached: Ascent) -> Affine:
    """Coordinates of unit scale at the best mode the first ascents lead to.

    One measurement of the curvature resolves scales over eight orders of magnitude at best, and an ascent in bad coordinates may
    not arrive; measuring and climbing again in the coordinates just found, until they stay, makes both exact.
    """
    leaders = reached.x[reached.value.argsort(descending=True)[:_LEADERS]]
    affine = Affine(leaders[0], torch.eye(f.dim, dtype=leaders.dtype, device=leaders.device))
    for _ in range(8):
        g = InCoordinates(f, affine)
        origin = torch.zeros_like(affine.centre)
        axes, sd = principal_axes(g, origin, g(origin))
        affine = Affine(affine.centre, affine.factor @ (axes * sd))
        end = ascend(InCoordinates(f, affine), affine.to_white(leaders))
        leaders = affine.to_user(end.x)
        affine = Affine(leaders[end.value.argmax()], affine.factor)
        if bool(end.converged.any()) and float(sd.max()) < 2.0 and float(sd.min()) > 0.5:
            break
    return affine


def _require_arrival(f: BatchedDensity, origin: Tensor) -> None:
    """Refuse to go on from a best point, the origin, that is nowhere near a mode.

    Raises:
        DensityError: If the density still rises steeply there, or is so low that its floating type cannot tell a nat.
    """
    value, grad = f.value_and_grad(origin[None])
    blind = float(value.abs()) * torch.finfo(value.dtype).eps > 0.1
    if blind or not float(grad.norm()) < _LOST:
        raise DensityError(
            f"`log_density` must lead from some starting point to a mode; the best point reached has log density "
            f"{float(value):.3g} and slope {float(grad.norm()):.3g} a unit. "
            "Pass a `Pilot` with other `radii`, or shift the density to its mass"
        )


def _scattered(surrogate: GaussianMixture, multiple: int, rng: Streams) -> Tensor:
    """``(multiple B, d)`` points, a third each: in the shape of what was found, in all directions, about one mode at any scale."""
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
    return torch.where(kind < 1 / 3, shaped, torch.where(kind < 2 / 3, round_, about_one)).flatten(0, 1)
