"""Log densities written in JAX, over any pytree: one jitted call for a batch, in float64, memory shared through DLPack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from rdmc.density import Density
from rdmc.errors import DensityError
from rdmc.interop.model import Draws, Model, require, require_precision

__all__ = ["as_density", "density", "precision", "to_numpy"]

_EXTRA = "jax"
_LEAST, _MOST = 64, 16384
_ADVICE = (
    "create its arrays from NumPy, or after jax.config.update('jax_enable_x64', True), and don't cast to jnp.float32; "
    "or sample with dtype=torch.float32"
)


@contextmanager
def precision() -> Iterator[Any]:
    """JAX with 64 bits allowed, whatever ``jax_enable_x64`` says, and only within the block.

    Raises:
        ImportError: If JAX is not installed, with the extra that brings it.
    """
    jax = require("jax", _EXTRA)
    # a context manager of this name in JAX >= 0.8, an experimental one before
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else require("jax.experimental", _EXTRA).enable_x64
    with enable_x64(True):
        yield jax


def _padded(size: int) -> int:
    """The next power of two: JAX compiles once per batch size, and batch sizes are many."""
    return max(_LEAST, 1 << (size - 1).bit_length())


def batched(function: Callable[[Any], Any]) -> Callable[[Tensor], list[tuple[Any, int]]]:
    """A jitted, vmapped JAX function of ``(d,)`` on torch ``(M, d)``: by chunk, its JAX leaves and how many of their rows count.

    Batches are cut to 16,384 points and padded with copies of their first point to powers of two, so that few shapes are compiled.
    Rows are cut off after leaving JAX, which would compile that for every size as well.
    """
    jitted: list[Any] = []

    def call(x: Tensor) -> list[tuple[Any, int]]:
        parts = []
        with precision() as jax:
            if not jitted:
                jitted.append(jax.jit(jax.vmap(function)))
            home = x.detach()
            if home.device.type != "cpu" and jax.default_backend() == "cpu":
                home = home.cpu()
            for chunk in home.split(_MOST):
                size = len(chunk)
                room = _padded(size) - size
                filler = chunk[:1] if size else chunk.new_zeros(1, chunk.shape[1])
                full = torch.cat([chunk, filler.expand(room, -1)]) if room else chunk.contiguous()
                parts.append((jitted[0](jax.numpy.from_dlpack(full)), size))
        return parts

    return call


def to_numpy(function: Callable[[Any], Mapping[str, Any]]) -> Callable[[Tensor], Draws]:
    """A JAX function of ``(d,)`` that gives arrays by name, as a function of torch ``(M, d)`` that gives NumPy ``(M, ...)``."""
    calls = batched(function)

    def call(x: Tensor) -> Draws:
        parts = [{name: np.asarray(leaf)[:size] for name, leaf in out.items()} for out, size in calls(x)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return call


def _tensor(value: Any, x: Tensor, size: int, event: tuple[int, ...]) -> Tensor:
    """A JAX array as a tensor, if it is what a log density must give. The memory is JAX's: not to be written."""
    if tuple(value.shape[1:]) != event:
        raise DensityError(
            f"`log_density` must map one point to a scalar: wanted shape {event} for a point, got {tuple(value.shape[1:])}"
        )
    if x.dtype == torch.float64 and str(value.dtype) != "float64":
        raise DensityError(f"`log_density` must keep float64: it gave {value.dtype} for a float64 point; {_ADVICE}")
    return from_dlpack(value)[:size].to(x)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))


def as_density(function: Callable[[Any], Any], dim: int) -> Density:
    """A JAX function ``(d,) -> ()`` as a density on torch tensors."""
    jax = require("jax", _EXTRA)
    values, both = batched(function), batched(jax.value_and_grad(function))

    def log_density(x: Tensor) -> Tensor:
        return _joined([_tensor(value, x, size, ()) for value, size in values(x)])

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        parts = both(x)
        value = _joined([_tensor(value, x, size, ()) for (value, _), size in parts])
        return value, _joined([_tensor(grad, x, size, (dim,)) for (_, grad), size in parts])

    return require_precision(Density(log_density, dim, value_and_grad), _ADVICE)


def _leaf_names(jax: Any, tree: Any) -> tuple[str, ...]:
    """A name per leaf: the keys on the way to it, joined by dots; ``x`` for a bare array."""

    def word(key: Any) -> str:
        return str(next(getattr(key, name) for name in ("key", "idx", "name") if hasattr(key, name)))

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return tuple(".".join(map(word, path)) or "x" for path, _ in leaves)


def density(
    log_density: Callable[[Any], Any],
    position: Any,
    *,
    transform: Callable[[Any], Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Model:
    """A JAX log density over a pytree as a batched density with gradient.

    It runs in float64 under ``jax.enable_x64``, whatever the global setting is. Arrays that it closes over keep their dtype: those
    made by ``jnp.array`` while 64 bits are off have been rounded to float32 by then, so make them from NumPy.

    Cost: one compilation per power of two in the batch size; then one jitted call per batch and no copy for a batch of such size.

    Args:
        log_density: Pytree to scalar, for one point, as in BlackJAX; Jacobians of transforms are its own business.
        position: A pytree of the right structure and shapes (values don't matter), or an int d for a plain vector.
        transform: Position to the pytree of variables that draws are wanted of, for one point; the identity by default.
        dims: Names of the axes of variables.
        coords: Labels along named axes.

    Raises:
        DensityError: If the value is no scalar or loses float64.
        ImportError: If JAX is not installed, with the extra that brings it.

    Source: the contract is that of BlackJAX and bayeux: a log density, a point, a transform.
    """
    with precision() as jax:
        flatten = require("jax.flatten_util", _EXTRA)
        tree = np.zeros(position) if isinstance(position, int) else position
        tree = jax.tree.map(lambda leaf: jax.numpy.zeros(np.shape(leaf), "float64"), tree)
        flat, _ = flatten.ravel_pytree(tree)
        names = _leaf_names(jax, tree)
        shapes = tuple(tuple(np.shape(leaf)) for leaf in jax.tree.leaves(tree))
        structure = jax.tree.structure(tree)

    def unflatten(x: Any) -> Any:
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = [part.reshape(shape) for part, shape in zip(jax.numpy.split(x, ends), shapes, strict=True)]
        return jax.tree.unflatten(structure, parts)

    def variables(x: Any) -> dict[str, Any]:
        out = unflatten(x) if transform is None else transform(unflatten(x))
        return dict(zip(_leaf_names(jax, out), jax.tree.leaves(out), strict=True))

    return Model(
        as_density(lambda x: log_density(unflatten(x)), flat.size),
        names,
        shapes,
        to_numpy(variables),
        dims or {},
        coords or {},
    )
