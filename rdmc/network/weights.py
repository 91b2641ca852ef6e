"""What draws of the network are worth under the target: importance weights, the evidence, and an independence chain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.errors import NonFiniteDensityError
from rdmc.network.module import seeded
from rdmc.network.pareto import Smoothed, smooth

__all__ = ["IndependenceChains", "Weights", "chain", "weigh"]

RELIABLE = 0.7
"""Largest tail index with which weighted draws are trusted."""

DISAGREE = 4.0
"""Standard errors between two evidences that are called a disagreement: by chance 1 in 16,000."""


@dataclass(frozen=True, eq=False)
class Weights:
    r"""Draws of a normalised density q with their weights under an unnormalised pi.

    .. math:: w = \pi(x) / q(x), \qquad Z = E_q\, w

    Attributes:
        x: ``(n, d)`` draws of the network, independent.
        log_weight: ``(n,)`` log w, unnormalised and not smoothed; ``-inf`` outside the support of pi.
        smoothed: ``(n,)`` logs of normalised weights, Pareto-smoothed.
        pareto_k: Index of the tail of the weights: up to .7 the weighted draws can be trusted.
        folded: Share of the draws at which a step of the flow folded; their density is that of one sheet.
        known: Log evidence of the run that the network came from with its error, or None.
    """

    x: Tensor
    log_weight: Tensor
    smoothed: Tensor
    pareto_k: float
    folded: float = 0.0
    known: tuple[float, float] | None = None

    @property
    def ess(self) -> float:
        """Effective number of draws, (sum w)^2 / sum w^2 of the raw weights."""
        return float((2.0 * self.log_weight.logsumexp(0) - (2.0 * self.log_weight).logsumexp(0)).exp())

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight, which is an unbiased estimate of the evidence (not smoothed)."""
        return float(self.log_weight.logsumexp(0)) - math.log(len(self.log_weight))

    @property
    def log_evidence_mcse(self) -> float:
        """Its standard error, the relative error of the mean weight."""
        weight = (self.log_weight - self.log_weight.max()).exp()
        return float(weight.std() / (weight.mean() * len(weight) ** 0.5))

    def mean(self, values: Tensor) -> Tensor:
        """Smoothed-weighted mean of ``(n, ...)`` values at the draws."""
        return torch.tensordot(self.smoothed.exp(), values.to(self.smoothed), dims=1)

    def resample(self, n: int, seed: int = 0) -> Tensor:
        """``(n, d)`` draws picked by smoothed weight with one uniform shift (systematic resampling), in random order."""
        generator = seeded(seed, 5, self.x.device)
        shift = torch.rand(1, generator=generator, dtype=self.smoothed.dtype, device=self.x.device)
        at = (torch.arange(n, device=self.x.device) + shift) / n
        cumulative = self.smoothed.exp().cumsum(0)
        index = torch.searchsorted(cumulative, at * cumulative[-1], right=True).clamp(max=len(self.x) - 1)
        order = torch.randperm(n, generator=generator, device=self.x.device)
        return self.x[index[order]]

    def check(self) -> list[str]:
        """Problems in words; empty if none is known."""
        problems = []
        if not self.pareto_k <= RELIABLE:
            problems.append(
                f"the tail of the importance weights is too heavy (Pareto k = {self.pareto_k:.2f}, above {RELIABLE}): the weighted "
                "draws and the evidence are not reliable; train longer, on more draws, or use the run's own draws"
            )
        if self.folded > 0.0:
            problems.append(
                f"the flow folds at {self.folded:.2%} of the draws, where their density is wrong: use more `steps`"
            )
        if self.known is not None:
            apart, error = self.log_evidence - self.known[0], math.hypot(self.known[1], self.log_evidence_mcse)
            if not abs(apart) <= DISAGREE * error:
                problems.append(
                    f"the evidence by these weights is {self.log_evidence:.3f} and that of the run {self.known[0]:.3f}, "
                    f"{abs(apart) / error:.1f} standard errors apart: the network, or the run, has not the whole density"
                )
        return problems


@dataclass(frozen=True, eq=False)
class IndependenceChains:
    """Metropolis chains whose proposals are draws of the network.

    Attributes:
        samples: ``(chains, draws, d)`` states; their law has the target as its limit, and keeps it.
        log_density: ``(chains, draws)`` log density of the target there.
        acceptance: ``(chains,)`` share of proposals accepted.
        density_evaluations: Points at which the target was evaluated.
    """

    samples: Tensor
    log_density: Tensor
    acceptance: Tensor
    density_evaluations: int


def log_weights(density: Density, x: Tensor, log_q: Tensor) -> Tensor:
    """``(n,)`` log pi - log q.

    Raises:
        NonFiniteDensityError: If log pi is NaN or +inf anywhere.
    """
    value = density(x)
    wrong = value.isnan() | (value == torch.inf)
    if bool(wrong.any()):
        raise NonFiniteDensityError(
            f"`log_density` must be finite or -inf at draws of the network, got NaN or +inf at {int(wrong.sum())} of {len(x)}",
            points=x[wrong][:10],
        )
    return value - log_q


def weigh(
    density: Density, x: Tensor, log_q: Tensor, folded: Tensor, known: tuple[float, float] | None = None
) -> Weights:
    """Weights of ``(n, d)`` draws whose log density ``(n,)`` is known."""
    log_weight = log_weights(density, x, log_q)
    if bool((log_weight == -torch.inf).all()):
        raise NonFiniteDensityError(f"`log_density` is -inf at all {len(x)} draws of the network", points=x[:10])
    found: Smoothed = smooth(log_weight)
    return Weights(x, log_weight, found.log_weight, found.pareto_k, float(folded.double().mean()), known)


def chain(density: Density, points: Tensor, log_q: Tensor, log_u: Tensor) -> IndependenceChains:
    """Chains over given proposals.

    Args:
        density: Log pi.
        points: ``(chains, draws + 1, d)`` start and proposals.
        log_q: ``(chains, draws + 1)`` log density that they were drawn from.
        log_u: ``(chains, draws)`` logs of uniform draws.
    """
    log_weight = log_weights(density, points.flatten(0, 1), log_q.flatten()).view_as(log_q)
    index, accepted = metropolis(log_weight, log_u)
    samples = points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))
    value = (log_weight + log_q).gather(1, index)
    return IndependenceChains(samples, value, accepted.double().mean(1), density.counter.densities)


def metropolis(log_weight: Tensor, log_u: Tensor) -> tuple[Tensor, Tensor]:
    """Which proposal every state of an independence chain is, and which proposals were accepted.

    Law: the acceptance probability min(1, w' / w) leaves pi invariant.

    Args:
        log_weight: ``(chains, draws + 1)`` of the start and then of the proposals; a start of ``-inf`` is left at once.
        log_u: ``(chains, draws)`` logs of uniform draws.

    Returns:
        ``(chains, draws)`` index along ``log_weight``, and ``(chains, draws)`` whether it is new.
    """
    here = torch.zeros(len(log_weight), dtype=torch.int64, device=log_weight.device)
    current, index, accepted = log_weight[:, 0], [], []
    for k in range(1, log_weight.shape[1]):
        accept = (log_weight[:, k] - current > log_u[:, k - 1]) & (log_weight[:, k] > -torch.inf)
        here, current = torch.where(accept, k, here), torch.where(accept, log_weight[:, k], current)
        index.append(here)
        accepted.append(accept)
    return torch.stack(index, 1), torch.stack(accepted, 1)
