"""Plain NumPy: a log density and its gradient, for a batch or for one point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.density import Density
from rdmc.errors import DensityError
from rdmc.interop.model import Model, require_precision

__all__ = ["density"]

_ADVICE = "compute in float64, or sample with dtype=torch.float32"


def density(
    logp: Callable[[NDArray[Any]], Any],
    grad: Callable[[NDArray[Any]], Any],
    dim: int,
    *,
    names: Sequence[str] = ("x",),
    shapes: Sequence[tuple[int, ...]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Model:
    """Functions of NumPy arrays as a density with gradient.

    Whether they are batched, ``(M, d) -> (M,)`` and ``(M, d) -> (M, d)``, or for one point, ``(d,) -> ()`` and ``(d,) -> (d,)``, is
    found out by trying; both must be of one kind.

    Cost: for one point, a Python call a point.

    Args:
        logp: Log density, up to a constant.
        grad: Its gradient.
        dim: Dimension d.
        names: Variables in the flat vector.
        shapes: Shape of each; one vector of length d by default.
        dims: Names of the axes of variables.
        coords: Labels along named axes.

    Raises:
        DensityError: If neither kind fits, or values move in steps of float32.
        ValueError: If the shapes don't add up to ``dim``.
    """
    points = np.random.default_rng(0).normal(size=(dim + 2, dim))
    by_point = not _fits(logp, grad, points, ((len(points),), points.shape))
    if by_point and not _fits(logp, grad, points[0], ((), (dim,))):
        got = [_shape(function, argument) for argument in (points, points[0]) for function in (logp, grad)]
        raise DensityError(
            f"`logp` and `grad` must map (M, d) to (M,) and (M, d), or (d,) to () and (d,), with d = {dim}: for x of shape "
            f"{points.shape} got {got[0]} and {got[1]}, for x of shape {points[0].shape} got {got[2]} and {got[3]}"
        )

    def mapped(function: Callable[[NDArray[Any]], Any]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            array = x.detach().cpu().numpy()
            out = np.array([function(point.copy()) for point in array] if by_point else function(array.copy()))
            return torch.from_numpy(out).to(x)

        return call

    value, gradient = mapped(logp), mapped(grad)
    chosen = tuple(shapes) if shapes is not None else ((dim,),)

    def constrain(x: Tensor) -> dict[str, NDArray[Any]]:
        sizes = np.cumsum([int(np.prod(shape)) for shape in chosen])[:-1]
        parts = np.split(x.detach().cpu().numpy(), sizes, axis=1)
        return {name: part.reshape(len(part), *shape) for name, part, shape in zip(names, parts, chosen, strict=True)}

    known = Density(value, dim, lambda x: (value(x), gradient(x)))
    return Model(require_precision(known, _ADVICE), tuple(names), chosen, constrain, dims or {}, coords or {})


def _shape(function: Callable[[NDArray[Any]], Any], x: NDArray[Any]) -> tuple[int, ...] | str:
    """The shape of what a function gives, or the exception it raises."""
    try:
        return np.shape(function(x.copy()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _fits(logp: Any, grad: Any, x: NDArray[Any], wanted: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    return (_shape(logp, x), _shape(grad, x)) == wanted
