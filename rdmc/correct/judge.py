"""How near a reference is to the target, seen from both sides."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Judgement", "forward_efficiency", "jump_acceptance", "log_mean_exp", "reverse_efficiency"]


def log_mean_exp(values: Tensor) -> Tensor:
    """``(...)`` log of the mean of the exponentials of ``(..., N)`` values."""
    return torch.logsumexp(values, -1) - math.log(values.shape[-1])


def forward_efficiency(log_weight: Tensor) -> Tensor:
    r"""``(...)`` effective share :math:`(\sum w)^2 / (N \sum w^2)` of draws of the reference, of ``(..., N)`` log weights.

    Blind to what the reference does not reach: a mode it lacks has no draw to be weighed.
    """
    return (2.0 * log_mean_exp(log_weight) - log_mean_exp(2.0 * log_weight)).exp()


def reverse_efficiency(log_weight: Tensor, log_evidence: Tensor) -> Tensor:
    r"""``()`` the same share, :math:`Z / E_\pi[\pi/g]`, from ``(N,)`` log weights at draws of pi.

    In the limit both are 1/(1 + chi-square divergence). They part where the population has reached places that the reference
    hardly proposes: then this one is far smaller.
    """
    return (log_evidence - log_mean_exp(log_weight)).exp()


def jump_acceptance(proposed: Tensor, present: Tensor, log_weight: Tensor) -> Tensor:
    r"""``()`` expected acceptance of an independence jump, at no evaluation.

    .. math:: \sum_i w_i \, \frac{1}{M} \sum_j \min(1, e^{p_j - q_i}), \qquad w_i \propto e^{\ell_i}

    Args:
        proposed: ``(M,)`` p, log f/g at draws of g.
        present: ``(N,)`` q, log f/g at particles.
        log_weight: ``(N,)`` l, log weights that give the particles the law f.

    Cost: ``O((M + N) log M)``.
    """
    order = proposed.sort().values
    below = torch.searchsorted(order, present)
    total = torch.cat([order.new_full((1,), -torch.inf), order.logcumsumexp(0)])
    taken = (total[below] - present).exp().nan_to_num(0.0, 0.0) + (len(order) - below)
    return (torch.softmax(log_weight, 0) * taken).sum() / len(order)


class Judgement(NamedTuple):
    """A reference seen from both sides, each number in [0, 1] up to noise; 1 where reference and target agree.

    Attributes:
        forward: Effective share of its draws as an importance sample of the target.
        reverse: The same share from draws of the target.
        jump: Acceptance of independence jumps at the target.
    """

    forward: float
    reverse: float
    jump: float

    @property
    def score(self) -> float:
        """The least of the three: each is blind to something that another sees. 0 where one of them is not a number."""
        return 0.0 if any(math.isnan(part) for part in self) else min(self)

    @property
    def merit(self) -> float:
        r"""How well it serves whatever it may lack: the least of jump and the roots of both shares.

        The shares are of second order, ruled by the few largest weights; their roots compare with an acceptance.
        """
        return 0.0 if any(math.isnan(part) for part in self) else min(self.jump, self.forward**0.5, self.reverse**0.5)
