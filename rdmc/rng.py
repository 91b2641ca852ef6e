"""Random numbers by shard: the same bits however shards are grouped into batches or dealt to workers.

The unit of randomness is a *shard*, a fixed number of particles of one population. Each shard has its own generator, seeded from
``(seed, *key)`` by :class:`numpy.random.SeedSequence`. A batch is made of whole shards; a draw asks each shard's generator for that
shard's part and joins the parts along the particle axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

__all__ = ["SHARD_SIZE", "Streams"]

SHARD_SIZE = 4096
"""Particles in a full shard."""


def _generator(seed: int, key: Sequence[int], device: torch.device) -> torch.Generator | None:
    if device.type == "meta":  # a meta tensor has no values, so there is nothing to seed
        return None
    words = np.random.SeedSequence(entropy=seed, spawn_key=tuple(key)).generate_state(2, np.uint32)
    return torch.Generator(device=device).manual_seed(int(words[0]) << 32 | int(words[1]))


@dataclass(frozen=True, eq=False)
class Streams:
    """The generators of the shards that make up a batch of particles.

    Drawing advances the generators; nothing else about the object changes, and no global generator is read or written.

    Args:
        generators: One per shard (None on the ``meta`` device).
        sizes: Particles in each shard.
        dtype: Floating type of the draws.
        device: Device of the draws.
    """

    generators: tuple[torch.Generator | None, ...]
    sizes: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")

    @classmethod
    def seeded(
        cls,
        seed: int,
        sizes: Sequence[int],
        keys: Sequence[Sequence[int]] = ((),),
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Streams:
        """Streams for shards of the given sizes, each with its own key below the seed.

        Args:
            seed: Any non-negative integer.
            sizes: Particles in each shard.
            keys: One tuple of integers per shard, for example ``(chain, shard)``.
            dtype: Floating type of the draws.
            device: Device of the draws.

        Raises:
            ValueError: If ``sizes`` and ``keys`` differ in length.

        Example:
            >>> rng = Streams.seeded(0, sizes=[3, 2], keys=[(0, 0), (0, 1)])
            >>> alone = Streams.seeded(0, sizes=[2], keys=[(0, 1)])
            >>> bool((rng.normal((5, 4))[3:] == alone.normal((2, 4))).all())
            True
        """
        if len(sizes) != len(keys):
            raise ValueError(f"`keys` must have one entry per shard: wanted {len(sizes)}, got {len(keys)}")
        device = torch.device(device)
        return cls(tuple(_generator(seed, key, device) for key in keys), tuple(sizes), dtype, device)

    def copy(self) -> Streams:
        """Streams that will give the same numbers as these, and take none from them."""
        copies = (None if generator is None else generator.clone_state() for generator in self.generators)
        return replace(self, generators=tuple(copies))

    @property
    def particles(self) -> int:
        """Particles in the batch, over all shards."""
        return sum(self.sizes)

    @cached_property
    def _shard_of_particle(self) -> Tensor:
        # made on the device, as a copy from the host would wait for it
        return torch.cat([torch.full((size,), i, device=self.device) for i, size in enumerate(self.sizes)])

    def shard_of_particle(self) -> Tensor:
        """``(B,)`` index of the shard each particle belongs to: what is pooled over particles is pooled within a shard."""
        return self._shard_of_particle

    def _parts(self, shape: Sequence[int], axis: int) -> list[tuple[torch.Generator | None, tuple[int, ...]]]:
        axis %= len(shape)
        if shape[axis] != self.particles:
            raise ValueError(f"`shape` must have {self.particles} particles along axis {axis}, got {tuple(shape)}")
        return [
            (generator, (*shape[:axis], size, *shape[axis + 1 :]))
            for generator, size in zip(self.generators, self.sizes, strict=True)
        ]

    def normal(self, shape: Sequence[int], particle_axis: int = -2) -> Tensor:
        """Standard normal draws of the given shape, whose ``particle_axis`` (default: last but one) runs over particles."""
        parts = [
            torch.randn(part, generator=generator, dtype=self.dtype, device=self.device)
            for generator, part in self._parts(shape, particle_axis)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=particle_axis)

    def uniform(self, shape: Sequence[int], particle_axis: int = -1) -> Tensor:
        """Uniform draws in [0, 1) of the given shape, whose ``particle_axis`` (default: last) runs over particles."""
        parts = [
            torch.rand(part, generator=generator, dtype=self.dtype, device=self.device)
            for generator, part in self._parts(shape, particle_axis)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=particle_axis)

    def integers(self, shape: Sequence[int], below: int, particle_axis: int = -1) -> Tensor:
        """Uniform draws of 0 to ``below`` - 1 of the given shape, whose ``particle_axis`` (default: last) runs over particles."""
        return (self.uniform(shape, particle_axis) * below).long()

    def log_uniform(self, shape: Sequence[int], particle_axis: int = -1) -> Tensor:
        """Logarithms of uniform draws in (0, 1], what a Metropolis test compares with; never ``-inf``."""
        return self.uniform(shape, particle_axis).neg_().log1p_()
