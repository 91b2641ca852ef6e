r"""Which mode each particle belongs to, level by level, and the window in which theory expects that to be decided.

A sampler records labels with :class:`Modes` after every level and turns them into columns of its ``inner`` diagnostics when it is
done; nothing else is needed for :meth:`rdmc.Result.capture` to tell the story.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.table import Table

__all__ = ["KEPT", "Modes", "edges", "mode_columns", "places", "tells_more"]

KEPT = "kept"
"""Name of the column with the share of particles whose mode is already that of their final draw."""
_MODE = "mode "
_MOST = 32  # modes that are recorded, those of the greatest weight in the survey


def mode_columns(inner: Mapping[str, object]) -> list[str]:
    """Names of the columns that hold the frequency of a mode, in the order of the modes."""
    return sorted((name for name in inner if name.startswith(_MODE)), key=lambda name: int(name[len(_MODE) :]))


def tells_more(inner: Mapping[str, object]) -> bool:
    """Whether diagnostics by level hold more than where the levels are and which modes the particles are in."""
    return bool(set(inner) - {*mode_columns(inner), KEPT, "t", "sigma", "log_snr", "beta"})


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of a survey, heaviest first, as labels of particles.

    Attributes:
        mixture: The survey's mixture.
        mode: ``(K,)`` the mode that each component belongs to; those beyond the recorded ones count as one more.
        count: Modes recorded.
    """

    mixture: GaussianMixture
    mode: Tensor
    count: int

    @classmethod
    def of(cls, survey: Survey) -> Modes:
        """The modes of a survey; what it counts as one mode is one here."""
        order = _order(survey)
        where = {group: min(index, _MOST) for index, group in enumerate(order)}
        mode = [where[group] for group in survey.groups()]
        device = survey.surrogate.mean.device
        return cls(survey.surrogate, torch.tensor(mode, dtype=torch.int16, device=device), min(len(order), _MOST))

    def label(self, x: Tensor) -> Tensor:
        """``(B,)`` the mode of each of ``(B, d)`` points in the survey's coordinates, -1 where a point is not finite.

        Cost: the responsibilities of the mixture, ``O(K d^2)`` a point; no evaluation of the target.
        """
        label = self.mode[self.mixture.log_responsibilities(x).argmax(-1)]
        return torch.where(x.isfinite().all(-1), label, -1)

    def columns(self, labels: Sequence[Tensor], last: Tensor) -> dict[str, NDArray[np.float64]]:
        """``(levels,)`` columns: the frequency of each mode, and the share of particles that are in their final mode.

        Args:
            labels: ``(B,)`` labels after each level.
            last: ``(B,)`` labels of the draws that the run returns.
        """
        if not labels:
            return {}
        path = torch.stack(list(labels))
        shares = [(path == k).double().mean(1) for k in range(self.count)]
        found = {f"{_MODE}{k}": share for k, share in enumerate(shares)} | {KEPT: (path == last).double().mean(1)}
        return {name: values.cpu().numpy() for name, values in found.items()}


def _order(survey: Survey) -> list[int]:
    """The survey's groups of components, heaviest first."""
    weight: dict[int, float] = {}
    for group, log_weight in zip(survey.groups(), survey.surrogate.log_weight.tolist(), strict=True):
        weight[group] = weight.get(group, 0.0) + math.exp(log_weight)
    return sorted(weight, key=lambda group: -weight[group])


def places(survey: Survey) -> Table:
    """The recorded modes, one row each in the order of the columns.

    ``location`` is the mean of the mode's heaviest component in the user's coordinates, ``weight`` the survey's own and rough.
    ``low`` and ``high`` are the :func:`edges` of the window between the mode and the one nearest to it, ``first`` the lower edge of
    that between it and the farthest one; all are log signal-to-noise ratios, NaN for a single mode.
    """
    groups, mixture = torch.tensor(survey.groups()), survey.surrogate
    order = _order(survey)[:_MOST]
    weight = mixture.log_weight.cpu().exp()
    heads = [int((weight * (groups == group)).argmax()) for group in order]
    covariance = (mixture.basis * mixture.variance[:, None, :]) @ mixture.basis.mT
    distance = torch.cdist(mixture.mean[heads], mixture.mean[heads]).cpu()
    rows = []
    for k, (head, group) in enumerate(zip(heads, order, strict=True)):
        others = [heads[j] for j in distance[k].argsort()[1:].tolist()]

        def window(other: int, head: int = head) -> tuple[float, float]:
            return edges(0.5 * (mixture.mean[other] - mixture.mean[head]), 0.5 * (covariance[other] + covariance[head]))

        low, high = window(others[0]) if others else (math.nan, math.nan)
        first = window(others[-1])[0] if others else math.nan
        rows.append(
            {
                "location": survey.modes[head].tolist(),
                "weight": float(weight[groups == group].sum()),
                "low": low,
                "high": high,
                "first": first,
            }
        )
    return Table.from_rows(rows, ("location", "weight", "low", "high", "first"))


def edges(half: Tensor, covariance: Tensor) -> tuple[float, float]:
    r"""The window of a pair of equal modes at :math:`\pm \delta` with covariance S, as log signal-to-noise ratios.

    Below the low edge p_t has one mode, above the high edge q_t is log-concave whatever x_t is:

    .. math::
        \delta^T (S + I / \mathrm{snr})^{-1} \delta \le 1, \qquad
        w^T (S^{-1} + \mathrm{snr}\, I)^{-1} w \le 1, \quad w = S^{-1} \delta .

    For S = s^2 I these are snr <= 1 / (m^2 - s^2) and snr >= (m^2 - s^2) / s^4 with m the length of delta. For two unequal modes S
    is the average of their covariances, which is a rule and no theorem.

    Args:
        half: ``(d,)`` half the way from one mode to the other.
        covariance: ``(d, d)`` S.

    Returns:
        Low and high edge; infinite and minus infinite where the pair is one mode at all levels.
    """
    variance, basis = (part.numpy() for part in torch.linalg.eigh(covariance.double().cpu()))
    squared = (half.double().cpu().numpy() @ basis) ** 2
    if float((squared / variance).sum()) <= 1.0:
        return math.inf, -math.inf
    low = _root(lambda snr: float((squared / (variance + 1.0 / snr)).sum()) - 1.0)
    high = _root(lambda snr: 1.0 - float((squared / variance**2 / (1.0 / variance + snr)).sum()))
    return low, high


def _root(f: Callable[[float], float]) -> float:
    """The logarithm of the point where an increasing function of the signal-to-noise ratio is 0."""
    low, high = -80.0, 80.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if f(math.exp(middle)) < 0.0 else (low, middle)
    return 0.5 * (low + high)
