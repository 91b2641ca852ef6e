"""What a result is worth where the truth is known: distances to it beside the same distances of independent exact draws.

measure(target, result) -> {"ks_ratio": 1.02, "tv": 0.013, "tv_iid": 0.012, ...}

Distances are taken in the coordinates of the undisguised target, so a sampler is measured alike under every disguise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import rdmc
from benchmarks.references import exact_draws
from rdmc.diagnostics import mode_weight_tv
from rdmc.stein import DENSITY_COST
from targets.base import Target
from targets.maps import Affine

__all__ = ["Truth", "ks_floor", "measure", "truth_of", "tv_floor", "undisguised"]

REFERENCE = 20_000
PROJECTIONS = 32
REPEATS = 24
LABEL_REPEATS = 200


@dataclass(frozen=True, eq=False)
class Truth:
    """Exact draws of a target, sorted along its coordinates and random directions.

    Attributes:
        scale: ``(d,)`` interquartile ranges, in units of which directions are drawn.
        directions: ``(PROJECTIONS, d)`` unit vectors.
        columns: ``(d + PROJECTIONS, REFERENCE)`` sorted values of the exact draws.
    """

    scale: Tensor
    directions: Tensor
    columns: Tensor

    def distance(self, x: Tensor) -> float:
        """Kolmogorov-Smirnov distance of ``(n, d)`` draws to the exact ones, averaged over coordinates and directions.

        A draw that isn't finite counts as infinitely far to the right.
        """
        n, m = len(x), self.columns.shape[1]
        own = _columns(x, self.scale, self.directions).sort(1).values
        after = torch.searchsorted(self.columns, own, right=True).double() / m
        before = torch.searchsorted(self.columns, own, right=False).double() / m
        step = torch.arange(n + 1, dtype=torch.float64) / n
        # between two of the n jumps the other curve is monotone, so the supremum is at one of their ends; the exact draws
        # have no ties, so with tied draws of x the steps in between are never the largest
        gap = torch.maximum((after - step[1:]).abs(), (before - step[:-1]).abs())
        return float(gap.amax(1).mean())


def undisguised(target: Target, x: Tensor) -> tuple[Target, Tensor]:
    """The target under all affine maps, and the ``(n, d)`` points brought back to its coordinates."""
    while isinstance(target, Affine):
        x = (x - target.offset) @ target.inverse.T
        target = target.base
    return target, x


@lru_cache(maxsize=32)
def truth_of(target: Target, seed: int = 0) -> Truth | None:
    """The truth of an undisguised target, or None where there are no exact draws; computed once for each object."""
    pool = exact_draws(target, REFERENCE, _generator(seed, 0))
    if pool is None:
        return None
    quartiles = torch.quantile(pool, torch.tensor([0.25, 0.75], dtype=pool.dtype), dim=0)
    scale = (quartiles[1] - quartiles[0]).clamp(min=1e-12)
    normal = torch.randn(PROJECTIONS, pool.shape[1], generator=_generator(seed, 1), dtype=torch.float64)
    directions = normal / normal.norm(dim=1, keepdim=True)
    return Truth(scale, directions, _columns(pool, scale, directions).sort(1).values.contiguous())


@lru_cache(maxsize=128)
def ks_floor(target: Target, n: int, seed: int = 0) -> float | None:
    """Mean distance of n exact draws to the same reference, over ``REPEATS`` samples."""
    truth = truth_of(target, seed)
    if truth is None:
        return None
    generator, distances = _generator(seed, 2), []
    for _ in range(REPEATS):
        x = exact_draws(target, n, generator)
        assert x is not None
        distances.append(truth.distance(x))
    return sum(distances) / REPEATS


@lru_cache(maxsize=128)
def tv_floor(target: Target, n: int) -> float | None:
    """Mean total variation of the mode weights of n independent labels, over ``LABEL_REPEATS`` samples."""
    if target.mode_weights is None or len(target.mode_weights) < 2:
        return None
    weights = target.mode_weights.double()
    labels = torch.multinomial(weights, n * LABEL_REPEATS, replacement=True, generator=_generator(0, 3))
    return sum(float(mode_weight_tv(row, weights)) for row in labels.view(LABEL_REPEATS, n)) / LABEL_REPEATS


def measure(target: Target, result: rdmc.Result, seed: int = 0) -> dict[str, Any]:
    """Quality and cost of a result; what has no truth, or doesn't exist, is None.

    - ``ks``, ``ks_floor``, ``ks_ratio``: mean Kolmogorov-Smirnov distance over the coordinates and ``PROJECTIONS`` random
      directions, what that is for as many independent exact draws, and their ratio. An unbiased chain of effective size e has
      about sqrt(n / e).
    - ``tv``, ``tv_iid``: total variation of the mode weights, and its mean for independent exact draws.
    - ``evidence_error``, ``evidence_mcse``: log evidence less the truth, and the standard error that the result reports.
    - ``evaluations``: per draw, a density evaluation counted as ``rdmc.stein.DENSITY_COST``; ``seconds``.
    - ``rhat`` (largest), ``ess`` (smallest bulk), ``warnings``: what ``result.check()`` says.

    Args:
        target: What was sampled, disguised or not.
        result: The result.
        seed: Of the exact draws and directions; one value for all runs that are compared.
    """
    x = result.samples.flatten(0, 1).cpu().double()
    base, x = undisguised(target, x)
    n = len(x)
    found = result.convergence
    cost = result.gradient_evaluations + DENSITY_COST * result.density_evaluations
    row: dict[str, Any] = dict.fromkeys(("ks", "ks_floor", "ks_ratio", "tv", "tv_iid", "evidence_error"))
    truth = truth_of(base, seed)
    if truth is not None:
        row["ks"], row["ks_floor"] = truth.distance(x), ks_floor(base, n, seed)
        row["ks_ratio"] = row["ks"] / row["ks_floor"]
    if (floor := tv_floor(base, n)) is not None and base.mode_weights is not None:
        finite = x.isfinite().all(1)
        labels = torch.full((n,), -1)
        labels[finite] = base.mode_of(x[finite])
        row["tv"], row["tv_iid"] = float(mode_weight_tv(labels, base.mode_weights.double())), floor
    if result.log_evidence is not None and target.log_z is not None:
        row["evidence_error"] = result.log_evidence - target.log_z
    row |= {
        "evidence_mcse": result.log_evidence_mcse,
        "evaluations": cost / n,
        "seconds": result.seconds,
        "rhat": found.worst_rhat,
        "ess": min((float(v) for v in found.ess_bulk if not math.isnan(v)), default=math.nan),
        "warnings": result.check(),
    }
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(20_000 + 10 * seed + stream)


def _columns(x: Tensor, scale: Tensor, directions: Tensor) -> Tensor:
    """``(d + P, n)`` coordinates and projections; infinite where the draw isn't finite."""
    finite = x.isfinite().all(1)
    safe = torch.where(finite[:, None], x, 0.0)
    columns = torch.cat([safe.T, directions @ (safe / scale).T])
    return torch.where(finite, columns, torch.inf).contiguous()
