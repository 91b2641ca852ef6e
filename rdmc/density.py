"""The only place that calls user code: batching, gradients, counting, and the checks of a first evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rdmc.errors import DensityError
from rdmc.typing import LogDensity, ValueAndGrad

__all__ = ["Counter", "Density", "HasLogDensity", "as_density"]


class Counter:
    """Counts points evaluated, by kind. Batch sizes are known on the host, so counting never waits for the device."""

    def __init__(self) -> None:
        self.gradients = 0
        self.densities = 0

    def __repr__(self) -> str:
        return f"Counter(gradients={self.gradients}, densities={self.densities})"


@runtime_checkable
class HasLogDensity(Protocol):
    """A model object, for example a ``targets.Target``: a dimension and a batched log density."""

    dim: int

    def log_density(self, x: Tensor) -> Tensor:
        """``(M, d) -> (M,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Density:
    r"""A user's unnormalised log density, batched, differentiable and counted.

    Outside the support the value is ``-inf`` and the gradient is *defined* as 0, so that a kernel that looks there gets a
    rejection and not a NaN. NaN and ``+inf`` pass through unchanged: kernels reject and count them.

    Shapes: every method takes ``(..., d)`` and flattens the leading axes to the ``(M, d)`` that the user's callable sees.
    Cost: ``__call__`` counts one density evaluation a point, ``value_and_grad`` one gradient evaluation a point.

    Args:
        log_density: ``(M, d) -> (M,)``.
        dim: Dimension d.
        gradient: Optional closed form ``(M, d) -> ((M,), (M, d))`` for value and gradient; autograd is used without one.
        dtype: Floating type of every evaluation.
        device: Device of every evaluation.
        counter: Where evaluations are counted; a new one by default.

    Raises:
        ValueError: If ``dim`` is not a positive integer or ``log_density`` is not callable.

    Example:
        >>> density = Density(lambda x: -0.5 * x.square().sum(-1), dim=2)
        >>> value, grad = density.value_and_grad(torch.ones(3, 2, dtype=torch.float64))
        >>> value.tolist(), density.counter
        ([-1.0, -1.0, -1.0], Counter(gradients=3, densities=0))
    """

    log_density: LogDensity
    dim: int
    gradient: ValueAndGrad | None = None
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    counter: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if not callable(self.log_density):
            raise ValueError(f"`log_density` must be callable, (M, d) -> (M,), got {type(self.log_density).__name__}")
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"`dim` must be a positive integer, got {self.dim!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """``(...)`` log density at ``(..., d)`` points, without a graph."""
        flat = x.reshape(-1, self.dim)
        self.counter.densities += flat.shape[0]
        with torch.no_grad():
            return self.log_density(flat).reshape(x.shape[:-1])

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and ``(..., d)`` gradient at ``(..., d)`` points, without a graph."""
        flat = x.detach().reshape(-1, self.dim)
        self.counter.gradients += flat.shape[0]
        if self.gradient is not None:
            with torch.no_grad():
                value, grad = self.gradient(flat)
        else:
            with torch.enable_grad():
                leaf = flat.requires_grad_(True)
                value = self.log_density(leaf)
                (grad,) = torch.autograd.grad(value.sum(), leaf)
            value = value.detach()
        grad = torch.where((value == -torch.inf)[:, None], torch.zeros_like(grad), grad)
        return value.reshape(x.shape[:-1]), grad.reshape(x.shape)

    def check(self, x: Tensor) -> Density:
        """Try the callable at a few points and return a density that keeps the contract, or say what is wrong with it.

        A callable written for one point, ``(d,) -> ()``, is recognised and mapped over the batch. The check covers shape, dtype,
        device, differentiability, mutation of the input, dependence between the points of a batch and a wrong closed-form gradient.

        Cost: about 5 evaluations a point, all counted.

        Args:
            x: ``(M, d)`` points, M >= 3 and M != d so that a wrong axis shows.

        Raises:
            DensityError: Naming what was wanted and what came.
        """
        checked = self if self._is_batched(x) else replace(self, log_density=torch.vmap(self.log_density))
        checked._check_rows(x)
        checked._check_gradient(x)
        return checked

    def _is_batched(self, x: Tensor) -> bool:
        try:
            value = self._try(self.log_density, x)
        except DensityError:
            if self._try_one(x) is None:
                raise
            return False
        if value.shape == (x.shape[0],):
            return True
        if self._try_one(x) is not None:
            return False
        raise DensityError(
            f"`log_density` must map a batch (M, d) to (M,): for x of shape {tuple(x.shape)} wanted ({x.shape[0]},), "
            f"got {tuple(value.shape)}"
        )

    def _try_one(self, x: Tensor) -> Tensor | None:
        """The value at the first point if the callable takes one point, else None."""
        if self.gradient is not None:
            return None  # a closed form is batched by contract, so its log density must be too
        try:
            value = self._try(self.log_density, x[0])
            mapped = self._try(torch.vmap(self.log_density), x)
        except DensityError:
            return None
        return value if value.shape == () and mapped.shape == (x.shape[0],) else None

    def _try(self, function: Callable[[Tensor], Any], x: Tensor) -> Tensor:
        given = x.clone()
        self.counter.densities += max(1, x[..., 0].numel())
        try:
            with torch.no_grad():
                value = function(given)
        except Exception as error:
            raise DensityError(
                f"`log_density` raised {type(error).__name__} for x of shape {tuple(x.shape)}, dtype {x.dtype}, "
                f"device {x.device}: {error}"
            ) from error
        if not isinstance(value, Tensor):
            raise DensityError(f"`log_density` must return a torch.Tensor, got {type(value).__name__}")
        if x.device.type != "meta" and not torch.equal(given, x):
            raise DensityError("`log_density` changed its input in place; write `x = x + ...` instead of `x += ...`")
        return value

    def _check_rows(self, x: Tensor) -> None:
        value = self._try(self.log_density, x)
        if value.dtype != x.dtype:
            raise DensityError(
                f"`log_density` must keep the dtype of its input: wanted {x.dtype}, got {value.dtype}; create constants with "
                f"`dtype={x.dtype}` (or `.to(x)`), or pass `dtype=` to match"
            )
        if value.device != x.device:
            raise DensityError(
                f"`log_density` must stay on the device of its input: wanted {x.device}, got {value.device}"
            )
        if x.device.type == "meta":
            return
        rows = torch.cat([self._try(self.log_density, x[i : i + 1]) for i in range(2)])
        close = torch.isclose(rows, value[:2], rtol=1e-4, atol=1e-6, equal_nan=True)
        if not bool(close.all()):
            raise DensityError(
                "`log_density` must treat the points of a batch one by one and give the same value each time: alone the first "
                f"two points gave {rows.tolist()}, in a batch {value[:2].tolist()}"
            )

    def _check_closed_form(self, x: Tensor) -> None:
        if self.gradient is None:
            return
        try:
            with torch.no_grad():
                pair = self.gradient(x.clone())
        except Exception as error:
            raise DensityError(
                f"`gradient` raised {type(error).__name__} for x of shape {tuple(x.shape)}: {error}"
            ) from error
        found = [(tuple(part.shape), part.dtype) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        if found != [((x.shape[0],), x.dtype), (tuple(x.shape), x.dtype)]:
            raise DensityError(
                f"`gradient` must map (M, d) to ((M,), (M, d)) in {x.dtype}: for x of shape {tuple(x.shape)} got {found}"
            )

    def _check_gradient(self, x: Tensor) -> None:
        self._check_closed_form(x)
        try:
            value, grad = self.value_and_grad(x)
        except RuntimeError as error:
            raise DensityError(
                "`log_density` must be differentiable by torch autograd (it may have been detached, or computed outside torch), "
                f"or come with `gradient=` in closed form; autograd said: {error}"
            ) from error
        if self.gradient is None or x.device.type == "meta":
            return
        plain = self(x)
        finite = torch.isfinite(plain) & torch.isfinite(value)
        if not bool(torch.isclose(plain, value, rtol=1e-4, atol=1e-6)[finite].all()):
            raise DensityError(
                f"`gradient` and `log_density` must give the same value, got {value.tolist()} and {plain.tolist()}"
            )
        try:
            _, derived = replace(self, gradient=None).value_and_grad(x)
        except RuntimeError:
            return  # not differentiable by autograd, which is what a closed form may be for
        finite = finite & torch.isfinite(derived).all(-1)
        if not bool(torch.isclose(grad, derived, rtol=1e-3, atol=1e-5)[finite].all()):
            raise DensityError(
                f"`gradient` must be that of `log_density`: autograd gave {derived.tolist()}, got {grad.tolist()}"
            )


def as_density(
    log_density: LogDensity | Density | HasLogDensity,
    dim: int | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Density:
    """Make a :class:`Density` of whatever a caller may hold, with a counter of its own.

    Args:
        log_density: A batched (or per-point) callable, a :class:`Density`, or an object with ``dim`` and ``log_density`` and,
            where it has one, a closed form ``value_and_grad`` and a method ``to(device=, dtype=)``.
        dim: Dimension; required for a bare callable, otherwise checked if given.
        dtype: Floating type of the run.
        device: Device of the run.

    Raises:
        ValueError: If ``dim`` is missing, not a positive integer, or contradicts the object.
    """
    device = torch.device(device)
    if not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be a real floating type, got {dtype}")
    if isinstance(log_density, Density):
        known = replace(log_density, dtype=dtype, device=device, counter=Counter())
    elif isinstance(log_density, HasLogDensity):
        move = getattr(log_density, "to", None)
        model = move(device=device, dtype=dtype) if callable(move) else log_density
        gradient = getattr(model, "value_and_grad", None)
        known = Density(model.log_density, int(model.dim), gradient, dtype, device)
    else:
        if dim is None:
            raise ValueError("`dim` is required for a bare callable: wanted the number of coordinates d, got None")
        known = Density(log_density, dim, None, dtype, device)
    if dim is not None and dim != known.dim:
        raise ValueError(f"`dim` must agree with the density: wanted {known.dim}, got {dim!r}")
    return known
