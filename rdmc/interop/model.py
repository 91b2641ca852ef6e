"""What every front end gives: a batched density on R^d, and the way from its points back to the model's own variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc import optional
from rdmc.density import Density
from rdmc.errors import DensityError
from rdmc.parameters.naming import coordinate_names, unconstrained
from rdmc.typing import LogDensity, ValueAndGrad

__all__ = ["Draws", "Model", "require", "require_precision", "unravel"]

Draws: TypeAlias = Mapping[str, NDArray[Any]]
"""One array per variable, ``(M, *shape)``."""


def require(module: str, extra: str) -> Any:
    """Import an optional library on first use.

    Args:
        module: Dotted name of the module.
        extra: The extra of this package that brings it.

    Raises:
        ImportError: If it isn't there, with the extra that brings it.
    """
    return optional.require(module, extra, "`rdmc.interop`")


def unravel(x: Tensor, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
    """The parts of ``(..., d)`` by parameter, each ``(..., *shape)``."""
    parts = x.split([math.prod(shape) for shape in shapes], -1)
    return {name: part.reshape((*x.shape[:-1], *shape)) for name, part, shape in zip(names, parts, shapes, strict=True)}


@dataclass(frozen=True, eq=False)
class Model:
    """A model of another library, ready for :func:`rdmc.sample`, which takes it as it is.

    Args:
        density: Log density on R^d, Jacobian of the transforms included, with gradient.
        names: Free parameters on R^d, in the order of the flat vector.
        shapes: Shape of each; their sizes add up to d.
        constrain: ``(M, d)`` points to the model's own variables, deterministic ones included, ``(M, *shape)`` each.
        dims: Names of the axes of variables; those without get the default names of ArviZ.
        coords: Labels along named axes.
        log_likelihood: ``(M, d)`` points to the pointwise log likelihood by observed variable, or None if unknown.
        observed_data: Observed values by variable.
        constant_data: Other data of the model.

    Raises:
        ValueError: If the shapes don't add up to the dimension.

    Example:
        >>> density = Density(lambda x: -0.5 * x.square().sum(-1), dim=3)
        >>> model = Model(density, ("mu", "theta"), ((), (2,)), lambda x: {"mu": x[:, 0].numpy()})
        >>> model.coordinates, model.constrain(torch.ones(1, 3))
        (('mu', 'theta[0]', 'theta[1]'), {'mu': array([1.], dtype=float32)})
    """

    density: Density
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    constrain: Callable[[Tensor], Draws]
    dims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    coords: Mapping[str, Any] = field(default_factory=dict)
    log_likelihood: Callable[[Tensor], Draws] | None = None
    observed_data: Draws = field(default_factory=dict)
    constant_data: Draws = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ValueError(f"`shapes` must have one entry per name: wanted {len(self.names)}, got {len(self.shapes)}")
        total = sum(math.prod(shape) for shape in self.shapes)
        if total != self.density.dim:
            raise ValueError(f"`shapes` must add up to the dimension: wanted {self.density.dim}, got {total}")

    @property
    def dim(self) -> int:
        """Dimension d of the flat vector."""
        return self.density.dim

    @property
    def log_density(self) -> LogDensity:
        """``(M, d) -> (M,)``."""
        return self.density.log_density

    @property
    def value_and_grad(self) -> ValueAndGrad | None:
        """``(M, d) -> ((M,), (M, d))``, or None where autograd gives the gradient."""
        return self.density.gradient

    @property
    def coordinates(self) -> tuple[str, ...]:
        """One name per coordinate: that of its parameter, ``tau_unconstrained`` if the model's ``tau`` is something else.

        Cost: one call of ``constrain``.
        """
        x = torch.full((1, self.dim), _PROBE, dtype=torch.float64)
        values = self.constrain(x)
        return coordinate_names(
            [
                unconstrained(name) if name in values and not _same(values[name][0], part[0].numpy()) else name
                for name, part in unravel(x, self.names, self.shapes).items()
            ],
            self.shapes,
        )


def _same(value: NDArray[Any], coordinate: NDArray[Any]) -> bool:
    return np.shape(value) == coordinate.shape and bool(np.allclose(value, coordinate))


_PROBE = 0.625  # where no usual transform is the identity
_STEP = 1e-5
_TOLERANCE = 1e-5


def require_precision(density: Density, advice: str) -> Density:
    """Refuse a log density that takes float64 and rounds to float32 on the way.

    Central differences of the value along the gradient's direction, with a step of 1e-5, agree with the gradient to about 1e-9 in
    float64. In float32 the value moves in steps of 1e-7 of its size, so they are off by 1e-2.

    Cost: 3 evaluations at each of 4 points; 2 of them without gradient.

    Args:
        density: In float64.
        advice: What the caller can do, for the end of the message.

    Raises:
        DensityError: If differences and gradient disagree at most of the points where both are finite.
    """
    if density.dtype != torch.float64:
        return density
    generator = torch.Generator().manual_seed(20240501)
    x = 0.5 * torch.randn(4, density.dim, generator=generator, dtype=density.dtype)
    value, grad = density.value_and_grad(x)
    size = grad.norm(dim=-1)
    direction = grad / size.clamp(min=1e-300)[:, None]
    ahead, behind = density(x + _STEP * direction), density(x - _STEP * direction)
    known = torch.isfinite(value) & torch.isfinite(size) & torch.isfinite(ahead - behind)
    # float64 leaves 1e-16 / 1e-5 of the value and a curvature term of 1e-10; float32 leaves 1e-7 / 1e-5 of the value
    error = ((ahead - behind) / (2.0 * _STEP) - size).abs() / (1.0 + value.abs() + size)
    wrong = known & (error > _TOLERANCE)
    if int(known.sum()) > 0 and int(wrong.sum()) * 2 > int(known.sum()):
        raise DensityError(
            "`log_density` must keep float64: its values move in steps of float32, or its gradient is wrong (differences along "
            f"the gradient gave {((ahead - behind) / (2.0 * _STEP)).tolist()}, its norm is {size.tolist()}); {advice}"
        )
    return density
