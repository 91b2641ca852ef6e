"""Stan models through BridgeStan: a compiled ``StanModel``, asked point by point."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.density import Density
from rdmc.errors import DensityError
from rdmc.interop.model import Draws, Model

__all__ = ["density", "grouped"]

_TRIED = 8  # random points
_SAME = 1e-9  # far above rounding, far below what a solver's tolerance leaves


def grouped(names: Sequence[str]) -> dict[str, tuple[tuple[int, ...], list[int]]]:
    """Variables of Stan's flat names ``theta.2.1``: the shape of each, and where its elements are, in row-major order.

    Names that are no plain arrays (tuples, ``a.1:2``) are left as scalars under the name they have.

    Example:
        >>> grouped(["mu", "m.1.1", "m.2.1", "m.1.2", "m.2.2"])
        {'mu': ((), [0]), 'm': ((2, 2), [1, 3, 2, 4])}
    """
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for place, full in enumerate(names):
        name, *words = full.split(".")
        plain = all(word.isdigit() for word in words)
        index = tuple(int(word) - 1 for word in words) if plain else ()
        found.setdefault(name if plain else full, {})[index] = place
    shapes = {name: tuple(int(size) for size in np.max(list(index), axis=0) + 1) for name, index in found.items()}
    return {name: (shapes[name], [index[at] for at in np.ndindex(*shapes[name])]) for name, index in found.items()}


def _rowwise(x: Tensor, function: Callable[[NDArray[np.float64]], Any]) -> list[Any]:
    if x.dtype != torch.float64:
        raise ValueError(f"`dtype` must be torch.float64 for a Stan model, which knows no other, got {x.dtype}")
    return [function(point) for point in np.ascontiguousarray(x.detach().cpu().numpy())]


def density(model: Any, *, include_tp: bool = True, include_gq: bool = False, seed: int = 0) -> Model:
    """A compiled Stan model as a density with gradient.

    The log density keeps all constants (``propto=False``) and the Jacobian, so that the log evidence is the model's. Note that Stan
    does not normalise a distribution truncated by a bound of its parameter: a half Cauchy lacks a factor of 2.

    A point at which the model throws (a check of a distribution's arguments fails, or ``reject``) has no density, which is what
    Stan's own samplers take it for: the value is ``-inf``.

    Where a model solves differential equations, the value alone and the value with its gradient differ, because the solver takes
    other steps when it follows derivatives too. A sampler needs one density: if the two differ at any of eight random points, the
    value is always that with the gradient.

    Cost: one call into the compiled model a point.

    Args:
        model: A ``bridgestan.StanModel``, built and with its data. Nothing is compiled here.
        include_tp: Whether draws have the transformed parameters.
        include_gq: Whether draws have the generated quantities, drawn with ``seed``.
        seed: Seed of Stan's generator for them.

    Raises:
        ValueError: If the model has no parameters.
        DensityError: If it throws at each of eight random points, with the first message.

    Source: Roualdes et al. (2023), BridgeStan: Efficient in-memory access to the methods of a Stan model, JOSS 8(87), 5236.
    """
    dim = int(model.param_unc_num())
    if dim < 1:
        raise ValueError("`model` must have at least one parameter, got none")
    parameters = grouped(model.param_unc_names())
    places = [place for _, order in parameters.values() for place in order]
    if places != sorted(places):  # a matrix: Stan's order is column-major, so its coordinates are named one by one
        parameters = {name: ((), [place]) for place, name in enumerate(model.param_unc_names())}
    variables = grouped(model.param_names(include_tp=include_tp, include_gq=include_gq))
    options: dict[str, Any] = {"include_tp": include_tp, "include_gq": include_gq}

    def one(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        try:
            value, grad = model.log_density_gradient(point, propto=False, jacobian=True)
        except RuntimeError:
            return -np.inf, np.zeros(dim)
        return value, np.array(grad)

    def alone(point: NDArray[np.float64]) -> float:
        try:
            return float(model.log_density(point, propto=False, jacobian=True))
        except RuntimeError:
            return -np.inf

    def with_gradient(point: NDArray[np.float64]) -> float:
        return one(point)[0]

    points = np.random.default_rng(0).uniform(-2.0, 2.0, (_TRIED, dim))
    _require_some_support(model, points)
    same = all(
        np.isclose(alone(point), with_gradient(point), rtol=_SAME, atol=_SAME, equal_nan=True) for point in points
    )
    value_of = alone if same else with_gradient

    def log_density(x: Tensor) -> Tensor:
        return torch.tensor(_rowwise(x, value_of), dtype=x.dtype, device=x.device)

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        pairs = _rowwise(x, one)
        value = torch.tensor([value for value, _ in pairs], dtype=x.dtype, device=x.device)
        grads = np.array([grad for _, grad in pairs]).reshape(tuple(x.shape))
        return value, torch.from_numpy(grads).to(x)

    def constrain(x: Tensor) -> Draws:
        # a stream of its own for every set of points, the same for the same points
        rng = {"rng": model.new_rng(zlib.crc32(x.detach().cpu().numpy().tobytes(), seed))} if include_gq else {}
        rows = np.array(_rowwise(x, lambda point: model.param_constrain(point, **options, **rng)))
        return {name: rows[:, order].reshape(len(rows), *shape) for name, (shape, order) in variables.items()}

    return Model(
        Density(log_density, dim, value_and_grad),
        tuple(parameters),
        tuple(shape for shape, _ in parameters.values()),
        constrain,
    )


def _require_some_support(model: Any, points: NDArray[np.float64]) -> None:
    """Refuse a model that throws wherever it is tried, as one does that was given the wrong data."""
    words = []
    for point in points:
        try:
            model.log_density(point, propto=False, jacobian=True)
        except RuntimeError as error:
            words.append(str(error))
        else:
            return
    raise DensityError(
        f"`model` must have a density somewhere: it threw at each of {len(points)} points in (-2, 2), first: {words[0]}"
    )
