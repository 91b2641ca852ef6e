r"""What the steps of a reverse diffusion leave in its draws, measured: with no expansion in their size.

Let P be the exact kernel of the reverse diffusion from x_T to the end: one draw from q_T, and the bridge to the end. The inner
draws at the first level, from particles that no step has moved yet, have the law of P applied to the start: with the start's error
and no other. The run's draws come from the same x_T and have the errors of all steps too. So the steps leave

.. math:: \mathrm{KL}\bigl(\text{start}\, P \,\|\, \text{law of the draws}\bigr),

whatever the steps are like: coarse, deterministic, with several estimates. Both laws are known by samples, and compared

- by the weights of modes, and the mean and covariance within each, as normal laws;
- where there are modes, in the direction in which these are farthest apart by cells in place of normal laws, which miss particles
  left between modes.

The samples share x_T. Where p_T is nearly normal, functions of x_T whose means it gives are regressed out of both: this removes
most of their randomness where steps add none, and with it the start's error, which a flow carries to the end and P forgets. What
is left of the randomness adds to a divergence; the jackknife takes that off, and tells the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.budget.transport import Look, centres, members, within
from rdmc.capture import Modes
from rdmc.linear import least_squares
from rdmc.process import ForwardProcess

__all__ = ["DIRECT", "First", "Measured", "measure"]

DIRECT = ("direct", "direct_se")
"""Columns with the fields of :class:`Measured`."""
_NUMBERS = 2**18  # of the first level's draws, that are kept
_FEATURES = 2**22  # numbers at work at a time
_BLOCKS = 20  # of the jackknife
_STRATA = 16  # of x_T along one direction
_EACH = 25  # particles to each function of x_T that is regressed out
_EDGES = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)  # quantiles of each mode between which cells lie
_MOST_MODES = 8  # that are cut into cells


class First(NamedTuple):
    """What the first level knew: ``(n, B, d)`` draws that exact kernels make at the end from ``(B, d)`` x_T, held as ``x``."""

    draws: Tensor
    x: Tensor

    @classmethod
    def seen(cls, process: ForwardProcess, end: float, look: Look) -> First:
        """From the first look: as many of its draws as are worth keeping, moved to the end by the bridge."""
        drawn = look.draws
        many, particles, d = drawn.x_0.shape
        n = max(1, min(many, _NUMBERS // max(1, particles * d)))
        # randomness of its own, the same in every run: the streams of the run are not touched
        generator = torch.Generator().manual_seed(0)
        if drawn.log_weight is None:
            row = torch.linspace(0, many - 1, n).long()[:, None].expand(n, particles)
        else:
            row = torch.multinomial(drawn.weight.T.double().cpu(), n, True, generator=generator).T
        x = drawn.x_0.gather(0, row.to(drawn.x_0.device)[..., None].expand(n, particles, d))
        if look.t > end > 0.0:
            way = process.bridge(look.t, end)
            z = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
            x = way.on_x_0 * x + way.on_x_t * look.x_t + way.sd * z
        return cls(x, look.x_t)


class Measured(NamedTuple):
    """A divergence in nats, and its standard error."""

    nats: float
    se: float


def measure(
    first: First, x: Tensor, law: tuple[Tensor, Tensor] | None, modes: Modes | None, noise: Tensor
) -> Measured | None:
    """What the steps leave in the draws.

    Args:
        first: What the first level knew.
        x: ``(B, d)`` the run's draws.
        law: ``(d,)`` mean and ``(d, d)`` covariance of p_T if it is nearly normal, else None.
        modes: What tells modes apart, or None to treat the target as one mode.
        noise: ``(d, d)`` covariance that the noise of the posterior means adds within modes; it is taken off.

    Returns:
        The divergence, without bias to leading order; None with too few draws or too many coordinates.

    Cost: ``O(n B d^2)`` for each mode, no evaluation.

    Raises:
        RuntimeError: Of linear algebra, where draws are so far off that a matrix is singular.
    """
    n, particles, d = first.draws.shape
    count = 1 if modes is None else modes.count + 1
    if particles < 3 * _BLOCKS or particles * count * (1 + d + d * d) > _FEATURES:
        return None
    drawn, x, x_T, noise = (part.double().cpu() for part in (first.draws, x, first.x, noise))
    flat = drawn.flatten(0, 1)
    if not bool(torch.isfinite(flat).all() & torch.isfinite(x).all()):
        return None
    member = _members(flat, modes, first.draws)
    centre, own = centres(flat, member), _members(x, modes, first.draws)
    root = torch.linalg.cholesky(within(flat, member))
    white = torch.linalg.solve_triangular(root, (flat - member @ centre).T, upper=False).T
    gone = torch.linalg.solve_triangular(root, (x - own @ centre).T, upper=False).T
    added = torch.linalg.solve_triangular(root, torch.linalg.solve_triangular(root, noise, upper=False).mT, upper=False)
    least = 4.0 * (d + 2) / particles
    along = _apart(flat, member, centre, root) if count <= _MOST_MODES + 1 else None
    cuts = [] if along is None else [_cuts(white[member[:, k] > 0.0] @ along) for k in range(count)]
    size = count * (1 + d + d * d)

    def features(z: Tensor, who: Tensor) -> Tensor:
        whole = _moments(z, who)
        if along is None:
            return whole
        line = z @ along[:, None]
        return torch.cat([whole, _moments(line, who), _cells(line[:, 0], who, cuts)], 1)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        total = _normal(p[:size], q[:size], count, d, least, particles, added)
        if along is None:
            return total
        p, q = p[size:], q[size:]
        line = _normal(p, q, count, 1, least, particles, torch.zeros_like(added[:1, :1]))
        return total - line + _categories(p[3 * count :], q[3 * count :], particles)

    before = features(white[:particles], member[:particles])
    for k in range(1, n):  # one draw of each particle at a time, for the memory
        rows = slice(k * particles, (k + 1) * particles)
        before += features(white[rows], member[rows])
    before /= n
    known = _known(x_T, drawn.mean(0), law)
    return Measured(*_jackknife(divergence, *_without(known, before, features(gone, own) - before)))


def _members(x: Tensor, modes: Modes | None, like: Tensor) -> Tensor:
    return members(x.to(like), modes).double().cpu()


def _moments(z: Tensor, member: Tensor) -> Tensor:
    """``(n, M (1 + d + d^2))`` who is in which mode, and z and its products there."""
    square = (z[:, :, None] * z[:, None, :]).flatten(1)
    first, second = ((member[:, :, None] * part[:, None, :]).flatten(1) for part in (z, square))
    return torch.cat([member, first, second], 1)


def _normal(p: Tensor, q: Tensor, count: int, d: int, least: float, particles: int, noise: Tensor) -> Tensor:
    """``()`` KL of weights and, on average, of the normal laws in modes of more than the least weight, from means of features."""
    total = _categories(p[:count], q[:count], particles)
    eye = torch.eye(d).double()
    for k in range(count):
        if min(p[k], q[k]) <= least:
            continue
        mean, covariance = [], []
        for part in (p, q):
            first = part[count + k * d : count + (k + 1) * d] / part[k]
            start = count * (1 + d) + k * d * d
            mean.append(first)
            covariance.append((part[start : start + d * d] / part[k]).view(d, d) - first[:, None] * first)
        other = torch.linalg.cholesky(covariance[1] - noise)
        ratio = torch.linalg.solve_triangular(other, covariance[0], upper=False)
        ratio = torch.linalg.solve_triangular(other, ratio.mT, upper=False)
        gap = torch.linalg.solve_triangular(other, (mean[0] - mean[1])[:, None], upper=False)
        own = torch.linalg.cholesky(0.5 * (ratio + ratio.mT))
        total = total + 0.5 * p[k] * (
            torch.diagonal(ratio - eye).sum() - 2.0 * torch.diagonal(own).log().sum() + gap.square().sum()
        )
    return total


def _categories(p: Tensor, q: Tensor, particles: int) -> Tensor:
    """``()`` KL of frequencies, with half a particle more in each."""
    there, here = (part.clamp(min=0.0) + 0.5 / particles for part in (p, q))
    there, here = there / there.sum(), here / here.sum()
    return (there * (there / here).log()).sum()


def _apart(x: Tensor, member: Tensor, centre: Tensor, root: Tensor) -> Tensor | None:
    """``(d,)`` unit vector along which modes are farthest apart in whitened coordinates; None where they are not."""
    present = member.mean(0)
    gap = torch.linalg.solve_triangular(root, (centre - x.mean(0)).T, upper=False).T * present.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(gap.T @ gap)
    return vectors[:, -1] if float(values[-1]) > 1.0 else None


def _cuts(z: Tensor) -> Tensor:
    return torch.quantile(z[: 2**22], z.new_tensor(_EDGES)) if len(z) else z.new_zeros(0)


def _cells(z: Tensor, member: Tensor, cuts: list[Tensor]) -> Tensor:
    """``(n, cells)`` 1 where a point is, by mode and place within it."""
    parts = []
    for k, edges in enumerate(cuts):
        place = torch.bucketize(z.contiguous(), edges)
        parts.append(member[:, k : k + 1] * torch.nn.functional.one_hot(place, len(edges) + 1).double())
    return torch.cat(parts, 1)


def _known(x_T: Tensor, seen: Tensor, law: tuple[Tensor, Tensor] | None) -> Tensor:
    """``(B, K)`` functions of x_T whose mean is 0 under p_T, K at most B / 25.

    Coordinates, their products, and steps and hinges along the direction in which x_T tells most of the ``(B, d)`` posterior means.
    """
    particles, d = x_T.shape
    room = particles // _EACH
    if law is None or room < d:
        return x_T.new_zeros(particles, 0)
    mean, covariance = (part.double().cpu() for part in law)
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x_T - mean).T, upper=False).T
    found, room = [z], room - d
    pairs = torch.triu_indices(d, d)
    if room >= pairs.shape[1]:
        found.append(z[:, pairs[0]] * z[:, pairs[1]] - (pairs[0] == pairs[1]).double())
        room -= pairs.shape[1]
    strata = min(_STRATA, room // 2 + 1)
    if strata > 1:
        along = torch.linalg.svd(z.T @ (seen - seen.mean(0)), full_matrices=False)[0][:, :1]
        share = torch.arange(1, strata).double() / strata
        edge = math.sqrt(2.0) * torch.erfinv(2.0 * share - 1.0)
        beyond = z @ along - edge
        height = torch.exp(-0.5 * edge.square()) / math.sqrt(2.0 * math.pi)
        found += [(beyond > 0.0).double() - (1.0 - share), beyond.clamp(min=0.0) - (height - edge * (1.0 - share))]
    return torch.cat(found, 1)


def _without(known: Tensor, before: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Both ``(B, F)`` without what functions of mean 0 tell of them."""
    if known.shape[1]:
        design = torch.cat([torch.ones_like(known[:, :1]), known], 1)
        slopes = least_squares(design, torch.cat([before, change], 1))
        before, change = (torch.cat([before, change], 1) - known @ slopes[1:]).chunk(2, 1)
    return before, change


def _jackknife(f: Callable[[Tensor, Tensor], Tensor], before: Tensor, change: Tensor) -> tuple[float, float]:
    """A function f of the means of ``before`` and ``before + change``, corrected for its bias, and its standard error."""
    particles, n = len(before), _BLOCKS
    block = torch.arange(particles) % n
    sums = [torch.zeros(n, part.shape[1]).double().index_add_(0, block, part) for part in (before, before + change)]
    size = torch.bincount(block, minlength=n).double()[:, None]
    whole = float(f(*(part.sum(0) / particles for part in sums)))
    rest = [(part.sum(0) - part) / (particles - size) for part in sums]
    parts = torch.stack([f(p, q) for p, q in zip(*rest, strict=True)])
    nats = n * whole - (n - 1) * float(parts.mean())
    return nats, math.sqrt((n - 1) / n * float((parts - parts.mean()).square().sum()))
