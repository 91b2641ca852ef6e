r"""A short pilot: where the target's modes are, at which scales, and so the coordinates every process runs in.

Many ascents from scattered points find modes; the curvature at each, checked against the density itself, makes a Gaussian of it.
The weighted sum of these (a Laplace mixture) is a *surrogate*: it proposes and preconditions, and decides nothing, so errors in it
cost efficiency and not correctness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

import torch
from torch import Tensor

from rdmc.arguments import whole
from rdmc.coordinates import Affine, InCoordinates
from rdmc.errors import DensityError
from rdmc.locate.approach import climb, coordinates, doggedly, require_arrival, require_finite_mass
from rdmc.locate.atlas import TAIL, Atlas
from rdmc.locate.constellation import find_symmetry, level, seems_symmetric
from rdmc.locate.scan import Scan, equally_explained, scattered
from rdmc.locate.settling import misplaced, moved
from rdmc.locate.survey import Overlooked, Survey
from rdmc.locate.variational import MeanField
from rdmc.rng import Streams
from rdmc.supports.bounds import BOTTOMLESS, find_box
from rdmc.supports.facets import find_polyhedron
from rdmc.supports.support import Support
from rdmc.typing import BatchedDensity

__all__ = ["Crowd", "Pilot", "extended"]

Crowd = Callable[[int, Streams], Tensor]
"""Draws at most so many points ``(n, d)``."""

_SEARCHES = (32, 256)  # times that first points at other radii are tried: at least, and over the dimension
_CROWD = 32  # points a start at each of these radii
_STRETCHES = tuple(3.0**k for k in range(-3, 5))
_SECTORS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: x.abs(),
    lambda x: -x.abs(),
    lambda x: x.sort(-1).values,
    lambda x: x.abs().sort(-1).values,
    lambda x: x.sort(-1, descending=True).values,
)  # of the sets that hold the support of a density with bounds, those that are most often met
_SKETCH = 64  # modes kept where no list is complete
_SYMMETRY_KEY = 0xFFFFFFFE  # of streams of its own, so that a search that finds none is the same search
_LOOKS = (2, 4, 8, 12, 16, 20, 24, 28)  # rounds after which symmetries are looked for
_SKY = 2048  # modes among which they are looked for
_SCOUTS = 4  # one in so many of further ascents goes first, ...
_ARRIVE = 0.75  # ... and this share of them has to arrive, or one to find a mode, for the others to be worth their cost


@dataclass(frozen=True)
class Pilot:
    """Multi-start ascent and curvature.

    The first starting points are scattered about the origin over log-uniform radii, because nothing is known. The curvature at the
    best point they reach gives coordinates of unit scale; each further round scatters many points about what was found, in those
    coordinates, so the pilot works in any units, and climbs from those where the density most exceeds the modes known so far.
    Rounds go on until several in a row find nothing new. If no ascent leads to a mode, as where a density has no upper limit,
    Gaussians that climb the evidence lower bound take the modes' place. If a mode is found that leaves nothing to the place of the
    coordinates, as where all first ascents stopped on the way, the search goes on in its coordinates (:mod:`rdmc.locate.settling`).

    If affine maps are found under which the density is the same (:func:`rdmc.locate.constellation.find_symmetry`), as the
    renamings of exchangeable labels are, one mode of each orbit is looked for, at places in all images.

    Law: none; everything found is a proposal that later stages correct.
    Cost: per round ``starts x candidates`` density and about 5 to 15 gradient evaluations a start; per mode 4d gradient and 2d to
    24d density evaluations; ``starts^2 x scan`` points with one to three density evaluations each in a scan, of which there is
    one, and one more whenever it has found a mode; once, 2d to see that the density falls. Where modes have one height, also
    that of looking for symmetries. Ascents on long ridges take 50 to 100 gradient evaluations. Where the first points have next to
    no value, up to ``256 x starts x max(32, 256 / d)`` density evaluations look for others.

    Args:
        starts: Ascents a round.
        rounds: At most this many rounds.
        radii: Smallest and largest distance of the first starts from the origin.
        candidates: Points a start is chosen from.
        patience: Rounds without a new mode before stopping.
        unseen: Stop only if the Good-Turing estimate of the probability of a new mode is at most this.
        modes: Keep at most this many; if there are estimated to be more, no list of modes will do, and the search ends early.
        scan: ``starts^2 x scan`` points are searched at the end for modes too narrow to draw ascents.

    Raises:
        ValueError: If an argument is out of range.
    """

    starts: int = 64
    rounds: int = 32
    radii: tuple[float, float] = (0.1, 100.0)
    candidates: int = 32
    patience: int = 5
    unseen: float = 0.02
    modes: int = 256
    scan: int = 36

    def __post_init__(self) -> None:
        for name in ("starts", "rounds", "candidates", "patience", "modes", "scan"):
            count = whole(getattr(self, name))
            if count is None or count < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {getattr(self, name)!r}")
        if not 0.0 <= self.unseen <= 1.0:
            raise ValueError(f"`unseen` must be a probability, got {self.unseen!r}")
        if (
            not isinstance(self.radii, tuple)
            or len(self.radii) != 2
            or not 0.0 < self.radii[0] <= self.radii[1] < math.inf
        ):
            raise ValueError(f"`radii` must be two positive floats in increasing order, got {self.radii!r}")

    def with_effort(self, effort: float) -> Pilot:
        """The same with ``effort`` times the points scanned."""
        return replace(self, scan=max(1, round(self.scan * effort)))

    def first_points(self, dim: int, rng: Streams) -> Tensor:
        """``(starts, d)`` points in uniform directions at log-uniform radii."""
        low, high = (math.log(r) for r in self.radii)
        direction = rng.normal((rng.particles, dim))
        radius = torch.exp(low + (high - low) * rng.uniform((rng.particles,)))
        return direction / direction.norm(dim=-1, keepdim=True) * radius[:, None]

    def support(self, f: BatchedDensity, rng: Streams) -> Support | None:
        """Where the density is not -inf, or None: if that is at all first points, or no box and no polyhedron.

        Cost: ``starts`` density evaluations; of a density that is -inf at some of these, that of the first points of a
        search, of :func:`rdmc.supports.bounds.find_box`, and of :func:`rdmc.supports.facets.find_polyhedron` where there is no box.
        """
        if not bool((f(self.first_points(f.dim, rng)) == -torch.inf).any()):
            return None
        points = self._usable_points(f, rng)
        return find_box(f, points, rng) or find_polyhedron(f, points, rng)

    def _usable_points(self, f: BatchedDensity, rng: Streams) -> Tensor:
        """The first points, or where the density has next to no value at any of them, the highest of many at other radii.

        Some have coordinates of one sign, as where all are positive, or in order; in many dimensions others hardly ever do.
        """
        x = self.first_points(f.dim, rng)
        value = f(x).nan_to_num(-torch.inf, posinf=-torch.inf)
        least, most = _SEARCHES
        for _ in range(max(least, most // f.dim)):
            if float(value.max()) > BOTTOMLESS:
                break
            rings = [stretch * self.first_points(f.dim, rng) for stretch in _STRETCHES for _ in range(_CROWD)]
            crowd = torch.cat([x, *(way(ring) for way, ring in zip(cycle(_SECTORS), rings, strict=False))])
            height = torch.cat([value, f(crowd[len(x) :]).nan_to_num(-torch.inf, posinf=-torch.inf)])
            highest = height.argsort(descending=True, stable=True)[: len(x)]
            x, value = crowd[highest], height[highest]
        return x

    def _next_points(self, atlas: Atlas, rng: Streams) -> Tensor:
        """``(starts, d)`` starting points: half where the density most exceeds what the known modes explain, half anywhere.

        Half of the first half grants the modes Gaussian tails and half heavy ones. Points compete with those that are explained
        equally well, lest a tail that is heavier than granted win everywhere.
        """
        points = atlas.anywhere(scattered(atlas.surrogate(self.modes)[0], self.candidates, rng), rng).flatten(0, 1)
        value = atlas.f(points)
        rivals = max(1, self.starts // 4)
        chosen = [_outstanding(atlas, points, value, rivals, df) for df in (None, TAIL)]
        return torch.cat([points[torch.cat(chosen)], points[: self.starts - 2 * rivals]])

    def run(self, f: BatchedDensity, rng: Streams) -> Survey:
        """Find modes, coordinates and the surrogate.

        Args:
            f: The log density in the user's coordinates.
            rng: Streams of ``starts`` particles.

        Raises:
            DensityError: If the density is not finite at any starting point, or neither ascents nor Gaussians find its mass.
            ImproperDensityError: If ascents run off to infinity, or the density does not fall along a direction.
        """
        return self.search(f, rng).all_images(self.modes)

    def search(self, f: BatchedDensity, rng: Streams, crowd: Crowd | None = None) -> Survey:
        """The same, with one mode of each orbit if the density has symmetries.

        Args:
            f: The log density in the user's coordinates.
            rng: Streams of ``starts`` particles.
            crowd: Where it is known how far modes can be, what draws so many points there: a scan looks at these, too, and at half
                as many in shells.
        """
        first = self._usable_points(f, rng)
        reached = climb(f, first)
        try:
            affine = coordinates(f, reached)
            require_arrival(InCoordinates(f, affine), torch.zeros_like(affine.centre))
        except DensityError:
            survey = _by_bound(f, first, rng)
            if survey is not None:
                return survey
            affine = doggedly(f, first)
        scaled, origin = InCoordinates(f, affine), torch.zeros_like(affine.centre)
        require_finite_mass(scaled, origin, torch.eye(f.dim, dtype=origin.dtype, device=origin.device))
        atlas, scan = Atlas(scaled), Scan(self.starts**2 * self.scan // (1 if crowd is None else 2))
        atlas.add(torch.cat([origin[None], affine.to_white(reached.x)]))
        quiet, endless, missed, symmetric = 0, False, Overlooked(), True
        for round_ in range(1, self.rounds):
            known = len(atlas.heavy())
            atlas.add(self._next_points(atlas, rng))
            if misplaced(atlas):
                affine, atlas = moved(f, affine, atlas)
                quiet = 0
                continue
            quiet = quiet + 1 if len(atlas.heavy()) <= known else 0
            symmetric = symmetric and not atlas.broken
            endless = len(atlas.mean) >= self.starts and atlas.endless(self.modes)
            done = quiet >= self.patience and atlas.unseen() <= self.unseen
            if symmetric and (done or endless or round_ in _LOOKS):
                atlas, more = self._symmetric(atlas)
                if more:
                    quiet, endless = 0, False
                    continue
                endless = endless and not (round_ < _LOOKS[-1] and seems_symmetric(*atlas.surrogate(_SKY)[:2]))
            if endless:
                break
            if done:
                besides = None if crowd is None else affine.to_white(crowd(self.starts**2 * self.scan, rng))
                strange, missed = scan.run(atlas, atlas.surrogate(self.modes)[0], 4 * self.starts, rng, besides)
                atlas.add(strange)
                if len(atlas.heavy()) <= known and atlas.broken != symmetric:
                    break
                quiet = 0
        mixture, peak, hits = atlas.sketch(min(self.modes, _SKETCH)) if endless else atlas.surrogate(self.modes)
        return Survey(affine, mixture, peak, hits, atlas.unseen(), missed, atlas.symmetry).whitened()

    def _symmetric(self, atlas: Atlas) -> tuple[Atlas, bool]:
        """One mode of each orbit, if more maps are found under which the density is the same, and whether some were."""
        mean = atlas.mean[0]
        if atlas.symmetry is not None and not bool(level(torch.stack(atlas.peak)).any()):
            return atlas, False  # no two orbits of one height that another map could join
        rng = Streams.seeded(0, [self.starts], [(_SYMMETRY_KEY,)], dtype=mean.dtype, device=mean.device)
        modes, peak, _ = atlas.unfolded(_SKY).surrogate(_SKY)
        found = find_symmetry(atlas.f, modes, peak, rng, atlas.symmetry)
        if found is None or (atlas.symmetry is not None and found.order <= atlas.symmetry.order):
            return atlas, False
        return atlas.unfolded(_SKY).folded(found), True


def extended(f: BatchedDensity, survey: Survey, points: Tensor) -> Survey:
    """A survey with the modes that ascents from more points reach, in the same coordinates; itself if there are none.

    A quarter of the points goes first. Where these find nothing and many arrive nowhere, as on a density without an upper limit,
    the others stay where they are.

    Cost: 5 to 15 gradient evaluations a point, and 4d for every new mode; 160 where ascents do not arrive.

    Args:
        f: Log density in the survey's coordinates.
        survey: What is known.
        points: ``(M, d)`` where to climb from.
    """
    atlas = Atlas(f)
    atlas.recall(survey.surrogate, survey.peak, survey.hits)
    known = len(atlas.mean)
    scout = torch.arange(len(points), device=points.device) % _SCOUTS == 0
    arrived = atlas.add(points[scout])
    if arrived >= _ARRIVE or any(atlas.matters()[known:]):
        atlas.add(points[~scout])
    if len(atlas.mean) <= known:
        return survey
    mixture, peak, hits = atlas.surrogate(len(atlas.mean))
    return Survey(survey.affine, mixture, peak, hits, atlas.unseen(), survey.overlooked)


def _by_bound(f: BatchedDensity, points: Tensor, rng: Streams) -> Survey | None:
    """Where the mass is if ascents lead to no mode: Gaussians that climbed the evidence lower bound, or None if none arrived.

    They stand for modes. Nothing is known of how many others there are.
    """
    found = MeanField().mixture(f, points, f(points), rng)
    if found is None:
        return None
    mixture = found[0].levelled(0.2)
    affine = Affine(torch.zeros_like(mixture.mean[0]), mixture.basis[0])
    hits = torch.ones(mixture.components, dtype=torch.int64, device=points.device)
    return Survey(affine, mixture, f(mixture.mean), hits, math.nan).whitened()


def _outstanding(atlas: Atlas, points: Tensor, value: Tensor, count: int, df: int | None) -> Tensor:
    """``(count,)`` which of ``(M, d)`` points exceed what the known modes explain the most, each among equally explained ones."""
    beyond, explained = atlas.excess(points, value, df)
    equal = equally_explained(explained, count)
    return equal.gather(1, beyond[equal].argmax(1, keepdim=True))[:, 0]
