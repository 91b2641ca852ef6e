"""The second density: made ready as the first is, and known by its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from rdmc.density import Density, HasLogDensity, as_density
from rdmc.errors import CheckpointError, DensityError
from rdmc.journal import Journal
from rdmc.memory import budget, rows_within
from rdmc.rng import Streams
from rdmc.typing import LogDensity

__all__ = ["Prior", "checked_prior", "named", "ready"]

Prior: TypeAlias = LogDensity | Density | HasLogDensity
"""What a caller may hold: the same kinds of object as the first argument of :func:`rdmc.sample`."""

_KEY = 0xFFFFFFFD  # a stream that no (chain, shard) can have


def checked_prior(prior: object) -> None:
    """Refuse what can't be a density.

    Raises:
        ValueError: Naming the argument, what was wanted and what came.
    """
    if isinstance(prior, type) or not (callable(prior) or isinstance(prior, HasLogDensity)):
        what = f"the class {prior.__name__}" if isinstance(prior, type) else repr(prior)
        raise ValueError(
            f"`prior` must be a batched function (M, d) -> (M,), a Density, or an object with `dim` and `log_density`, got {what}"
        )


def named(thing: object) -> str:
    """A name without an address: an object's own ``name``, a function's, or its class's."""
    inner = thing.log_density if isinstance(thing, Density) else thing
    name = getattr(inner, "name", None)
    return name if isinstance(name, str) else str(getattr(inner, "__qualname__", type(inner).__qualname__))


def ready(prior: Prior, density: Density, seed: int, journal: Journal, strengths: Sequence[float]) -> Density:
    """The prior as a checked density with the run's dtype and device, counted where ``density`` is.

    The journal keeps its values at a few points and the strengths. A run that is resumed compares them: the name in the
    sampler's repr does not tell one prior from another.

    Cost: about 15 evaluations, counted once.

    Args:
        prior: What the caller gave.
        density: The first density.
        seed: Of the run.
        journal: Of the run.
        strengths: Plain numbers that must be the same too.

    Raises:
        ValueError: If its dimension is not that of ``density``.
        DensityError: If it does not keep the contract of a density.
        CheckpointError: If the run that is resumed had another prior or another strength.
    """
    own = getattr(prior, "dim", density.dim)
    if own != density.dim:
        raise ValueError(f"`prior` must have the dimension of the density: wanted {density.dim}, got {own!r}")
    count = 3 if density.dim != 3 else 4
    rng = Streams.seeded(seed, [count], [(_KEY,)], dtype=density.dtype, device=density.device)
    probes = rng.normal((count, density.dim))
    try:
        known = as_density(prior, density.dim, dtype=density.dtype, device=density.device).check(probes)
    except DensityError as error:
        raise DensityError(f"of `prior`: {error}") from error
    rows = rows_within(known, budget(density.device), probes)
    known = replace(known, rows=rows if density.rows is None else min(rows, density.rows))
    values = known(probes)
    now = (repr(values.tolist()), repr(list(strengths)))

    def told() -> tuple[str, str]:
        density.counter.gradients += known.counter.gradients
        density.counter.densities += known.counter.densities
        return now

    if tuple(journal.step("prior", told)) != now:
        raise CheckpointError("`checkpoint` belongs to another run: its `prior` or `strength` has other values")
    return replace(known, counter=density.counter)
