"""Objects of ``torch.distributions``, in the coordinates that ``biject_to`` gives their support."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from rdmc.density import Density
from rdmc.interop.model import Draws, Model

__all__ = ["density"]


def _unvalidated(distribution: Distribution) -> Distribution:
    """A copy, its parts included, that gives NaN a log density instead of raising for the whole batch."""
    own = copy.copy(distribution)
    own._validate_args = False
    for name, part in vars(own).items():
        if isinstance(part, Distribution):
            setattr(own, name, _unvalidated(part))
    return own


def density(distribution: Distribution, name: str = "x") -> Model:
    r"""A distribution as a batched density on R^d.

    With T the bijection from R^d to the support, the log density at z is :math:`\log p(T(z)) + \log |\det \partial T(z)|`; draws
    come back as T(z), in the shape of the event. Normalised, so that the log evidence is 0.

    Args:
        distribution: With an empty batch shape; ``Independent`` makes events of batches.
        name: Of the variable.

    Raises:
        ValueError: If the distribution has a batch shape or is discrete, or torch knows no bijection to its support.
    """
    if tuple(distribution.batch_shape):
        raise ValueError(
            f"`distribution` must have an empty batch shape, got {tuple(distribution.batch_shape)}: one of many, or all as one "
            f"event by torch.distributions.Independent(distribution, {len(distribution.batch_shape)})"
        )
    support: Any = distribution.support
    if support is None or support.is_discrete:
        raise ValueError(f"`distribution` must be continuous, got {type(distribution).__name__} with support {support}")
    if type(support).__name__ == "MixtureSameFamilyConstraint":
        support = support.base_constraint  # that of the components, which torch has a bijection to
    event = tuple(distribution.event_shape)
    try:
        transform: Any = biject_to(support)
        shape = tuple(transform.inverse_shape(event))
        got = tuple(transform(torch.zeros(1, *shape)).shape)
    except NotImplementedError as error:
        raise ValueError(f"`distribution` has a support that torch has no bijection to: {support}") from error
    if got != (1, *event):
        raise ValueError(f"`distribution` must have components of one support, got {support} with bounds of their own")
    plain = _unvalidated(distribution)
    size = int(torch.Size(shape).numel())

    def log_density(x: Tensor) -> Tensor:
        z = x.reshape(-1, *shape)
        y = transform(z)
        value: Tensor = plain.log_prob(y) + transform.log_abs_det_jacobian(z, y).reshape(len(x), -1).sum(1)
        return value

    def constrain(x: Tensor) -> Draws:
        return {name: transform(x.detach().reshape(-1, *shape)).cpu().numpy()}

    return Model(Density(log_density, size), (name,), (shape,), constrain)
