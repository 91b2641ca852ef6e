"""The same density, with its value and gradient fused into one kernel by ``torch.compile``, where a run is long enough to repay it.

Nothing here depends on measured time, so the same seed gives the same bits: whether to compile follows from counts known before the
run, and every program is made from a trial batch of one size, whatever was evaluated before it. Compiled and eager values differ by
rounding, so a compiled run and an eager run of one seed are two different runs of the same law.

What was compiled is kept as long as the callable it was made of, and found by its identity: the only state of this module.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils.weak import WeakIdKeyDictionary

from rdmc.density import Density
from rdmc.memory import bytes_per_point

__all__ = ["Fused", "chosen", "compiled", "worthwhile"]

_TRIAL = 1021  # rows of the trial batch: a prime, so that no data set has the same length and is taken for a batch
_BREAK_EVEN = 2e11  # bytes that the eager gradients of a run write; see `worthwhile`
_HEAVY = 1e6  # bytes a point; runs too short for such a density are too short for all, and it isn't even asked
_AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3}

Frame = Callable[[Callable[..., Any], Tensor], Any]


def _value(function: Callable[..., Any], x: Tensor) -> Tensor:
    """A log density."""
    return function(x)


def _closed_form(function: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """A value and gradient in closed form."""
    value, grad = function(x)
    return value, grad


def _derived(function: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """A log density and its gradient by automatic differentiation."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        value = function(x)
        return value.sum(), value

    grad, (_, value) = torch.func.grad_and_value(total, has_aux=True)(x)
    return value, grad


def _derived_eagerly(function: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the autograd tape, which also takes what ``torch.func`` doesn't."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        value = function(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


_EAGER: dict[Frame, Frame] = {_derived: _derived_eagerly}


class _Program:
    """One compiled function, or the reason why there is none. It must not hold the callable, whose life it shares."""

    def __init__(self, frame: Frame, backend: str | Callable[..., Any]) -> None:
        self.frame, self.backend = frame, backend
        self.run: Frame | None = None
        self.reason: str | None = None

    def prepare(self, function: Callable[..., Any], x: Tensor) -> Frame:
        """Compile for any number of rows, and compare with the eager function on a trial batch of the rows of ``x``."""
        # Compiled code belongs to a code object. A copy for each program keeps the densities of a process apart: none uses up
        # the recompilations of another, and none is compiled otherwise because of another.
        own = types.FunctionType(self.frame.__code__.replace(), self.frame.__globals__, self.frame.__name__)
        # no pool of compiler processes beside a run, which may itself be one of many workers
        options: dict[str, Any] | None = {"compile_threads": 1} if self.backend == "inductor" else None
        run: Frame = torch.compile(own, fullgraph=True, backend=self.backend, options=options)
        trial = x[torch.arange(_TRIAL, device=x.device) % x.shape[0]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler's own, which tell the user of a density nothing
            got = run(function, _rows(trial))
        _require_agreement(got, _eager(self.frame)(function, trial))
        return run


class _Programs:
    """The programs of one callable, by what is compiled of it and for which tensors."""

    def __init__(self) -> None:
        self.by_kind: dict[tuple[Any, ...], _Program] = {}
        self.warned = False

    def of(self, frame: Frame, backend: str | Callable[..., Any], x: Tensor) -> _Program:
        """The one for tensors like ``x``, whatever their number of rows."""
        kind = (frame, backend, x.dtype, x.device, x.shape[1:])
        if kind not in self.by_kind:
            self.by_kind[kind] = _Program(frame, backend)
        return self.by_kind[kind]

    def warn(self, function: Callable[..., Any], reason: str) -> None:
        """Say once for each callable that it runs as it is."""
        if not self.warned:
            self.warned = True
            name = getattr(function, "__qualname__", type(function).__name__)
            warnings.warn(
                f"`log_density` runs without torch.compile, as it is: {name} could not be compiled. {reason}",
                RuntimeWarning,
                stacklevel=2,
            )


_STORE = WeakIdKeyDictionary()


def _programs(function: Callable[..., Any]) -> _Programs:
    """Those kept with a callable; with a method, those kept with its object, because a bound method is made anew at each access."""
    owner: Any = function
    part: Any = None
    if isinstance(function, types.MethodType):
        owner, part = function.__self__, function.__func__
    try:
        shelf: dict[Any, _Programs] = _STORE.setdefault(owner, {})
    except TypeError:  # nothing can be kept with an object that can't be referred to weakly
        return _Programs()
    return shelf.setdefault(part, _Programs())


class Fused:
    """A callable of a density that is compiled at its first batch and falls back to itself where it can't be.

    Batches of any number of rows share one program; fewer than two rows are evaluated eagerly. It pickles as the bare callable does
    and compiles anew where it arrives.

    Cost: the trial batch of a compilation, 1021 rows twice, is not counted, as it depends on what was compiled before.

    Args:
        function: ``(M, d) -> (M,)`` or ``(M, d) -> ((M,), (M, d))``.
        frame: What is compiled: a function of ``function`` and a batch.
        backend: Of ``torch.compile``.
    """

    def __init__(
        self, function: Callable[..., Any], frame: Frame, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        self.function, self.frame, self.backend = function, frame, backend
        self._programs = _programs(function)

    def __reduce__(self) -> tuple[type[Fused], tuple[Any, ...]]:
        """Without what was compiled."""
        return Fused, (self.function, self.frame, self.backend)

    def __repr__(self) -> str:
        return f"Fused({self.function!r})"

    def __call__(self, x: Tensor) -> Any:
        """What ``function`` gives, up to rounding; of :func:`compiled` with a derived gradient, value and gradient."""
        if x.shape[0] < 2 or x.device.type == "meta" or _observed():
            return _eager(self.frame)(self.function, x)
        program = self._programs.of(self.frame, self.backend, x)
        if program.reason is None:
            try:
                with torch.no_grad():
                    if program.run is None:
                        program.run = program.prepare(self.function, x)
                    return program.run(self.function, _rows(x))
            except (
                Exception
            ) as error:  # whatever a compiler may raise; an error of the density itself comes again below
                program.reason = f"{type(error).__name__}: {_first_words(error)}"
                program.run = None
        result = _eager(self.frame)(self.function, x)
        self._programs.warn(self.function, program.reason)
        return result


def compiled(density: Density, backend: str | Callable[..., Any] = "inductor") -> Density:
    """The same density, compiled when it is first evaluated: value alone, and value with gradient, each in one kernel.

    ``-inf`` and NaN mean what they mean in :class:`rdmc.Density`, which masks outside the compiled code. Both densities share one
    counter. A density that can't be captured as a whole, or whose compiled values are not its own, runs as it is after one
    :class:`RuntimeWarning` that says why.

    Cost: see :func:`worthwhile`. A call costs about 50 µs more than its kernel, so batches of less than a few hundred rows gain
    nothing.

    Args:
        density: With or without a closed form ``gradient``.
        backend: Of ``torch.compile``.

    Example:
        >>> density = compiled(Density(lambda x: -0.5 * x.square().sum(-1), dim=2), backend="eager")
        >>> density(torch.ones(3, 2, dtype=torch.float64)).tolist()
        [-1.0, -1.0, -1.0]
    """
    if isinstance(density.gradient, Fused):
        return density
    given = density.gradient
    gradient = Fused(density.log_density, _derived, backend) if given is None else Fused(given, _closed_form, backend)
    return replace(density, log_density=Fused(density.log_density, _value, backend), gradient=gradient)


def chosen(density: Density, how: bool | str, evaluations: int, x: Tensor) -> Density:
    """The density to run with: compiled, as it is, or what the counts say.

    Cost: 6 evaluations, counted, where ``how`` is ``"auto"`` and the run long.

    Args:
        density: Checked already.
        how: True, False, or ``"auto"`` for :func:`worthwhile`.
        evaluations: Gradient evaluations that the run will surely make.
        x: ``(M, d)`` points to learn what an evaluation takes.

    Raises:
        ValueError: If ``how`` is none of the three.

    Example:
        >>> density = Density(lambda x: -0.5 * x.square().sum(-1), dim=2)
        >>> chosen(density, "auto", evaluations=1_000_000, x=torch.ones(3, 2, dtype=torch.float64)) is density
        True
    """
    if not isinstance(how, bool) and how != "auto":
        raise ValueError(f'`compile` must be True, False or "auto", got {how!r}')
    if how == "auto":
        long = worthwhile(evaluations, density.device, _HEAVY)
        how = long and worthwhile(evaluations, density.device, bytes_per_point(density, x))
    return compiled(density) if how else density


def worthwhile(evaluations: int, device: torch.device | str = "cpu", size: float = 5_000.0) -> bool:
    """Whether that many gradient evaluations repay the compilation: a function of counts alone.

    Measured on one core of an AMD EPYC with torch 2.13: compiling takes 10 s with the compiler's cache on disk, 20 s without, 35 s
    the first time on a machine. A mixture of 40 Gaussians in 2 dimensions saves 1.1 µs of each gradient in closed form and repays
    20 s after 18 million; the threshold is at 40 million of them, or as many bytes written by another density. Sums of many
    exponentials gain most (2 to 3 times as fast), a regression, whose time is one matrix product, nothing, and the small closed
    forms of a funnel or of eight schools run at half their eager speed. ``True`` and ``False`` are for one who has measured.

    Args:
        evaluations: Gradient evaluations of the run.
        device: Where; never on any but the CPU, as nothing else was measured.
        size: Bytes that one eager evaluation writes, from :func:`rdmc.memory.bytes_per_point`; by default those of a mixture of 40
            Gaussians in 2 dimensions.

    Example:
        >>> worthwhile(1_000_000), worthwhile(100_000_000)
        (False, True)
    """
    return torch.device(device).type == "cpu" and evaluations * size >= _BREAK_EVEN


def _eager(frame: Frame) -> Frame:
    return _EAGER.get(frame, frame)


def _observed() -> bool:
    """Whether someone watches the operations, as :func:`rdmc.memory.bytes_per_point` does; then each must be seen."""
    return any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def _rows(x: Tensor) -> Tensor:
    """The same rows, contiguous, with a mark that there may be any number of them; the caller's tensor is not marked."""
    rows = x.detach().contiguous()
    torch._dynamo.mark_dynamic(rows, 0)
    return rows


def _require_agreement(got: Any, wanted: Any) -> None:
    """Refuse a program whose values on the trial batch are not the density's.

    Raises:
        ArithmeticError: If they differ by more than rounding.
    """
    pair = isinstance(wanted, tuple)
    value = wanted[0] if pair else wanted
    inside = value != -torch.inf  # a gradient outside the support means nothing
    parts = {"value": (value, got[0] if pair else got)}
    if pair:
        parts["gradient"] = wanted[1][inside], got[1][inside]
    for name, (a, b) in parts.items():
        finite = a[torch.isfinite(a)]
        size = float(finite.abs().max()) if finite.numel() else 0.0
        tolerance = _AGREEMENT.get(a.dtype, 0.1)
        off = int((~torch.isclose(b, a, rtol=tolerance, atol=tolerance * size, equal_nan=True)).sum())
        if a.dtype != b.dtype or off:
            raise ArithmeticError(f"its compiled {name} differs from the eager one in {off} of {a.numel()} entries")


def _first_words(error: Exception, limit: int = 300) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:limit]
