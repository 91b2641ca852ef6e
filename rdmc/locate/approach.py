"""The way to the first mode from points that know nothing: ascents, coordinates of unit scale, and whether it is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rdmc.coordinates import Affine, InCoordinates
from rdmc.errors import DensityError, ImproperDensityError
from rdmc.locate.curvature import local_axes, precisions, principal_axes
from rdmc.locate.optimise import Ascent, ascend
from rdmc.typing import BatchedDensity

__all__ = ["climb", "coordinates", "doggedly", "require_arrival", "require_finite_mass"]

_APPROACHES = 6
_WIDEST = 1e8
_LEADERS = 8  # of the first ascents, how many are followed while the coordinates are found
_LOST = 1e3  # slope, in units of the coordinates found, at which the best point reached is nowhere near a mode
_ABYSS = -1e30  # log density below which an ascent is led by the logarithm of its depth
_RUNAWAY = 1e12  # an ascent that got this far from its starting point is going to infinity
_OUTSIDE = 1e3  # widths from the mode beyond which a line holds next to no mass, unless the tail is heavy
_HEAVY = 10.0  # nats by which the mass of a line at that distance may be below that at the mode and still matter
_CLIFF = 1e8  # fall of the density by one width, about 0.5 at any mode, above which the width is only rounding
_GOLDEN = 0.6180339887498949

Climber = Callable[[BatchedDensity, Tensor], Ascent]
_DOGGED: Climber = partial(ascend, iterations=400, dogged=True)


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
        found = ", ".join(sorted({str(value) for value in end.value.tolist()}))
        raise DensityError(
            f"`log_density` must be finite at some of the {x.shape[0]} starting points, got {found} at all of them; "
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


def doggedly(f: BatchedDensity, x: Tensor) -> Affine:
    """Coordinates of unit scale where the best of long ascents from ``(M, d)`` points leads, that no steep wall ends.

    Cost: up to 400 steps a point, of 1.1 gradient evaluations and at walls 7 density evaluations more; then as many for the best
    alone in up to 14 systems of coordinates.

    Raises:
        DensityError: If it leads to no mode.
    """
    end = _DOGGED(f, x)
    best = end.value.nan_to_num(-torch.inf, posinf=-torch.inf).argmax()[None]
    reached = Ascent(*(part[best] for part in end))._replace(converged=torch.zeros_like(end.converged[best]))
    affine = coordinates(f, reached, _DOGGED)
    require_arrival(InCoordinates(f, affine), torch.zeros_like(affine.centre))
    return affine


def coordinates(f: BatchedDensity, reached: Ascent, up: Climber = ascend) -> Affine:
    """Coordinates of unit scale at the best mode the first ascents lead to.

    One measurement of the curvature resolves scales over eight orders of magnitude at best, and an ascent in bad coordinates may
    not arrive; measuring and climbing again in the coordinates just found, until they stay, makes both exact.

    Args:
        f: The log density.
        reached: Where the first ascents ended.
        up: How to climb on from there.
    """
    order = reached.value.argsort(descending=True)[:_LEADERS]
    leaders = reached.x[order]
    affine = Affine(leaders[0], torch.eye(f.dim, dtype=leaders.dtype, device=leaders.device))
    if not bool(reached.converged[order].any()):
        affine, leaders = _descended(f, affine, leaders, up)
    for _ in range(8):
        g = InCoordinates(f, affine)
        origin = torch.zeros_like(affine.centre)
        axes, sd = principal_axes(g, origin, g(origin))
        if float(sd.max()) >= 0.1 * _WIDEST:  # it hardly falls as far as one round can see
            require_finite_mass(g, origin, (axes * sd).T)
        affine = _rescaled(affine, axes * sd)
        end = up(InCoordinates(f, affine), affine.to_white(leaders))
        leaders = affine.to_user(end.x)
        affine = Affine(leaders[end.value.argmax()], affine.factor)
        if bool(end.converged.any()) and float(sd.max()) < 2.0 and float(sd.min()) > 0.5:
            break
    return affine


def _rescaled(affine: Affine, factor: Tensor) -> Affine:
    """Coordinates whose units are the columns of ``factor`` in these."""
    try:
        return Affine(affine.centre, affine.factor @ factor)
    except RuntimeError as error:  # a singular matrix
        raise DensityError(
            f"`log_density` must have widths that {factor.dtype} can hold side by side; those found make a singular matrix. "
            "Parametrise the model without the direction that is next to fixed"
        ) from error


def _descended(f: BatchedDensity, affine: Affine, leaders: Tensor, up: Climber) -> tuple[Affine, Tensor]:
    """Coordinates and leaders after climbs in coordinates of the density's own scale at the best leader.

    On a slope far from any mode the fall of the density along an axis says nothing of a width; the curvature alone still turns
    each climb into nearly Newton's steps.
    """
    for _ in range(_APPROACHES):
        origin = torch.zeros_like(affine.centre)
        axes, sd = local_axes(*precisions(InCoordinates(f, affine), origin[None]), widest=_WIDEST)
        affine = _rescaled(affine, axes[0] * sd[0])
        end = up(InCoordinates(f, affine), affine.to_white(leaders))
        leaders = affine.to_user(end.x)
        affine = Affine(leaders[end.value.argmax()], affine.factor)
        if bool(end.converged.any()):
            break
    return affine, leaders


def require_arrival(f: BatchedDensity, origin: Tensor) -> None:
    """Refuse to go on from a best point, the origin, that is nowhere near a mode.

    Raises:
        DensityError: If the density still rises steeply there, or its floating type cannot tell a nat or the width of the mode.
    """
    value, grad = f.value_and_grad(origin[None])
    if float(value.abs()) * torch.finfo(value.dtype).eps > 0.1:
        raise DensityError(
            f"`log_density` must lead from some starting point to a mode; the best point reached has log density "
            f"{float(value):.3g}, where {value.dtype} cannot tell one nat from another. "
            "Subtract a constant, use float64, or shift the density to its mass"
        )
    if bool(torch.isnan(grad).any()):
        raise DensityError(
            f"`log_density` must have a gradient where its mass is; at the best point reached, of log density {float(value):.3g}, "
            "the gradient is NaN. Automatic differentiation gives that where infinity is multiplied by 0, as when exp(-exp(z)) has "
            "weight 0: clamp what overflows, or give `rdmc.Density` a `gradient`"
        )
    if not float(grad.norm()) < _LOST:
        raise DensityError(
            f"`log_density` must lead from some starting point to a mode; the best point reached has log density "
            f"{float(value):.3g} and slope {float(grad.norm()):.3g} a unit. "
            "Pass a `Pilot` with other `radii`, or shift the density to its mass"
        )
    width = _askew(origin)
    width = width / width.norm()
    fall = float((value - f(torch.stack([origin + width, origin - width]))).min())
    if _CLIFF < fall < math.inf:
        raise DensityError(
            f"`log_density` must be wider than {value.dtype} can tell points apart; a width from the best point reached it has "
            f"fallen by {fall:.3g}. Parametrise the model without the direction that is next to fixed"
        )


def require_finite_mass(f: BatchedDensity, origin: Tensor, directions: Tensor) -> None:
    r"""Refuse a density that is flat, or nearly so, along a direction.

    Almost every line in any direction must hold finite mass (Fubini), so along it the density must fall faster than 1/r:

    .. math:: -\frac{\log \pi(x + r_2 v) - \log \pi(x + r_1 v)}{\log r_2 - \log r_1} > 1

    for r so large that nothing but the tail is left. Lines whose tail holds no mass to speak of are not looked at further: a floor
    such as log(p + 1e-30) is beyond what any run would reach.

    Cost: 2d density evaluations, and 2 more for each half-line with a heavy tail.

    Args:
        f: Log density.
        origin: ``(d,)`` a mode.
        directions: ``(n, d)`` directions v, as long as the mode is wide.

    Raises:
        ImproperDensityError: If it falls too slowly along one.
    """
    base = (
        origin + _askew(directions[:, 0]) @ directions
    )  # a line like any other; one through the mode itself may be an exception
    ways = torch.cat([directions, -directions])
    heavy = f(base + _OUTSIDE * ways) + math.log(_OUTSIDE) > f(origin[None]) - _HEAVY
    if not bool(heavy.any()):
        return
    near, far = (torch.finfo(origin.dtype).max ** power for power in (1 / 12, 1 / 6))
    ends = base + far * ways[heavy]
    fall = f(base + near * ways[heavy]) - f(ends)
    endless = fall <= 1.001 * math.log(far / near)  # a NaN says nothing
    if bool(endless.any()):
        raise ImproperDensityError(
            f"`log_density` must have finite mass: along {int(endless.sum())} of {len(ways)} directions it does not fall, or falls "
            "more slowly than 1/distance, as far as numbers go; check the prior (a flat one needs bounds), and floors such as "
            "log(p + 1e-6)",
            points=ends[endless],
        )


def _askew(like: Tensor) -> Tensor:
    """``(n,)`` numbers in (-0.5, 0.5), a direction that is none of those a model would choose."""
    return (_GOLDEN * torch.arange(1, len(like) + 1, device=like.device).to(like)) % 1.0 - 0.5
