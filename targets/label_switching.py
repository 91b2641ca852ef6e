"""Unknown means of a three-component mixture: the smallest posterior with exactly symmetric modes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from targets.base import Target
from targets.draws import seeded
from targets.orderings import ordering_index, uniform_weights

__all__ = ["LabelSwitching", "label_switching"]

_CENTRES = (-2.5, 0.0, 3.5)
_SD = 1.0
_PRIOR_SD = 10.0
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelSwitching(Target):
    r"""Posterior of the means of an equal-weight, unit-variance normal mixture.

    .. math:: \log \pi(\mu) = \sum_{i=1}^n \log \frac13 \sum_{k=1}^3 N(y_i; \mu_k, 1)
              + \sum_{k=1}^3 \log N(\mu_k; 0, 10^2)

    Every permutation of the coordinates leaves it unchanged. The mode of a point is the ordering of its coordinates
    (:func:`targets.orderings.ordering_index`).

    Attributes:
        data: ``(n,)`` observations y.
    """

    data: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior, all constants included: ``(M, 3) -> (M,)``."""
        return torch.logsumexp(self._logs(x), dim=2).sum(1) + self._log_prior(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        logs = self._logs(x)
        per_point = torch.logsumexp(logs, dim=2)
        responsibility = torch.exp(logs - per_point[:, :, None])
        pull = (responsibility * (self.data[:, None] - x[:, None, :])).sum(1) / _SD**2
        return per_point.sum(1) + self._log_prior(x), pull - x / _PRIOR_SD**2

    def mode_of(self, x: Tensor) -> Tensor:
        """Ordering of the coordinates: ``(M, 3) -> (M,)``."""
        return ordering_index(x)

    def _logs(self, x: Tensor) -> Tensor:
        """``(M, n, 3)`` log of weight times component density."""
        z = (self.data[:, None] - x[:, None, :]) / _SD
        return -0.5 * z.square() - math.log(_SD) - 0.5 * _LOG_2PI - math.log(3.0)

    def _log_prior(self, x: Tensor) -> Tensor:
        return -0.5 * (x / _PRIOR_SD).square().sum(1) - 3.0 * (math.log(_PRIOR_SD) + 0.5 * _LOG_2PI)


def label_switching(observations: int = 60, seed: int = 0) -> LabelSwitching:
    r"""Posterior of three unknown means, given simulated data.

    Data: ``observations`` draws from the equal mixture of N(-2.5, 1), N(0, 1), N(3.5, 1), from the seed. Ground
    truth: the 3! modes have probability 1/6 each by symmetry. ``log_z`` by the trapezoidal rule with spacing 0.2 on
    [-10, 10]^3, once per unordered triple (spacing 0.13 changes it by less than 1e-10). Modes by expectation
    maximisation.

    Args:
        observations: Number n of data, at least 10.
        seed: Of the data.

    Raises:
        ValueError: If ``observations`` is below 10.

    Source: the model of Celeux, Hurn, Robert (2000), Computational and inferential difficulties with mixture posterior
    distributions, JASA 95, section 2; data simulated here.
    """
    if observations < 10:
        raise ValueError(f"`observations` must be at least 10, got {observations}")
    generator = seeded(seed)
    component = torch.randint(3, (observations,), generator=generator)
    noise = torch.randn(observations, generator=generator, dtype=torch.float64)
    bare = LabelSwitching(
        name="label_switching",
        dim=3,
        source="after Celeux, Hurn, Robert (2000), JASA 95; simulated data",
        data=torch.tensor(_CENTRES, dtype=torch.float64)[component] + _SD * noise,
    )
    peak = _ascend(bare)
    orderings = sorted(permutations(range(3)), key=lambda p: int(ordering_index(peak[list(p)][None])))
    return replace(
        bare,
        log_z=_log_evidence(bare, 0.2),
        modes=torch.stack([peak[list(p)] for p in orderings]),
        mode_weights=uniform_weights(3),
    )


def _ascend(target: LabelSwitching) -> Tensor:
    """``(3,)`` the ascending mode: expectation maximisation, whose fixed point is where the gradient vanishes."""
    mean = torch.tensor(_CENTRES, dtype=torch.float64)
    for _ in range(500):
        responsibility = torch.softmax(target._logs(mean[None])[0], dim=1)
        mean = responsibility.T @ target.data / (responsibility.sum(0) + (_SD / _PRIOR_SD) ** 2)
    return mean


def _log_evidence(target: LabelSwitching, spacing: float) -> float:
    """Trapezoidal rule over [-10, 10]^3 that visits each unordered triple of nodes once."""
    side = int(10.0 / spacing)
    nodes = spacing * torch.arange(-side, side + 1, dtype=torch.float64)
    triples = torch.combinations(torch.arange(len(nodes)), 3, with_replacement=True)
    distinct = 1 + (triples.diff(dim=1) != 0).sum(1)
    times = torch.tensor([0.0, 1.0, 3.0, 6.0], dtype=torch.float64)[distinct]
    near = nodes[triples]
    logs = torch.cat([target.log_density(part) for part in torch.split(near, 2**13)])
    return float(torch.logsumexp(logs + times.log(), 0)) + 3.0 * math.log(spacing)
