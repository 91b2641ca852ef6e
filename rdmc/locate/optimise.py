"""Many ascents at once: limited-memory BFGS on a batch of starting points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.locate.mended import Mended
from rdmc.typing import BatchedDensity

__all__ = ["Ascent", "ascend", "ascend_further"]

_MEMORY = 10
_ARMIJO = 1e-4
_BACKTRACKS = 8
_LONGER = 3  # times that an ascent which was cut short may go on
_NOISE = 0.5  # nats by which a value may change with the last digits of a point, and still be one
_ROUNDED = 100.0  # last digits of a value, up to which a change is that of a large value and not of what made it


class Ascent(NamedTuple):
    """Where ascents ended. Shapes: ``x`` and ``grad`` are ``(M, d)``, ``value`` and ``converged`` are ``(M,)``."""

    x: Tensor
    value: Tensor
    grad: Tensor
    converged: Tensor


def _direction(grad: Tensor, scale: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion (Nocedal and Wright, algorithm 7.4) for every point; unusable pairs have rho = 0."""
    q = grad
    projections = []
    for s, y, rho in reversed(pairs):
        a = rho * (s * q).sum(-1, keepdim=True)
        projections.append(a)
        q = q - a * y
    q = scale * q
    for (s, y, rho), a in zip(pairs, reversed(projections), strict=True):
        q = q + s * (a - rho * (y * q).sum(-1, keepdim=True))
    return q


def _line_search(
    f: BatchedDensity, here: tuple[Tensor, Tensor, Tensor], direction: Tensor, slope: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, values and gradients after the longest of the steps 1, 1/4, 1/16 ... that gains enough (Armijo), and which moved.

    The values of all shorter steps are asked for in one call: where the density is a loop, a call costs the same for one point
    as for a hundred. Cost: a gradient evaluation an active point; where the whole step fails, one more and 7 density evaluations.
    """
    x, value, _ = here
    new_x, new_value, new_grad = (part.clone() for part in here)
    moved = torch.zeros_like(active)

    def gains(v: Tensor, at: Tensor, step: Tensor) -> Tensor:
        return (v >= value[at] + _ARMIJO * step * slope[at]) & torch.isfinite(v)

    def go(at: Tensor, step: Tensor) -> None:
        trial = x[at] + step[:, None] * direction[at]
        v, g = f.value_and_grad(trial)
        good = gains(v, at, step) & torch.isfinite(g).all(-1)
        done = at[good]
        new_x[done], new_value[done], new_grad[done], moved[done] = trial[good], v[good], g[good], True

    at = active.nonzero()[:, 0]
    go(at, torch.ones_like(value[at]))
    at = (active & ~moved).nonzero()[:, 0]
    if len(at):
        step = 0.25 ** torch.arange(1, _BACKTRACKS, device=x.device).to(x)[:, None]
        trial = x[at] + step[..., None] * direction[at]
        good = gains(f(trial.flatten(0, 1)).view(len(step), -1), at, step)
        longest = step[good.int().argmax(0), 0]
        any_ = good.any(0)
        if bool(any_.any()):
            go(at[any_], longest[any_])
    return new_x, new_value, new_grad, moved


def ascend(
    f: BatchedDensity, x: Tensor, *, iterations: int = 100, tolerance: float = 1e-6, dogged: bool = False
) -> Ascent:
    """Climb from every point to a local maximum of f.

    Batched L-BFGS with a backtracking (Armijo) line search. A point where f is not finite never moves and is not converged. Where
    the curvature along a step is negative, as in a heavy tail, the next step is twice as long.

    Ascents gather where rounding adds to the value, as in ``lgamma(y + phi) - lgamma(phi)`` at phi = 1e16, where both terms are
    4e17 and their difference is in error by 100. An end where the last digits of x, moved to either side, change the value by
    more than half a nat beyond its slope is no mode: its value is ``-inf``, and it is not converged. A change on one side alone
    is a jump or an edge of the support, and stays. Only float64 is looked at.

    Cost: about 1.1 gradient evaluations per iteration and point still moving; points that have converged cost nothing. At the
    end 4 density evaluations a point, in one call, and 12 more at points where rounding, a jump or an edge shows.

    Args:
        f: The log density.
        x: ``(M, d)`` starting points.
        iterations: At most this many steps.
        tolerance: A point stops when two steps in a row gain less than this, in nats.
        dogged: A line search that fails is no such step while its slope promises more: the curvature is forgotten and a far smaller
            step tried. Between walls as steep as exp(-exp(x)) such searches fail far from any mode.
    """
    f = Mended(f)
    value, grad = f.value_and_grad(x)
    usable = torch.isfinite(value) & torch.isfinite(grad).all(-1)
    active = usable.clone()
    idle = torch.zeros_like(active)
    length = x.norm(dim=-1, keepdim=True).clamp(min=1.0)
    scale = 0.1 * length / grad.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(iterations):
        direction = _direction(grad, scale, pairs)
        slope = (direction * grad).sum(-1)
        uphill = (slope > 0) & torch.isfinite(direction).all(-1)
        direction = torch.where(uphill[:, None], direction, scale * grad)
        slope = torch.where(uphill, slope, (scale * grad * grad).sum(-1))
        new_x, new_value, new_grad, moved = _line_search(f, (x, value, grad), direction, slope, active)
        s, y = new_x - x, grad - new_grad
        sy = (s * y).sum(-1, keepdim=True)
        y = torch.where(sy < 0, -y, y)
        sy = sy.abs()
        yy = y.square().sum(-1, keepdim=True)
        curved = moved[:, None] & (sy > 1e-12 * s.norm(dim=-1, keepdim=True) * yy.sqrt())
        zero = torch.zeros_like(s)
        rho = torch.where(curved, 1.0 / sy, torch.zeros_like(sy))
        pairs = [*pairs[-(_MEMORY - 1) :], (torch.where(curved, s, zero), torch.where(curved, y, zero), rho)]
        scale = torch.where(curved, sy / yy.clamp(min=1e-300), torch.where(moved[:, None], 2.0 * scale, 0.1 * scale))
        still = new_value - value < tolerance
        if dogged:
            lost = active & ~moved & (slope * 0.25 ** (_BACKTRACKS - 1) >= tolerance)
            still &= ~lost
            pairs = [(s, y, rho.masked_fill(lost[:, None], 0.0)) for s, y, rho in pairs]
            far = 0.25 ** (_BACKTRACKS - 1) * slope.abs() / grad.square().sum(-1).clamp(min=1e-300)
            scale = torch.where(lost[:, None], far[:, None], scale)
        active = active & ~(still & idle)
        idle = still
        x, value, grad = new_x, new_value, new_grad
        if not bool(active.any()):
            break
    end = Ascent(x, value, grad, usable & ~active)
    rounding = _rounding(f, end)
    return end._replace(value=value.masked_fill(rounding, -torch.inf), converged=end.converged & ~rounding)


def ascend_further(f: BatchedDensity, x: Tensor, peaks: Sequence[Tensor]) -> Ascent:
    """Climb from every point; those cut short above everything else go on, as a long ridge may lead to the heaviest mode.

    Args:
        f: The log density.
        x: ``(M, d)`` starting points.
        peaks: ``()`` log densities at the modes that are known.
    """
    end = ascend(f, x)
    for _ in range(_LONGER):
        arrived = torch.cat([end.value[end.converged], *(peak[None] for peak in peaks)])
        high = ~end.converged & torch.isfinite(end.value)
        high &= end.value > arrived.max() if len(arrived) else False
        at = high.nonzero()[:, 0]
        if len(at) == 0:
            break
        further = ascend(f, end.x[at])
        for part, more in zip(end, further, strict=True):
            part[at] = more
    return end


def _rounding(f: BatchedDensity, end: Ascent) -> Tensor:
    """``(M,)`` where the value is a difference of terms so large that their rounding shows.

    One and two of the last digits away on both sides, so that no smooth mode wider than that is taken for one. Where something
    shows, six more digits are asked for: rounding often gives the same value twice, the quiet side of an edge always does.

    Cost: 4 density evaluations a point, 12 more where a value changes.
    """
    if end.x.dtype != torch.float64:  # there modes narrower than a last digit are met in earnest
        return torch.zeros_like(end.converged)
    shows = _changes(f, end, (1.0, 2.0))
    rounding = shows.all(0)
    at = (shows.any(0) & ~rounding).nonzero()[:, 0]
    if len(at):
        some = Ascent(*(part[at] for part in end))
        rounding[at] = (shows[:, at] | _changes(f, some, (3.0, 4.0, 5.0, 6.0, 7.0, 8.0))).all(0)
    return rounding


def _changes(f: BatchedDensity, end: Ascent, digits: tuple[float, ...]) -> Tensor:
    """``(2, M)`` whether, so many last digits above or below, the value changes by more than slope and size explain."""
    eps = torch.finfo(end.x.dtype).eps
    away = torch.tensor([*digits, *(-k for k in digits)], dtype=end.x.dtype, device=end.x.device).view(-1, 1, 1)
    beside = end.x + away * eps * end.x
    change = f(beside.flatten(0, 1)).view(len(beside), -1) - end.value - (end.grad * (beside - end.x)).sum(-1)
    beyond = torch.isfinite(change) & (change.abs() > torch.clamp(_ROUNDED * eps * end.value.abs(), min=_NOISE))
    return beyond.view(2, len(digits), -1).any(1) & torch.isfinite(end.value)
