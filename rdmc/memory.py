"""How many points a density may be asked for at once within a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rdmc.density import Density

__all__ = ["budget", "bytes_per_point", "rows_within"]

_FEWEST = 16
_ON_CPU = 2 << 30
_CACHE = 16 << 20
_CALL = 1 << 15  # bytes that a call of a torch function should write, lest calling it cost more than the writing
_SHARE = 4  # of a GPU's memory, all of it and not what happens to be free, lest the same call be split differently
_BACKWARD = 2.0  # autograd holds a gradient for every intermediate value


class _Allocations(TorchFunctionMode):
    """Adds up the bytes of everything that torch functions return, views apart, and counts the functions that return tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        parts = [part for part in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(part, Tensor)]
        self.calls += bool(parts)
        self.total += sum(part.numel() * part.element_size() for part in parts if not part._is_view())
        return out


def budget(device: torch.device, memory: int | None = None) -> int:
    """Bytes that an evaluation may take.

    Args:
        device: Of the evaluation.
        memory: By default 2 GiB, on a GPU a quarter of its memory.
    """
    if device.type == "cuda":
        return memory or int(torch.cuda.get_device_properties(device).total_memory) // _SHARE
    return memory or _ON_CPU


def bytes_per_point(density: Density, x: Tensor) -> float:
    """Bytes that one more point takes while value and gradient are computed, at most: nothing is taken to be freed.

    It counts what torch functions return, so it is the same on every machine. Memory taken outside torch is not seen.

    Cost: 6 evaluations, counted.

    Args:
        density: The density.
        x: ``(M, d)`` points.
    """
    return _bytes_and_calls(density, x)[0]


def _bytes_and_calls(density: Density, x: Tensor) -> tuple[float, int]:
    """Bytes that one more point takes, and torch functions that any evaluation calls, backward passes apart."""
    few, many = (_watched(density, x[:1].repeat(points, 1)) for points in (2, 4))
    each = 1.0 if density.gradient is not None else _BACKWARD
    slope = each * (many.total - few.total) / 2.0
    # a mapped per-point function shows the shapes of one point at any M
    return max(slope, each * few.total - 2.0 * slope, 2.0 * x.element_size() * density.dim), few.calls


def _watched(density: Density, x: Tensor) -> _Allocations:
    with _Allocations() as seen:
        density.value_and_grad(x)
    return seen


def rows_within(density: Density, memory: int, x: Tensor) -> int:
    """Points to evaluate at once: a power of two, at least 16, that take no more than half of ``memory`` bytes.

    On a CPU they are also to fit into half of its cache, which is faster where calls write much. A loop over data or time steps
    makes many calls that write little, and calling costs most; there as many points are taken as make a call write 32 KiB on
    average, cache or not.

    Example:
        >>> import torch
        >>> rows_within(Density(lambda x: -x.square().sum(-1), 100), 2**23, torch.zeros(3, 100, dtype=torch.float64))
        512

        A loop of 1,000 steps writes 8 bytes a point in each:

        >>> def walk(x):
        ...     for _ in range(1000):
        ...         x = x.sin()
        ...     return -x.square().sum(-1)
        >>> rows_within(Density(walk, 1), 2**30, torch.zeros(3, 1, dtype=torch.float64))
        2048
    """
    point, calls = _bytes_and_calls(density, x)
    fitting = 0.5 * memory / point
    if density.device.type != "cuda":
        fitting = min(fitting, max(0.5 * _CACHE, calls * _CALL) / point)
    return max(_FEWEST, 1 << max(0, int(fitting).bit_length() - 1))
