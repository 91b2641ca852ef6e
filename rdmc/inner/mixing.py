"""How much of where inner chains began is left where they end: R-hat for chains of a few steps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["endpoint_rhat"]


def endpoint_rhat(begin: Tensor, end: Tensor) -> Tensor:
    r"""R-hat of the ends of inner chains with respect to their beginnings, pooled over particles; the largest over coordinates.

    With a and b the deviations, at the beginning and at the end, from the average over a particle's chains,

    .. math:: \rho = \frac{\sum a b}{\max(\sum a^2, \sum b^2)}, \qquad \hat R = \frac{1}{\sqrt{1 - \rho}}

    where sums run over chains and particles. rho is the share of the variance between chains that a run of the inner sampler leaves
    as it was, so this is R-hat, sqrt(total / within), for the one draw that each chain hands on. Chains that forgot their beginning
    give 1 up to ``O(1 / sqrt(C B))``; chains stuck in different modes give a large value. The usual split R-hat would need many
    draws of each chain; this needs none but the last, which is all that an exact bridge uses.

    Args:
        begin: ``(C, B, d)`` where C >= 2 chains of each of B particles began.
        end: ``(C, B, d)`` where they ended.

    Returns:
        ``()``; NaN for a single chain, and where no chain moved, ``inf``.
    """
    if begin.shape[0] < 2:
        return begin.new_full((), torch.nan)
    a, b = begin - begin.mean(0), end - end.mean(0)
    total = torch.maximum(a.square().sum((0, 1)), b.square().sum((0, 1)))
    rho = ((a * b).sum((0, 1)) / total).clamp(min=0.0, max=1.0)
    return torch.rsqrt(1.0 - rho).amax()
