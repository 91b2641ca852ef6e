"""Filing ascents under the modes they reached: which ends are one mode, and how wide each mode is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.locate.curvature import principal_axes
from rdmc.locate.optimise import Ascent, ascend_further
from rdmc.locate.orbits import Modes, all_images, one_of_each
from rdmc.locate.symmetry import Symmetry
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from rdmc.typing import BatchedDensity

__all__ = ["STRANGE", "TAIL", "Atlas"]

TAIL = 3  # degrees of freedom that the tails of known modes are granted while new ones are looked for
STRANGE = 0.05  # relative error of a mode's height, seen from a point, above which the point may not belong to it
_GAIN = 0.05  # nats gained by a step of one width up the slope, above which the slope goes on
_SLOPE = 0.3  # norm of the gradient, in units of the mode's own widths, above which a point is not a mode
_CROWDED = 16.0  # modes of any mass for each place, beyond which the heavy ones are not found among them
_LIGHTER = 7.0  # nats below the heaviest mode
_AHEAD = 0.03  # of the way to a mode
_VALLEY = 0.3  # nats by which the density must fall between two optima for them to be two components
_IMAGES = 2048  # modes kept of a symmetry that is given up
_UNLIKE = 1e-6  # difference of values at images, over 1 + the value, above which there is no symmetry


class Atlas:
    """The modes found so far, with the ascents that ended at each; of a symmetric density one mode of each orbit.

    Args:
        f: Log density in coordinates where modes have about unit width.
        symmetry: Maps under which it is the same.

    Attributes:
        broken: Whether an ascent ended where an image has another density, and the symmetry was given up.
    """

    def __init__(self, f: BatchedDensity, symmetry: Symmetry | None = None) -> None:
        self.f = f
        self.symmetry = symmetry
        self.broken = False
        self.mean: list[Tensor] = []
        self.axes: list[Tensor] = []
        self.sd: list[Tensor] = []
        self.peak: list[Tensor] = []
        self.hits: list[int] = []

    def add(self, x: Tensor) -> float:
        """Climb from every point and file the ends under the modes they belong to; ends that are rounding alone are left out.

        Returns:
            The share of the ascents that arrived somewhere.
        """
        if len(x) == 0:
            return 1.0
        end = self._homed(ascend_further(self.f, x, self.peak))
        arrived = end.converged if bool(end.converged.any()) else torch.isfinite(end.value)
        order = end.value[arrived].argsort(descending=True)
        left_x, left_value, left_grad = end.x[arrived][order], end.value[arrived][order], end.grad[arrived][order]
        left = torch.ones_like(left_value, dtype=torch.bool)
        if self.mean:
            left &= ~self._claim(left_x, left_value)
        while bool(left.any()):
            i = int(left.nonzero()[0, 0])
            left[i] = False
            owner = self._owner(left_x[i], left_value[i])
            if owner is not None and left_value[i] <= self.peak[owner] + _VALLEY:
                self.hits[owner] += 1
            elif owner is not None:  # an ascent had stalled on the way up to here
                self._place(owner, left_x[i], left_value[i], *principal_axes(self.f, left_x[i], left_value[i]))
                left &= ~self._claim_at(owner, left_x, left_value, left)
            elif self._found(left_x[i], left_value[i], left_grad[i]):
                left &= ~self._claim_at(-1, left_x, left_value, left)
        return float(end.converged.double().mean())

    def anywhere(self, x: Tensor, rng: Streams) -> Tensor:
        """``(..., B, d)`` points, each moved to an image drawn at random: images are looked at, not taken for granted."""
        return x if self.symmetry is None else self.symmetry.anywhere(x, rng)

    def folded(self, symmetry: Symmetry) -> Atlas:
        """What is known, one mode of each orbit."""
        return self._with(symmetry, one_of_each(self._all(), symmetry))

    def unfolded(self, modes: int) -> Atlas:
        """What is known, with all images of it, the heaviest ``modes``; itself where no symmetry is."""
        return self if self.symmetry is None else self._with(None, all_images(self._all(), self.symmetry, modes))

    def _all(self) -> Modes:
        return self._mixture(self.log_mass().argsort(descending=True))

    def _with(self, symmetry: Symmetry | None, modes: Modes) -> Atlas:
        atlas = Atlas(self.f, symmetry)
        atlas.recall(*modes)
        return atlas

    def _homed(self, end: Ascent) -> Ascent:
        """The ends moved to the images with the largest share; as they are, and no symmetry any more, if one has no image."""
        if self.symmetry is None:
            return end
        g = self.symmetry.home(end.x)
        x, grad = self.symmetry.moved(end.x, g), torch.einsum("mji,mj->mi", self.symmetry.inverse[g], end.grad)
        value = self.f(x)
        same = (value - end.value).abs() <= _UNLIKE * (1.0 + value.abs())
        if bool((same | ~end.converged).all()):
            return Ascent(x, end.value, grad, end.converged)
        images = all_images(self._all(), self.symmetry, _IMAGES)
        for part in (self.mean, self.axes, self.sd, self.peak, self.hits):
            part.clear()
        self.recall(*images)
        self.symmetry, self.broken = None, True
        return end

    def recall(self, mixture: GaussianMixture, peak: Tensor, hits: Tensor) -> None:
        """Take up modes found before, at no evaluation."""
        self.mean += list(mixture.mean)
        self.axes += list(mixture.basis)
        self.sd += list(mixture.variance.sqrt())
        self.peak += list(peak)
        self.hits += hits.tolist()

    def excess(self, x: Tensor, value: Tensor, df: int | None) -> tuple[Tensor, Tensor]:
        """``(M,)`` log density above what the known modes explain, and what they explain; where it is large, something is missing.

        Args:
            x: ``(M, d)`` points.
            value: ``(M,)`` log density there.
            df: Degrees of freedom of the tails that the modes are granted, or None for Gaussian ones. Without tails whatever lies
                between two modes of a heavy-tailed density seems to be a third; with them a narrow mode near a Gaussian one is
                harder to see.
        """
        mean, axes, sd = torch.stack(self.mean), torch.stack(self.axes), torch.stack(self.sd)
        mass = self.log_mass() + 0.5 * self.f.dim * math.log(2.0 * math.pi)
        gaussian = GaussianMixture(mass, mean, axes, sd.square())
        law = gaussian if df is None else StudentMixture(gaussian, df)
        explained = law.log_prob(self._home(x)[0]) + torch.logsumexp(mass, 0)
        beyond = value - explained
        return torch.where(torch.isnan(beyond), torch.full_like(beyond, -torch.inf), beyond), explained

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(M,)`` how fast the density rises from ``(M, d)`` points to the mode that each seems to belong to, and its value there.

        The unit is the slope of a Gaussian that has its mode there and the density's value at x: 1 for a Gaussian mode, however
        wide in that direction, and something that depends on the distance most of all for one with other tails. Infinite
        where x is higher than the mode, NaN outside the support.
        """
        mean, peak, mass = torch.stack(self.mean), torch.stack(self.peak), self.log_mass()
        value = self.f(x)
        home, back = self._home(x)
        square = self.f.dim * self._distance(home).square()
        light = (mass - 0.5 * square).argmax(1)
        heavy = (mass - 0.5 * (TAIL + self.f.dim) * torch.log1p(square / TAIL)).argmax(1)
        slope = torch.full_like(value, torch.inf)
        for owner, unsure in ((light, True), (heavy, heavy != light)):
            at = (((slope - 1.0).abs() > STRANGE) & torch.isfinite(value) & unsure).nonzero()[:, 0]
            if len(at) == 0:
                continue
            k = owner[at]
            way = mean[k] - home[at]
            rise = (
                self.f(x[at] + _AHEAD * (way if back is None else torch.einsum("mij,mj->mi", back[at], way)))
                - value[at]
            )
            height = peak[k] - value[at]
            gaussian = _AHEAD * (2.0 - _AHEAD) * height  # h (1 - (1 - a)^2), what a Gaussian h below its mode rises by
            other = torch.where(height > 0, rise / gaussian, torch.inf).nan_to_num(torch.inf, torch.inf)
            slope[at] = torch.where((other - 1.0).abs() < (slope[at] - 1.0).abs(), other, slope[at])
        return slope.masked_fill(~torch.isfinite(value), torch.nan), value

    def log_mass(self) -> Tensor:
        """``(K,)`` log of the mass that Laplace's method gives each mode, up to a constant."""
        return torch.stack(self.peak) + torch.stack(self.sd).log().sum(-1)

    def matters(self) -> list[bool]:
        """Which modes could matter: those not lighter than the heaviest by more than a rough estimate can err."""
        mass = self.log_mass()
        return (mass >= mass.max() - _LIGHTER).tolist()

    def heavy(self) -> list[int]:
        """Hits of each mode that could matter."""
        return [h for h, matters in zip(self.hits, self.matters(), strict=True) if matters]

    def unseen(self) -> float:
        """Good-Turing: the fraction of ascents to modes that matter whose mode was reached only once."""
        hits = self.heavy()
        return sum(h == 1 for h in hits) / max(1, sum(hits))

    def richness(self, hits: list[int]) -> float:
        """Chao's estimate of the number of modes, from those that one ascent and two reached; a lower bound.

        Source: Chao (1984), Scand. J. Statist. 11, 265-270.
        """
        once, twice = (sum(h == n for h in hits) for n in (1, 2))
        return len(hits) + once * (once - 1) / (2.0 * (twice + 1))

    def endless(self, modes: int) -> bool:
        """Whether more modes seem to matter than a list can hold, or so many more exist that finding those would take for ever."""
        return self.richness(self.heavy()) > modes or self.richness(self.hits) > _CROWDED * modes

    def surrogate(self, modes: int) -> tuple[GaussianMixture, Tensor, Tensor]:
        """The mixture of the heaviest modes, their peaks and hits; with a floor under small weights, for Laplace's are rough."""
        return self._mixture(self.log_mass().argsort(descending=True)[:modes])

    def sketch(self, modes: int) -> tuple[GaussianMixture, Tensor, Tensor]:
        """The same of a list that can't be complete: half of its places for the heaviest modes, half spread over all others.

        Where every coordinate has two wells, the heaviest modes alone may all lie in the same well of some.
        """
        order = self.log_mass().argsort(descending=True)
        first, rest = order[: modes // 2], order[modes // 2 :]
        spread = torch.linspace(0, len(rest) - 1, min(len(rest), modes - len(first))).round().long()
        return self._mixture(torch.cat([first, rest[spread.to(rest.device)]]))

    def _mixture(self, keep: Tensor) -> tuple[GaussianMixture, Tensor, Tensor]:
        mean, axes, sd = torch.stack(self.mean), torch.stack(self.axes), torch.stack(self.sd)
        peak, hits = torch.stack(self.peak), torch.tensor(self.hits)
        log_weight = self.log_mass()
        keep = keep[log_weight[keep] >= log_weight.max() - 20.0]
        mixture = GaussianMixture(log_weight[keep], mean[keep], axes[keep], sd[keep].square()).levelled(0.2)
        return mixture, peak[keep], hits[keep.cpu()]

    def _home(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The images of ``(M, d)`` points with the largest share, and the ``(M, d, d)`` matrices of the way back."""
        if self.symmetry is None:
            return x, None
        g = self.symmetry.home(x)
        return self.symmetry.moved(x, g), self.symmetry.inverse[g]

    def _distance(self, x: Tensor) -> Tensor:
        """``(M, K)`` Mahalanobis distance to each mode, per square root of the dimension."""
        mean, axes, sd = torch.stack(self.mean), torch.stack(self.axes), torch.stack(self.sd)
        turned = torch.einsum("mi,kij->mkj", x, axes) - torch.einsum("ki,kij->kj", mean, axes)
        return (turned / sd).square().mean(-1).sqrt()

    def _stands(self, distance: Tensor, value: Tensor, peak: Tensor, dim: int) -> Tensor:
        """Whether a point at this distance and height stands at the mode."""
        return (distance < 0.1) & (value > peak - 0.1 - 0.1 * dim**0.5)

    def _claim(self, x: Tensor, value: Tensor) -> Tensor:
        """Which of the points stand at a known mode; each is counted as a hit of the first that it stands at."""
        same = self._stands(self._distance(x), value[:, None], torch.stack(self.peak), x.shape[-1])
        for k in same[same.any(1)].int().argmax(1).tolist():
            self.hits[k] += 1
        return same.any(1)

    def _claim_at(self, mode: int, x: Tensor, value: Tensor, left: Tensor) -> Tensor:
        """The same for one mode, among the points that are left."""
        turned = ((x - self.mean[mode]) @ self.axes[mode] / self.sd[mode]).square().mean(-1).sqrt()
        same = left & self._stands(turned, value, self.peak[mode], x.shape[-1])
        self.hits[mode] += int(same.sum())
        return same

    def _owner(self, x: Tensor, value: Tensor) -> int | None:
        """The mode x belongs to: the density along the way to it never falls more than ``_VALLEY`` below the lower end."""
        if not self.mean:
            return None
        near = self._distance(x[None])[0].argsort()[:4]
        u = torch.linspace(0.0, 1.0, 9, dtype=x.dtype, device=x.device)[1:-1, None]
        way = torch.stack([u * self.mean[k] + (1.0 - u) * x for k in near.tolist()])
        joined = (
            self.f(way).amin(-1) >= torch.minimum(value, torch.stack([self.peak[k] for k in near.tolist()])) - _VALLEY
        )
        return int(near[joined][0]) if bool(joined.any()) else None

    def _found(self, x: Tensor, value: Tensor, grad: Tensor) -> bool:
        """File a new mode, unless x is on a slope that goes on: an ascent may stall in a heavy tail.

        A slope that ends at the edge of the support is a mode. The first point is filed whatever it is.
        """
        axes, sd = principal_axes(self.f, x, value)
        uphill = sd * (grad @ axes)
        steep = float(uphill.norm())
        if steep > _SLOPE and self.mean:
            ahead = x + axes @ (sd * uphill / steep)
            if float(self.f(ahead[None])[0] - value) > _GAIN:
                return False
        for part in (self.mean, self.axes, self.sd, self.peak):
            part.append(x)
        self.hits.append(1)
        self._place(-1, x, value, axes, sd)
        return True

    def _place(self, mode: int, x: Tensor, value: Tensor, axes: Tensor, sd: Tensor) -> None:
        """Put a mode where it is."""
        self.mean[mode], self.axes[mode], self.sd[mode], self.peak[mode] = x, axes, sd, value
