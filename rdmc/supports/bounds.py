"""Whether the support of a density is a box, and which: found from where its values are -inf."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.rng import Streams
from rdmc.supports.box import Box
from rdmc.supports.support import Support
from rdmc.typing import BatchedDensity

__all__ = ["BOTTOMLESS", "CLOSE", "falls", "find_box"]

_DISTANCES = (-40, 40)  # powers of 2, from the nearest to the farthest that a bound is looked for
_HALVINGS = 64
CLOSE, BOTTOMLESS = 0.99, -1e100
"""Of the way to a bound, and the log density below which it is numbers that end there, and not the support."""

_INSIDE = (1e-3, 1e3)  # distances from a lone bound at which it is looked, in those of the point that is known
_OUTSIDE = (1e-6, 1e3)  # and beyond any bound, in widths of the box or in these
_NOTHING = 10.0  # nats below the point that is known, at the ends of what can be computed
_PROBES = 64  # points inside for each particle of the streams, and as many outside


def find_box(f: BatchedDensity, x: Tensor, rng: Streams) -> Box | None:
    """The box that is the support of a density, or None if the support is all of space, or another set.

    From the highest of some points the way along every axis is followed until the density is -inf, and the bound found by
    bisection. A box is believed if it holds all of the points that are in the support, and if the density is finite at all points
    drawn in it and -inf at all points drawn outside, from just beyond a bound to a thousand times as far as the box is wide.
    Bounds farther than 1e12 are not looked for.

    Law: none. Cost: those of ``x``, 294 density evaluations a coordinate, and 128 for each particle of the streams. Source: ours.

    Args:
        f: Log density, -inf outside the support.
        x: ``(M, d)`` points, of which one at least should be in the support.
        rng: Streams of which points are drawn, 64 for each particle inside, and 64 outside.
    """
    value = f(x)
    inside = torch.isfinite(value)
    if not bool(inside.any()):
        return None
    origin = x[torch.where(inside, value, -torch.inf).argmax()]
    ends = _ends(f, origin)
    if ends is None:
        return None
    box = Box(*ends)
    if box.kind == "all" or not bool(box.contains(x[inside]).all()):
        return None
    within = _within(box, origin, rng)
    holds = torch.isfinite(f(within)).all() & (f(_beyond(box, within, origin, rng)) == -torch.inf).all()
    return box if bool(holds) and falls(f, box, origin) else None


def _ends(f: BatchedDensity, origin: Tensor) -> tuple[Tensor, Tensor] | None:
    """``(d,)`` lower and upper bounds on the axes through a point, infinite where there are none; None if an axis comes back in."""
    d = len(origin)
    sign = torch.cat([-torch.ones(d), torch.ones(d)]).to(origin)
    way = sign[:, None] * torch.eye(d).repeat(2, 1).to(origin)
    distance = torch.exp2(torch.arange(_DISTANCES[0], _DISTANCES[1] + 1).to(origin))
    met = torch.stack([f(origin + step * way) for step in distance]) > -torch.inf
    if not bool((met[:-1] >= met[1:]).all()):
        return None
    bounded = ~met[-1]
    reach = met.sum(0)
    near = torch.where(reach > 0, distance[(reach - 1).clamp(min=0)], 0.0)
    far = distance[reach.clamp(max=len(distance) - 1)]
    rows = torch.arange(d).repeat(2).to(origin.device)
    start = origin.expand(2 * d, d)

    def at(place: Tensor) -> Tensor:
        """Points on the axes with one coordinate each at a place."""
        return start.scatter(1, rows[:, None], place[:, None])

    here, there = origin[rows] + sign * near, origin[rows] + sign * far
    for _ in range(_HALVINGS):
        middle = 0.5 * (here + there)
        met_there = f(at(middle)) > -torch.inf
        here, there = torch.where(met_there, middle, here), torch.where(met_there, there, middle)
    bounded &= f(at(origin[rows] + CLOSE * (there - origin[rows]))) > BOTTOMLESS
    bound = torch.where(bounded, there, sign * math.inf)
    return bound[:d], bound[d:]


def falls(f: BatchedDensity, support: Support, origin: Tensor) -> bool:
    """Whether there is next to no mass at the ends of the axes: what is improper shall be seen in the user's own coordinates."""
    y = support.inverse(origin)
    there, here = (f(support.forward(z)) + support.log_det(z) for z in (support.ends(y), y[None]))
    return bool((there < here - _NOTHING).all())


def _within(box: Box, origin: Tensor, rng: Streams) -> Tensor:
    """``(n, d)`` points of the box: uniform between two bounds, at log-uniform distances from one."""
    u = rng.uniform((_PROBES, rng.particles, len(origin)), particle_axis=1).flatten(0, 1)
    least, most = map(math.log, _INSIDE)
    scaled = box.forward(box.inverse(origin) + torch.where(box.low, 1.0, -1.0) * (least + (most - least) * u))
    between = torch.where(box.low & box.high, box.lower + (box.upper - box.lower) * u, origin)
    return torch.where(box.low ^ box.high, scaled, between)


def _beyond(box: Box, within: Tensor, origin: Tensor, rng: Streams) -> Tensor:
    """``(n, d)`` points moved out of the box: half of them in one coordinate, half in this and about every second other."""
    n, d = within.shape
    bounded = (box.low | box.high).nonzero()[:, 0]
    shape = (_PROBES, rng.particles)
    one = bounded[rng.integers(shape, len(bounded)).flatten()]
    u, side, others = rng.uniform((3, *shape, d), particle_axis=2).flatten(1, 2)
    moved = (torch.arange(d, device=one.device) == one[:, None]) | (
        (others < 0.5) & (torch.arange(n, device=one.device) < n // 2)[:, None]
    )
    width = box.upper - box.lower
    width = torch.where(torch.isfinite(width), width, torch.minimum(origin - box.lower, box.upper - origin))
    least, most = map(math.log, _OUTSIDE)
    step = width * torch.exp(least + (most - least) * u)
    place = torch.where(box.low & (~box.high | (side < 0.5)), box.lower - step, box.upper + step)
    return torch.where(moved & (box.low | box.high), place, within)
