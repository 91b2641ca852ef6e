"""Constraints: those of torch by object or by name, and the two that torch lacks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

__all__ = ["NAMED", "ordered", "positive_ordered", "resolve"]


class _Ordered(Constraint):
    """Vectors whose entries ascend, along the last axis."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector ascends strictly."""
        return (value.diff(dim=-1) > 0.0).all(-1) & ~torch.isnan(value).any(-1)


class _PositiveOrdered(_Ordered):
    """Vectors whose entries ascend and are positive, along the last axis."""

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector ascends strictly from above 0."""
        return super().check(value) & (value > 0.0).all(-1)


ordered: Constraint = _Ordered()
"""Vectors that ascend along the last axis: they break the symmetry of exchangeable components."""

positive_ordered: Constraint = _PositiveOrdered()
"""Positive vectors that ascend along the last axis."""

NAMED: dict[str, Constraint] = {
    "real": constraints.real,
    "positive": constraints.positive,
    "unit_interval": constraints.unit_interval,
    "simplex": constraints.simplex,
    "ordered": ordered,
    "positive_ordered": positive_ordered,
    "lower_cholesky": constraints.lower_cholesky,
    "corr_cholesky": constraints.corr_cholesky,
}
"""Constraints that need no argument, by name."""


def resolve(constraint: Constraint | str) -> Constraint:
    """The constraint of one event: looked up if it came by name, without torch's ``independent`` around it.

    Shapes say which axes are independent, so that ``independent(positive, 1)`` is ``positive``.

    Raises:
        ValueError: For a name that isn't in :data:`NAMED`, or what is not a constraint.
    """
    found = NAMED.get(constraint) if isinstance(constraint, str) else constraint
    if not isinstance(found, Constraint):
        raise ValueError(
            f"`constraint` must be one of {', '.join(map(repr, NAMED))} or a constraint of torch.distributions, "
            f"got {constraint!r}"
        )
    return resolve(found.base_constraint) if isinstance(found, constraints.independent) else found
