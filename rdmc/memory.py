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
_SHARE = 4  # of a GPU's memory, all of it and not what happens to be free, lest the same call be split differently
_BACKWARD = 2.0  # autograd holds a gradient for every intermediate value


class _Allocations(TorchFunctionMode):
    """Adds up the bytes of everything that torch functions return, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(part, Tensor) and not part._is_view():
                self.total += part.numel() * part.element_size()
        return out


def budget(device: torch.device, memory: int | None = None) -> int:
    """Bytes that an evaluation may take: no more than ``memory``, and on a CPU what its cache holds, which is much faster.

    Args:
        device: Of the evaluation.
        memory: By default 2 GiB, on a GPU a quarter of its memory.
    """
    if device.type == "cuda":
        return memory or int(torch.cuda.get_device_properties(device).total_memory) // _SHARE
    return min(_CACHE, memory or _ON_CPU)


def bytes_per_point(density: Density, x: Tensor) -> float:
    """Bytes that one more point takes while value and gradient are computed, at most: nothing is taken to be freed.

    It counts what torch functions return, so it is the same on every machine. Memory taken outside torch is not seen.

    Cost: 6 evaluations, counted.

    Args:
        density: The density.
        x: ``(M, d)`` points.
    """

    def total(points: Tensor) -> float:
        with _Allocations() as seen:
            density.value_and_grad(points)
        return seen.total * (1.0 if density.gradient is not None else _BACKWARD)

    few, many = total(x[:1].repeat(2, 1)), total(x[:1].repeat(4, 1))
    slope = (many - few) / 2.0
    # a mapped per-point function shows the shapes of one point at any M
    return max(slope, few - 2.0 * slope, 2.0 * x.element_size() * density.dim)


def rows_within(density: Density, memory: int, x: Tensor) -> int:
    """Points that fit into half of ``memory`` bytes, rounded down to a power of two, and at least 16.

    Example:
        >>> import torch
        >>> rows_within(Density(lambda x: -x.square().sum(-1), 100), 2**30, torch.zeros(3, 100, dtype=torch.float64))
        65536
    """
    fitting = int(0.5 * memory / bytes_per_point(density, x))
    return max(_FEWEST, 1 << max(0, fitting.bit_length() - 1))
