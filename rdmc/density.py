"""The only place that calls user code: batching, gradients, counting, and the checks of a first evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rdmc.arguments import as_device, as_dtype, whole
from rdmc.contract import checked
from rdmc.typing import LogDensity, ValueAndGrad

__all__ = ["Counter", "Density", "HasLogDensity", "as_density"]

_UNDEFINED = (ValueError, RuntimeError)  # of torch.distributions and torch.linalg, whose LinAlgError is of the latter
_UNRELATED = (torch.cuda.OutOfMemoryError, NotImplementedError, RecursionError)
_ADVICE = (
    "It had values at {before} points before; among these are some with a coordinate as large as {far:.3g}. A search for modes "
    "looks far beyond the mass, so give a value there too: -inf outside the support, NaN where none can be computed; both are "
    "rejected. For torch.distributions pass `validate_args=False`, or call "
    "`torch.distributions.Distribution.set_default_validate_args(False)`. "
    "Instead of torch.linalg.cholesky take `L, info = torch.linalg.cholesky_ex(K)` and give NaN where `info > 0`; "
    "MultivariateNormal takes that L as `scale_tril`"
)


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

    @property
    def dim(self) -> int:
        """Dimension d."""
        ...

    def log_density(self, x: Tensor) -> Tensor:
        """``(M, d) -> (M,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Density:
    r"""A user's unnormalised log density, batched, differentiable and counted.

    Outside the support the value is ``-inf`` and the gradient is *defined* as 0, so that a kernel that looks there gets a
    rejection and not a NaN. NaN and ``+inf`` pass through unchanged: kernels reject and count them. What the callable raises is
    raised as it is, with notes: a point where it has no value should get NaN, as an exception is one for all points of a batch.

    Shapes: every method takes ``(..., d)`` and flattens the leading axes to the ``(M, d)`` that the user's callable sees.
    Cost: ``__call__`` counts one density evaluation a point, ``value_and_grad`` one gradient evaluation a point.

    Args:
        log_density: ``(M, d) -> (M,)``.
        dim: Dimension d.
        gradient: Optional closed form ``(M, d) -> ((M,), (M, d))`` for value and gradient; autograd is used without one.
        dtype: Floating type of every evaluation.
        device: Device of every evaluation.
        counter: Where evaluations are counted; a new one by default.
        rows: Most points handed to the callable at once; None sets no limit.

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
    rows: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.log_density):
            raise ValueError(
                f"`log_density` must be callable, (M, d) -> (M,), got {type(self.log_density).__name__}; "
                "of other objects `dim` and `log_density` are wanted"
            )
        dim = whole(self.dim)
        if dim is None or dim < 1:
            raise ValueError(f"`dim` must be a positive integer, got {self.dim!r}")
        object.__setattr__(self, "dim", dim)

    def __call__(self, x: Tensor) -> Tensor:
        """``(...)`` log density at ``(..., d)`` points, without a graph."""
        flat = x.reshape(-1, self.dim)
        self.counter.densities += flat.shape[0]
        with torch.no_grad():
            parts = [self._told(self.log_density, part) for part in self._blocks(flat)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(x.shape[:-1])

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log density and ``(..., d)`` gradient at ``(..., d)`` points, without a graph."""
        flat = x.detach().reshape(-1, self.dim)
        self.counter.gradients += flat.shape[0]
        parts = [self.bare_value_and_grad(part) for part in self._blocks(flat)]
        value, grad = parts[0] if len(parts) == 1 else (torch.cat(both) for both in zip(*parts, strict=True))
        return value.reshape(x.shape[:-1]), grad.reshape(x.shape)

    def _blocks(self, flat: Tensor) -> tuple[Tensor, ...]:
        return (flat,) if self.rows is None or len(flat) <= self.rows else flat.split(self.rows)

    def _told(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        """What the user's function gives; where it raises, its own exception, with a note of when, for what, and what may help."""
        try:
            return function(x)
        except Exception as error:
            error.add_note(
                f"`log_density` raised this for x of shape {tuple(x.shape)}, evaluations so far: {self.counter}"
            )
            before = self.counter.densities + self.counter.gradients - len(x)
            if before > 0 and isinstance(error, _UNDEFINED) and not isinstance(error, _UNRELATED):
                error.add_note(_ADVICE.format(before=before, far=float(x.detach().abs().max())))
            raise

    def bare_value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(M,)`` values and ``(M, d)`` gradients of one call, not counted and not split."""
        if self.gradient is not None:
            with torch.no_grad():
                value, grad = self._told(self.gradient, x)
        else:
            with torch.enable_grad():
                leaf = x.requires_grad_(True)
                value = self._told(self.log_density, leaf)
                (grad,) = torch.autograd.grad(value.sum(), leaf)
            value = value.detach()
        return value, grad.masked_fill((value == -torch.inf)[:, None], 0.0)

    def check(self, x: Tensor) -> Density:
        """Try the callable at a few points and return a density that keeps the contract, or say what is wrong with it.

        A callable written for one point, ``(d,) -> ()``, is recognised and mapped over the batch. The check covers shape, dtype,
        device, differentiability, mutation of the input, dependence between the points of a batch and a wrong closed-form gradient.

        Cost: about 5 evaluations a point, 9 with a closed form that autograd cannot confirm; all counted.

        Args:
            x: ``(M, d)`` points, M >= 3 and M != d so that a wrong axis shows.

        Raises:
            DensityError: Naming what was wanted and what came.
        """
        return checked(self, x)


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
        ValueError: If ``dim`` is missing, not a positive integer, or contradicts the object; if ``dtype`` is not float32 or
            float64; if torch has no such ``device``.
    """
    dtype, device = as_dtype(dtype), as_device(device)
    if isinstance(log_density, type):
        raise ValueError(
            f"`log_density` must be a function or an object, got the class {log_density.__name__}; make an object of it first"
        )
    if isinstance(log_density, Density):
        known = replace(log_density, dtype=dtype, device=device, counter=Counter())
    elif isinstance(log_density, HasLogDensity):
        move = getattr(log_density, "to", None)
        model = move(device=device, dtype=dtype) if callable(move) else log_density
        gradient = getattr(model, "value_and_grad", None)
        known = Density(model.log_density, model.dim, gradient, dtype, device)
    else:
        if dim is None:
            raise ValueError("`dim` is required for a bare callable: wanted the number of coordinates d, got None")
        known = Density(log_density, dim, None, dtype, device)
    if dim is not None and whole(dim) != known.dim:
        raise ValueError(f"`dim` must agree with the density: wanted {known.dim}, got {dim!r}")
    return known
