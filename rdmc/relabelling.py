r"""Label switching undone: one labelling of exchangeable components for all draws.

The posterior of a mixture with exchangeable components has K! copies of every mode, and a sampler that does its work visits them
all; then every component has the same marginal law, and means by component say nothing. Relabelling picks one permutation for each
draw so that draws with the same label resemble each other. It changes nothing that does not depend on labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["KullbackLeibler", "Relabelled", "SquaredDistance", "relabel"]

Values = TypeVar("Values", Tensor, NDArray[Any])


@dataclass(frozen=True, eq=False)
class Relabelled:
    """Draws under one labelling.

    Attributes:
        draws: The draws as given, components permuted.
        permutation: ``(*sample, K)``; component k of a draw was its component ``permutation[..., k]`` before.
        loss: Mean over draws of what the method minimises.
        sweeps: Passes over the draws until nothing changed, of the best start.
    """

    draws: dict[str, Any]
    permutation: Tensor
    loss: float
    sweeps: int

    def permute(self, values: Tensor, axes: Sequence[int] = (0,)) -> Tensor:
        """Another quantity of the same draws, ``(*sample, ...)``, with its axes of components permuted alike.

        Args:
            values: For example allocation probabilities ``(chain, draw, n, K)``.
            axes: Which run over components, counted from 0 after the sample axes: ``(1,)`` for these.
        """
        return _permuted(values, self.permutation, axes)


class Divergence(Protocol):
    """How far components are from centres: ``own + cross``; the mean of its members must be the best centre of a label."""

    def own(self, features: Tensor) -> Tensor:
        """``(T, K)`` the part that does not depend on centres, of features ``(T, K, f)``."""
        ...

    def cross(self, features: Tensor, centre: Tensor) -> Tensor:
        """``(T, K, K)`` the rest, of component l of draw t and centre j, given ``(T, K, f)`` and ``(K, f)``."""
        ...


@dataclass(frozen=True)
class SquaredDistance:
    """The squared Euclidean distance."""

    def own(self, features: Tensor) -> Tensor:  # noqa: D102
        return features.square().sum(-1)

    def cross(self, features: Tensor, centre: Tensor) -> Tensor:  # noqa: D102
        return centre.square().sum(-1) - 2.0 * features @ centre.T


@dataclass(frozen=True)
class KullbackLeibler:
    r"""The sum over observations of :math:`p \log (p / q)`, p the allocation probabilities of a draw and q the centre."""

    def own(self, features: Tensor) -> Tensor:  # noqa: D102
        return torch.special.xlogy(features, features).sum(-1)

    def cross(self, features: Tensor, centre: Tensor) -> Tensor:  # noqa: D102
        return -(features @ centre.clamp(min=torch.finfo(centre.dtype).tiny).log().T)  # 0 log 0 is 0


def relabel(
    draws: Mapping[str, Values],
    allocation: Tensor | NDArray[Any] | None = None,
    *,
    axes: Mapping[str, Sequence[int]] | None = None,
    sample_dims: int = 2,
    starts: int = 8,
) -> Relabelled:
    r"""Draws of a mixture under one labelling of its components.

    With the allocation probabilities :math:`p_{ik}` that observation i belongs to component k this is Stephens' algorithm:
    permutations :math:`\nu_t` and a matrix q are chosen to make least

    .. math:: \sum_t \sum_i \sum_k p^{(t)}_{i \nu_t(k)} \log \frac{p^{(t)}_{i \nu_t(k)}}{q_{ik}} .

    Without them, components are compared by the values in ``draws`` themselves, each entry divided by its standard deviation over
    all draws and components, and the sum of squared distances from the centre of each label is made least. Prefer the former where
    components differ in what they explain rather than in their parameters.

    Both go on in turns: the best permutation of each draw given the centres is an assignment problem, solved exactly; the best
    centres given the permutations are means. The loss falls with each turn, so it ends, in a local minimum; the first centres are
    the components of one draw (the pivot), and of several pivots, spread evenly over the draws, the one with the least loss in the
    end is taken. Labels are then numbered by the ascending mean of the first entry of the first variable with components. So the
    result does not depend on how the components of each draw were numbered, and relabelling a second time changes nothing.

    Cost: ``starts`` times some ten sweeps; a sweep solves one K x K assignment a draw. No evaluation of the density.

    Args:
        draws: By name, ``(chain, draw, K, ...)``: for example ``parameters.constrain(result.samples)``. Tensors or numpy arrays.
        allocation: ``(chain, draw, n, K)`` probabilities, each row summing to 1, or None.
        axes: Which axes of a variable run over components, counted from 0 after the sample axes: ``{"transition": (0, 1)}`` for
            a matrix between components, ``{"tau": ()}`` for a variable that has none. By default the first one, ``(0,)``.
        sample_dims: Number of leading axes that number draws.
        starts: Number of pivots.

    Returns:
        The relabelled draws, of the same types as given, with the permutations.

    Raises:
        ValueError: If shapes disagree, a value is not finite, or the allocation is not one of probabilities.

    Source: Stephens (2000), Dealing with label switching in mixture models, JRSS B 62; Marin, Mengersen, Robert (2005), Bayesian
    modelling and inference on mixtures of distributions, Handbook of Statistics 25 (the pivot).

    Example:
        >>> draws = {"mean": torch.tensor([[[0.0, 5.0], [5.5, 0.5], [0.0, 4.0]]])}
        >>> relabel(draws).draws["mean"].tolist()
        [[[0.0, 5.0], [0.5, 5.5], [0.0, 4.0]]]
    """
    tensors = {name: _tensor(values) for name, values in draws.items()}
    chosen = _axes(tensors, axes, sample_dims)
    sample, k = _sizes(tensors, chosen, sample_dims)
    if starts < 1:
        raise ValueError(f"`starts` must be at least 1, got {starts}")
    values = _values(tensors, chosen, sample_dims)
    divergence: Divergence
    if allocation is None:
        spread = values.flatten(0, 1).std(0, correction=0)
        features, divergence = values / torch.where(spread > 0.0, spread, 1.0), SquaredDistance()
    else:
        features, divergence = _probabilities(_tensor(allocation), sample, k), KullbackLeibler()
    pivots = sorted({round(i * (len(features) - 1) / max(starts - 1, 1)) for i in range(starts)})
    ends = [_turns(features, divergence, features[pivot]) for pivot in pivots]
    permutation, loss, sweeps = min(ends, key=lambda end: end[1])
    first = _taken(values[..., :1], permutation).mean(0)[:, 0]
    permutation = permutation[:, first.argsort(stable=True)].reshape(*sample, k)
    moved = {name: _permuted(value, permutation, chosen[name]) for name, value in tensors.items()}
    given = {name: value if isinstance(draws[name], Tensor) else value.numpy() for name, value in moved.items()}
    loss += float(divergence.own(features).sum(1).mean())
    return Relabelled(given, permutation, loss, sweeps)


def _tensor(values: Any) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _turns(features: Tensor, divergence: Divergence, centre: Tensor) -> tuple[Tensor, float, int]:
    """``(T, K)`` permutations at a local minimum of the loss, the loss less a constant, and the number of sweeps to it."""
    permutation = torch.full(features.shape[:2], -1, dtype=torch.int64, device=features.device)
    sweeps = 0
    best = torch.inf
    while True:
        sweeps += 1
        cost = divergence.cross(features, centre)
        proposed = _assigned(cost)
        loss = float(cost.gather(1, proposed[:, None, :]).sum((1, 2)).mean())
        if torch.equal(proposed, permutation) or not loss < best:
            return permutation, min(loss, best), sweeps
        permutation, best = proposed, loss
        centre = _taken(features, permutation).mean(0)


def _assigned(cost: Tensor) -> Tensor:
    """``(T, K)``: which component goes to each centre, of least total cost in each draw."""
    from scipy.optimize import linear_sum_assignment

    each = cost.transpose(1, 2).cpu().numpy()
    return torch.from_numpy(np.stack([linear_sum_assignment(one)[1] for one in each])).to(cost.device)


def _taken(features: Tensor, permutation: Tensor) -> Tensor:
    """``(T, K, f)`` features in the new order."""
    return features.take_along_dim(permutation[..., None], 1)


def _permuted(values: Tensor, permutation: Tensor, axes: Sequence[int]) -> Tensor:
    """Values with each axis of components in the new order."""
    lead = permutation.ndim - 1
    for axis in axes:
        shape = [*permutation.shape[:lead], *(1,) * (values.ndim - lead)]
        shape[lead + axis] = permutation.shape[-1]
        values = values.take_along_dim(permutation.reshape(shape), lead + axis)
    return values


def _axes(
    draws: Mapping[str, Tensor], axes: Mapping[str, Sequence[int]] | None, sample_dims: int
) -> dict[str, tuple[int, ...]]:
    """Axes of components of each variable."""
    axes = axes or {}
    if unknown := [name for name in axes if name not in draws]:
        raise ValueError(f"`axes` must be of variables in `draws`, {list(draws)}, got {unknown}")
    chosen = {name: tuple(axes.get(name, (0,))) for name in draws}
    for name, own in chosen.items():
        rank = draws[name].ndim - sample_dims
        if len(set(own)) != len(own) or not all(0 <= axis < rank for axis in own):
            raise ValueError(
                f"`axes` must be distinct and in 0..{rank - 1} for {name!r}, which has shape {tuple(draws[name].shape)} and "
                f"{sample_dims} sample axes, got {own}"
            )
    return chosen


def _sizes(
    draws: Mapping[str, Tensor], axes: Mapping[str, tuple[int, ...]], sample_dims: int
) -> tuple[tuple[int, ...], int]:
    """Shape of the sample axes and number of components, the same for all."""
    samples = {name: tuple(value.shape[:sample_dims]) for name, value in draws.items()}
    if len(set(samples.values())) != 1 or 0 in next(iter(samples.values())):
        raise ValueError(f"`draws` must share their {sample_dims} sample axes, none of them empty, got {samples}")
    counts = {name: [draws[name].shape[sample_dims + axis] for axis in own] for name, own in axes.items() if own}
    if len({count for own in counts.values() for count in own}) != 1:
        raise ValueError(f"`draws` must have one number of components along `axes`, got {counts}")
    return next(iter(samples.values())), next(iter(counts.values()))[0]


def _values(draws: Mapping[str, Tensor], axes: Mapping[str, tuple[int, ...]], sample_dims: int) -> Tensor:
    """``(T, K, f)`` entries of each component, of variables with one axis of components."""
    parts = []
    for name, value in draws.items():
        if len(axes[name]) == 1:
            flat = value.flatten(0, sample_dims - 1).movedim(1 + axes[name][0], 1)
            parts.append(flat.flatten(2) if flat.ndim > 2 else flat[..., None])
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"`draws` must be finite, but {name!r} is not")
    if not parts:
        raise ValueError("`draws` must hold a variable with one axis of components")
    return torch.cat(parts, -1).double()


def _probabilities(allocation: Tensor, sample: tuple[int, ...], k: int) -> Tensor:
    """``(T, K, n)`` allocation probabilities."""
    if allocation.ndim != len(sample) + 2 or (*allocation.shape[:-2], allocation.shape[-1]) != (*sample, k):
        raise ValueError(f"`allocation` must have shape {(*sample, 'n', k)}, got {tuple(allocation.shape)}")
    p = allocation.double()
    error = (p.sum(-1) - 1.0).abs().amax()
    if not bool((p >= 0.0).all()) or not bool(error < 1e-4):
        raise ValueError(
            f"`allocation` must be of probabilities that sum to 1 over the last axis, got a least one of {float(p.min())} and sums "
            f"off by up to {float(error)}"
        )
    return p.flatten(0, len(sample) - 1).transpose(1, 2)
