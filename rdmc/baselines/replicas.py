"""Ensembles of replicas along a ladder, and one scan of non-reversible parallel tempering over all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.baselines.reference import Path, Reference
from rdmc.kernels import Diagonal, Kernel
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["Ensemble", "Tally", "begin", "regrid", "scan"]


class Ensemble(NamedTuple):
    """R replicas of each of B ensembles, in order of beta; 0 is the reference, R - 1 the target.

    Attributes:
        u: ``(R, B, d)`` points in the reference's coordinates.
        ratio: ``(R, B)`` log pi/g there.
        slope: ``(R, B, d)`` its gradient.
        beta: ``(R, B)`` the ladders.
        tuning: ``(R - 1, B)`` the kernel's tuning at every beta above 0.
        origin: ``(R, B)`` what the point that sits at a rung has seen last: 0 neither end, 1 the reference, 2 the
            target since the reference.
    """

    u: Tensor
    ratio: Tensor
    slope: Tensor
    beta: Tensor
    tuning: Tensor
    origin: Tensor


class Tally(NamedTuple):
    """Sums over scans since the ladder was last changed.

    Attributes:
        scans: Scans with swaps of even and of odd pairs.
        swap: ``(R - 1, B)`` sum of swap probabilities.
        local: ``(R - 1, B)`` sum of the kernel's acceptance probabilities over both kinds of scans.
        nonfinite: ``(R - 1, B)`` proposals at which the density was NaN or ``+inf``.
        trips: ``(B,)`` round trips reference - target - reference.
        up: ``(R - 1, B)`` log sum of (pi/g)^(half step) at each pair's lower rung.
        down: ``(R - 1, B)`` log sum of (pi/g)^(-half step) at each pair's upper rung.
    """

    scans: tuple[int, int]
    swap: Tensor
    local: Tensor
    nonfinite: Tensor
    trips: Tensor
    up: Tensor
    down: Tensor

    @classmethod
    def empty(cls, beta: Tensor) -> Tally:
        """Nothing seen yet on these ladders."""
        zero = torch.zeros_like(beta[1:])
        nothing = torch.full_like(zero, -torch.inf)
        return cls((0, 0), zero, zero, zero, torch.zeros_like(beta[0]), nothing, nothing)

    def rejection(self) -> Tensor:
        """``(R - 1, B)`` rejection rate of each pair's swaps; 1 for a pair that was never tried."""
        tried = torch.zeros_like(self.swap[:, :1])
        tried[0::2], tried[1::2] = self.scans
        return 1.0 - self.swap / tried.clamp(min=1.0)

    def log_evidence(self) -> Tensor:
        r"""``(B,)`` log of the integral of pi over the reference's coordinates, by stepping stones met half way.

        .. math:: \frac{Z_{i+1}}{Z_i} = \frac{E_i[(\pi/g)^{\delta/2}]}{E_{i+1}[(\pi/g)^{-\delta/2}]}, \qquad
                  \delta = \beta_{i+1} - \beta_i

        Both averages have finite variance for every pi and g, which one-sided stepping stones don't where pi has the
        heavier tails.

        Source: Xie et al. (2011), Systematic Biology 60(2), 150-160; the geometric bridge: Meng and Wong (1996),
        Statistica Sinica 6, 831-860, section 3.
        """
        return (self.up - self.down).sum(0)


def begin(
    target: BatchedDensity, u: Tensor, beta: Tensor, kernel: Kernel, reference: Reference, rng: Streams
) -> Ensemble:
    """Ensembles at ``(R, B, d)`` points. Cost: a gradient evaluation a point."""
    value, grad = target.value_and_grad(u)
    ratio, slope = _never_nan(value - reference.log_prob(u)), grad + u
    path = Path(target, reference, beta[1:])
    tuning = kernel.tuning(path.state(u[1:], ratio[1:], slope[1:]), rng)
    return Ensemble(u, ratio, slope, beta, tuning, torch.zeros_like(beta))


def scan(
    target: BatchedDensity,
    reference: Reference,
    kernel: Kernel,
    explore: int,
    ensemble: Ensemble,
    tally: Tally,
    rng: Streams,
    gain: float,
) -> tuple[Ensemble, Tally]:
    """Explore, then swap: even pairs in one scan, odd pairs in the next. A positive ``gain`` adapts the step sizes."""
    u, ratio, slope, beta, tuning, origin = ensemble
    rungs, parity = beta.shape[0], sum(tally.scans) % 2
    path = Path(target, reference, beta[1:])
    metric = Diagonal(reference.width(beta[1:]))
    state = path.state(u[1:], ratio[1:], slope[1:])
    local, nonfinite = tally.local, tally.nonfinite
    for _ in range(explore):
        state, info = kernel.step(path, state, rng, tuning, metric)
        local = local + info.acceptance / explore
        nonfinite = nonfinite + info.nonfinite
        if gain > 0.0:
            tuning = kernel.adapt(tuning, info, gain)
    above, slope_above = path.ratio(state)
    if (
        parity == 0
    ):  # the reference takes part in even scans only, so only then is a new draw of it worth its evaluation
        fresh = reference.draw(rng, (1,))
        value, grad = target.value_and_grad(fresh)
        u = torch.cat([fresh, state.x])
        ratio = torch.cat([_never_nan(value - reference.log_prob(fresh)), above])
        slope = torch.cat([grad + fresh, slope_above])
    else:
        u, ratio, slope = (
            torch.cat([old[:1], new]) for old, new in ((u, state.x), (ratio, above), (slope, slope_above))
        )
    order, probability = _swaps(ratio, beta, parity, rng)
    u, slope = u.gather(0, order[..., None].expand_as(u)), slope.gather(0, order[..., None].expand_as(slope))
    ratio, origin = ratio.gather(0, order), origin.gather(0, order)
    swap = tally.swap.clone()
    swap[parity : rungs - 1 : 2] += probability
    origin, returned = _visit(origin)
    half = 0.5 * (beta[1:] - beta[:-1])
    tally = Tally(
        (tally.scans[0] + 1 - parity, tally.scans[1] + parity),
        swap,
        local,
        nonfinite,
        tally.trips + returned,
        torch.logaddexp(tally.up, half * ratio[:-1]),
        torch.logaddexp(tally.down, -half * ratio[1:]),
    )
    return Ensemble(u, ratio, slope, beta, tuning, origin), tally


def _never_nan(ratio: Tensor) -> Tensor:
    """A point without a density is outside the support: it is left at the first chance and weighs nothing."""
    return torch.where(torch.isnan(ratio) | (ratio == torch.inf), -torch.inf, ratio)


def _swaps(ratio: Tensor, beta: Tensor, parity: int, rng: Streams) -> tuple[Tensor, Tensor]:
    """Where each rung's next point comes from, ``(R, B)``, and the swap probabilities of the pairs of that parity."""
    rungs = beta.shape[0]
    low, high = slice(parity, rungs - 1, 2), slice(parity + 1, rungs, 2)
    log_ratio = (beta[high] - beta[low]) * (ratio[low] - ratio[high])
    log_ratio = torch.where(torch.isnan(log_ratio), -torch.inf, log_ratio)
    swapped = rng.log_uniform(log_ratio.shape) < log_ratio
    rung = torch.arange(rungs, device=beta.device)[:, None].expand_as(beta)
    order = rung.clone()
    order[low] = torch.where(swapped, rung[high], rung[low])
    order[high] = torch.where(swapped, rung[low], rung[high])
    return order, log_ratio.clamp(max=0.0).exp()


def _visit(origin: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the points at both ends; ``(B,)`` which reference rung holds a point that has come back from the target."""
    returned = (origin[0] == 2.0).to(origin.dtype)
    origin = origin.clone()
    origin[0] = 1.0
    origin[-1] = torch.where(origin[-1] >= 1.0, 2.0, 0.0)
    return origin, returned


def regrid(ensemble: Ensemble, beta: Tensor) -> Ensemble:
    """The ensembles on ladders ``(S, B)`` with S rungs: each takes the point and tuning of the nearest old rung."""
    near = (ensemble.beta[None] - beta[:, None]).abs().argmin(1)
    index = near[..., None].expand(*near.shape, ensemble.u.shape[-1])
    return Ensemble(
        ensemble.u.gather(0, index),
        ensemble.ratio.gather(0, near),
        ensemble.slope.gather(0, index),
        beta,
        ensemble.tuning.gather(0, (near[1:] - 1).clamp(min=0)),
        torch.zeros_like(beta),
    )
