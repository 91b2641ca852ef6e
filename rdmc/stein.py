"""What a run is measured by: kernel Stein discrepancy and agreement without ground truth, distances to it where there is one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density
from rdmc.diagnostics.quality import iid_floor, mode_weight_tv, sliced_w2
from rdmc.locate.survey import Survey
from rdmc.result import Result

__all__ = ["DENSITY_COST", "Yardstick", "agree", "kernel_stein_discrepancy"]

DENSITY_COST = 0.5
"""What an evaluation of the density alone counts, where one with its gradient counts 1."""

_PROJECTIONS, _REFERENCES, _FLOOR_REPEATS, _STEIN_DRAWS = 64, 4, 8, 1000


def kernel_stein_discrepancy(x: Tensor, score: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    r"""Kernel Stein discrepancy of a sample, with the inverse multiquadric kernel, and what exact draws would show.

    .. math::
        k(x, y) = (c^2 + |x - y|^2)^{-1/2}, \qquad
        \mathrm{KSD}^2 = \frac{1}{n^2} \sum_{ij} \big[ s_i \cdot s_j\, k + s_i \cdot \nabla_y k + s_j \cdot \nabla_x k
        + \nabla_x \cdot \nabla_y k \big](x_i, x_j), \qquad s = \nabla \log \pi

    The terms off the diagonal have mean 0 for independent draws of pi, so the floor is the diagonal alone,
    :math:`n^{-1} \sqrt{\sum_i [\,\cdot\,](x_i, x_i)}`; autocorrelated draws lie above it.

    **Blind to mode weights**: the score near a mode doesn't know what the other modes weigh, so draws of separated modes in
    wrong proportions, or of one mode alone, pass for exact ones. It sees wrong shapes: bias, shifted or too narrow modes.

    Cost: ``O(n^2 d)`` time, ``O(n^2)`` memory, one score a draw.

    Args:
        x: ``(n, d)`` draws, in coordinates in which a mode has about unit width.
        score: ``(n, d)`` gradients of the log density at the draws, in the same coordinates.
        scale: The length c; by default sqrt(d), the distance over which draws of a unit mode differ.

    Returns:
        ``()`` KSD and ``()`` its floor; NaN if an input isn't finite.

    Raises:
        ValueError: If the shapes disagree, there are no draws, or ``scale`` is not positive.

    Source: Gorham and Mackey (2017), arXiv:1703.01717; blindness: Wenliang and Kanagawa (2020), arXiv:2008.10087.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> [round(float(value), 2) for value in kernel_stein_discrepancy(x, -x)]
        [0.05, 0.06]
        >>> [round(float(value), 2) for value in kernel_stein_discrepancy(x + 1, -(x + 1))]
        [0.97, 0.08]
    """
    if x.ndim != 2 or x.shape != score.shape or 0 in x.shape:
        raise ValueError(
            f"`x` and `score` must have one shape (n, d), neither 0, got {tuple(x.shape)} and {tuple(score.shape)}"
        )
    n, d = x.shape
    c = math.sqrt(d) if scale is None else scale
    if not c > 0.0:
        raise ValueError(f"`scale` must be a positive float, got {scale!r}")
    x = x - x.mean(0)
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    k = (c * c + square).rsqrt()
    cross, own = score @ x.T, (score * x).sum(-1)
    along = own[:, None] + own[None, :] - cross - cross.T  # (s_i - s_j) . (x_i - x_j)
    stein = (score @ score.T) * k + k**3 * (along + d) - 3.0 * k**5 * square
    return stein.mean().clamp(min=0.0).sqrt(), stein.diagonal().sum().sqrt() / n


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The same measures for every result on one target. What they cost is charged to no sampler.

    Attributes:
        density: The density, with a counter of its own.
        target: What the user gave; its ground truth is used where it has any.
        survey: Modes and coordinates by a pilot, or None.
        seed: Of the projections and exact draws.
        floors: What exact draws show, by their number; filled as needed.
    """

    density: Density
    target: Any
    survey: Survey | None
    seed: int
    floors: dict[int, dict[str, float | None]] = field(default_factory=dict)

    @property
    def can_sample(self) -> bool:
        """Whether the target has exact draws."""
        return bool(getattr(self.target, "can_sample", callable(getattr(self.target, "sample", None))))

    @property
    def true_weights(self) -> Tensor | None:
        """``(K,)`` the target's own mode weights."""
        weights = getattr(self.target, "mode_weights", None)
        return None if weights is None or not callable(getattr(self.target, "mode_of", None)) else weights.cpu()

    def labels(self, x: Tensor) -> tuple[Tensor, int] | None:
        """The mode of each of ``(n, d)`` draws and the number of modes: the target's own, else the survey's."""
        weights = self.true_weights
        if weights is not None:
            place = getattr(self.target, "device", "cpu")
            return self.target.mode_of(x.to(place)).cpu(), len(weights)
        if self.survey is None:
            return None
        groups = torch.tensor(self.survey.groups())
        white = self.survey.affine.to_white(x.to(self.density.device, self.density.dtype))
        return groups[self.survey.surrogate.log_components(white).argmax(-1).cpu()], len(groups)

    def measure(self, result: Result) -> tuple[dict[str, Any], Tensor | None]:
        """A row of a comparison but for ``agreement``, and the ``(K,)`` mode weights."""
        x = result.samples.flatten(0, 1).cpu().double()
        x = x[x.isfinite().all(-1)]
        cost = result.gradient_evaluations + DENSITY_COST * result.density_evaluations
        found, problems = result.convergence, result.check()
        row: dict[str, Any] = {
            "evaluations": cost / (result.chains * result.draws),
            "seconds": result.seconds,
            "rhat": found.worst_rhat,
            "ess_bulk": min((float(v) for v in found.ess_bulk if not math.isnan(v)), default=None),
            "ess_tail": min((float(v) for v in found.ess_tail if not math.isnan(v)), default=None),
            "ess_per_1000": 1000.0 * found.worst_ess / cost if cost else None,
            "log_evidence": result.log_evidence,
            "log_evidence_mcse": result.log_evidence_mcse,
            "problems": len(problems),
            "first_problem": problems[0] if problems else None,
        }
        row |= dict.fromkeys(("modes", "sliced_w2", "mode_tv", "ksd", "ksd_floor", "agreement"))
        row |= self._floors(max(1, len(x)))
        weights: Tensor | None = None
        if len(x):
            labelled = self.labels(x)
            if labelled is not None:
                weights = torch.bincount(labelled[0].clamp(min=-1) + 1, minlength=labelled[1] + 1).double() / len(x)
                row["modes"] = int((weights[1:] > 0).sum())
                if self.true_weights is not None:
                    row["mode_tv"] = float(mode_weight_tv(labelled[0], self.true_weights.double()))
            if self.can_sample:
                generator = self._generator(0)  # the same exact samples for every sampler
                distances = [self._distance(x, self._exact(len(x), generator)) for _ in range(_REFERENCES)]
                row["sliced_w2"] = float(torch.stack(distances).mean())
            row["ksd"], row["ksd_floor"] = (float(value) for value in self._stein(x))
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}, weights

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + stream)

    def _exact(self, n: int, generator: torch.Generator) -> Tensor:
        x: Tensor = self.target.sample(n, generator)
        return x.cpu().double()

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        return sliced_w2(x, y, _PROJECTIONS, self._generator(1))

    def _floors(self, n: int) -> dict[str, float | None]:
        """Means over pairs of exact samples, or over exact samples, of n draws."""
        if n not in self.floors:
            generator, w2, tv = self._generator(2), None, None
            if self.can_sample:
                w2 = float(iid_floor(self._exact, n, self._distance, _FLOOR_REPEATS, generator).mean())
            if (true := self.true_weights) is not None:
                labels = torch.multinomial(true.double(), n * 64, replacement=True, generator=generator).view(64, n)
                tv = float(torch.stack([mode_weight_tv(row, true.double()) for row in labels]).mean())
            self.floors[n] = {"sliced_w2_floor": w2, "mode_tv_floor": tv}
        return self.floors[n]

    def _stein(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """In the survey's coordinates, in which modes have unit width on average; else in the user's own."""
        dtype, device = self.density.dtype, self.density.device
        affine = Affine.identity(self.density.dim, dtype=dtype, device=device)
        affine = affine if self.survey is None else self.survey.affine
        z = affine.to_white(x[:: -(-len(x) // _STEIN_DRAWS)].to(device, dtype))
        return kernel_stein_discrepancy(z, InCoordinates(self.density, affine).value_and_grad(z)[1])


def agree(
    rows: Sequence[Mapping[str, Any]], weights: Sequence[Tensor | None], blind: Collection[str]
) -> tuple[list[float | None], list[str]]:
    """Total variation between each run's mode weights and the samplers' consensus.

    The consensus is the median, mode by mode, over the samplers none of whose runs has a problem, each at its mean weights.
    ``blind`` samplers, which couldn't have had one, don't vote.

    Args:
        rows: A row a run, with ``sampler`` and ``problems``.
        weights: Mode weights of each run, None where there are none.
        blind: Samplers without a vote.

    Returns:
        A number a run, None where there are no weights or nobody votes; and the voters.

    Example:
        >>> rows = [{"sampler": name, "problems": int(name == "d")} for name in "abcd"]
        >>> votes = [torch.tensor([p, 1 - p]) for p in (0.25, 0.25, 0.5, 1.0)]
        >>> agree(rows, votes, ())
        ([0.0, 0.0, 0.25, 0.75], ['a', 'b', 'c'])
    """
    runs: dict[str, list[Tensor]] = {}
    barred = set(blind)
    for row, weight in zip(rows, weights, strict=True):
        if weight is not None:
            runs.setdefault(row["sampler"], []).append(weight)
        if row["problems"] != 0:
            barred.add(row["sampler"])
    voters = [name for name in runs if name not in barred]
    if not voters:
        return [None] * len(rows), []
    middle = torch.stack([torch.stack(runs[name]).mean(0) for name in voters]).quantile(0.5, dim=0)
    middle = middle / middle.sum()
    return [None if w is None else float(0.5 * (w - middle).abs().sum()) for w in weights], voters
