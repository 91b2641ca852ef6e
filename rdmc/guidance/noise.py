"""Random numbers that can be had twice, so that two inner samplers see the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rdmc.rng import Streams

__all__ = ["Replay"]


@dataclass(frozen=True, eq=False)
class Replay:
    """A source of streams by number: the same numbers give streams at the same beginning.

    Nothing that is drawn from them moves the streams that the source was made of, however much one of two samplers draws.

    Args:
        keys: Two numbers a shard.
        sizes: Particles in each shard.
        dtype: Floating type of the draws.
        device: Device of the draws.

    Example:
        >>> source = Replay.of(Streams.seeded(0, [3], [(0,)]))
        >>> bool((source.at(1, 0).normal((3, 2)) == source.at(1, 0).normal((3, 2))).all())
        True
    """

    keys: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, rng: Streams) -> Replay:
        """The source that the next numbers of ``rng`` name; the one time that the host waits for them."""
        return cls(tuple(_key(generator, rng.device) for generator in rng.generators), rng.sizes, rng.dtype, rng.device)

    def at(self, *place: int) -> Streams:
        """Streams for the particles, for one place in a run."""
        keys = [(*key, *place) for key in self.keys]
        return Streams.seeded(0, self.sizes, keys, dtype=self.dtype, device=self.device)


def _key(generator: torch.Generator | None, device: torch.device) -> tuple[int, ...]:
    if generator is None:  # on the meta device
        return 0, 0
    return tuple(torch.randint(2**32, (2,), generator=generator, device=device).tolist())
