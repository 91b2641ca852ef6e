"""The way to the first mode from points that know nothing: ascents, coordinates of unit scale, and whether it is one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.coordinates import Affine, InCoordinates
from rdmc.curvature import local_axes, precisions, principal_axes
from rdmc.errors import DensityError, ImproperDensityError
from rdmc.optimise import Ascent, ascend
from rdmc.typing import BatchedDensity

__all__ = ["climb", "coordinates", "require_arrival"]

_APPROACHES = 6
_WIDEST = 1e8
_LEADERS = 8  # of the first ascents, how many are followed while the coordinates are found
_LOST = 1e3  # slope, in units of the coordinates found, at which the best point reached is nowhere near a mode
_ABYSS = -1e30  # log density below which an ascent is led by the logarithm of its depth
_RUNAWAY = 1e12  # an ascent that got this far from its starting point is going to infinity


@dataclass(frozen=True, eq=False)
class _Compressed:
    """asinh of a log density: the same maxima, and slopes whose squares do not overflow where the density is all but 0."""

    f: BatchedDensity

    @property
    def dim(self) -> int:
        return self.f.dim

    def __call__(self, x: Tensor) -> Tensor:
        return torch.asinh(self.f(x))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self.f.value_and_grad(x)
        return torch.asinh(value), grad / torch.hypot(value, torch.ones_like(value))[..., None]


def climb(f: BatchedDensity, x: Tensor) -> Ascent:
    """Ascents from the first points, or the reason why there are none."""
    if float(f(x).nan_to_num(nan=-torch.inf).max()) < _ABYSS:
        x = ascend(_Compressed(f), x).x
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


def coordinates(f: BatchedDensity, reached: Ascent) -> Affine:
    """Coordinates of unit scale at the best mode the first ascents lead to.

    One measurement of the curvature resolves scales over eight orders of magnitude at best, and an ascent in bad coordinates may
    not arrive; measuring and climbing again in the coordinates just found, until they stay, makes both exact.
    """
    order = reached.value.argsort(descending=True)[:_LEADERS]
    leaders = reached.x[order]
    affine = Affine(leaders[0], torch.eye(f.dim, dtype=leaders.dtype, device=leaders.device))
    if not bool(reached.converged[order].any()):
        affine, leaders = _descended(f, affine, leaders)
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


def _descended(f: BatchedDensity, affine: Affine, leaders: Tensor) -> tuple[Affine, Tensor]:
    """Coordinates and leaders after climbs in coordinates of the density's own scale at the best leader.

    On a slope far from any mode the fall of the density along an axis says nothing of a width; the curvature alone still turns
    each climb into nearly Newton's steps.
    """
    for _ in range(_APPROACHES):
        origin = torch.zeros_like(affine.centre)
        axes, sd = local_axes(*precisions(InCoordinates(f, affine), origin[None]), widest=_WIDEST)
        affine = Affine(affine.centre, affine.factor @ (axes[0] * sd[0]))
        end = ascend(InCoordinates(f, affine), affine.to_white(leaders))
        leaders = affine.to_user(end.x)
        affine = Affine(leaders[end.value.argmax()], affine.factor)
        if bool(end.converged.any()):
            break
    return affine, leaders


def require_arrival(f: BatchedDensity, origin: Tensor) -> None:
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
