"""A torch density inside JAX: one callback for a whole batch, in the density's own precision, with no global setting touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.baselines.foreign import require, require_values
from rdmc.density import Density
from rdmc.typing import BatchedDensity

__all__ = ["Jax"]


@dataclass(frozen=True, eq=False)
class Jax:
    """JAX on the CPU at the precision of a density.

    float64 needs JAX's ``jax_enable_x64``, which is switched on within :meth:`scope` and nowhere else.

    Attributes:
        jax: The module.
        dtype: Floating type of all arrays.
        device: Where the torch density is evaluated.
    """

    jax: Any
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def at(cls, density: Density, sampler: str) -> Jax:
        """JAX at the precision of ``density``.

        Raises:
            ImportError: If JAX is missing, naming the extra.
            ValueError: If the density's dtype or device can't be honoured.
        """
        require_values(density, sampler)
        self = cls(require("jax", sampler), density.dtype, density.device)
        with self.scope():
            got = self.jax.numpy.zeros((), self.numpy_dtype).dtype
        if got != self.numpy_dtype:
            raise ValueError(
                f'`dtype` must be honoured by JAX for sampler "{sampler}": wanted {density.dtype}, got {got}'
            )
        return self

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The floating type in NumPy's words."""
        return np.dtype(np.float64 if self.dtype == torch.float64 else np.float32)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where JAX code runs: 64 bits if the density has them, on the CPU, whatever the global settings are."""
        jax = self.jax
        # a context manager of this name in JAX >= 0.8, an experimental one before
        enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
        with enable_x64(self.dtype == torch.float64), jax.default_device(jax.devices("cpu")[0]):
            yield

    def array(self, x: Tensor) -> Any:
        """A JAX copy of a tensor."""
        return self.jax.numpy.array(x.detach().cpu().numpy(), dtype=self.numpy_dtype)

    def tensor(self, x: Any) -> Tensor:
        """A torch copy of an array; a copy, because JAX's memory must not be written."""
        return torch.from_numpy(np.array(x)).to(device=self.device, dtype=self.dtype)

    def keys(self, seeds: NDArray[np.uint32]) -> Any:
        """``(B,)`` keys of JAX's default generator from ``(B, 2)`` words."""
        return self.jax.random.wrap_key_data(self.jax.numpy.array(seeds), impl="threefry2x32")

    def log_density(self, target: BatchedDensity) -> Callable[[Any], Any]:
        """A scalar JAX function ``(d,) -> ()`` around a batched torch density, differentiable once.

        Under ``vmap`` the whole batch crosses in one callback: values alone where no gradient is asked for (a density evaluation a
        point), else both (a gradient evaluation a point). All are counted by the density.

        Args:
            target: The density, in the coordinates that JAX sees.
        """
        jax, dtype = self.jax, self.numpy_dtype
        wide = dtype == np.float64

        # A callback runs in a thread where 64 bits are off, and there JAX rounds float64 to float32 without a word. So float64
        # crosses as pairs of 32-bit words.
        def pack(x: Any) -> Any:
            return jax.lax.bitcast_convert_type(x, np.uint32) if wide else x

        def unpack(x: Any) -> Any:
            return jax.lax.bitcast_convert_type(x, dtype) if wide else x

        def shape(sizes: tuple[int, ...]) -> Any:
            return jax.ShapeDtypeStruct((*sizes, 2), np.uint32) if wide else jax.ShapeDtypeStruct(sizes, dtype)

        def arrive(packed: Any) -> Tensor:
            x = np.array(
                packed
            )  # a copy, because JAX's memory must not be written; other JAX calls may hang in a callback
            return torch.from_numpy(x.view(dtype)[..., 0] if wide else x).to(self.device)

        def leave(x: Tensor) -> NDArray[Any]:
            out = np.array(x.cpu().numpy(), dtype=dtype, order="C")
            return out[..., None].view(np.uint32) if wide else out

        def host_value(packed: Any) -> NDArray[Any]:
            return leave(target(arrive(packed)))

        def host_both(packed: Any) -> tuple[NDArray[Any], NDArray[Any]]:
            value, grad = target.value_and_grad(arrive(packed))
            return leave(value), leave(grad)

        def value(x: Any) -> Any:
            return unpack(jax.pure_callback(host_value, shape(x.shape[:-1]), pack(x), vmap_method="expand_dims"))

        def forward(x: Any) -> tuple[Any, Any]:
            shapes = (shape(x.shape[:-1]), shape(x.shape))
            values, grads = jax.pure_callback(host_both, shapes, pack(x), vmap_method="expand_dims")
            return unpack(values), unpack(grads)

        def backward(grad: Any, cotangent: Any) -> tuple[Any]:
            return (cotangent[..., None] * grad,)

        log_density = jax.custom_vjp(value)
        log_density.defvjp(forward, backward)
        function: Callable[[Any], Any] = log_density
        return function
