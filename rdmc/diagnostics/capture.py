"""Which mode the particles of a run were in, level by level, and where that was decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdmc.capture import KEPT, mode_columns
from rdmc.table import Table

__all__ = ["Capture", "capture"]

_SURE = 5.0  # standard errors of a change of frequency that count as a change
_HALF = 0.5  # of the way from chance to certainty, at which a mode counts as decided

Array = NDArray[np.float64]


class HasModes(Protocol):
    """What the accessor reads of a result."""

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def places(self) -> Table: ...
    @property
    def chains(self) -> int: ...
    @property
    def draws(self) -> int: ...
    @property
    def sampler(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Capture:
    r"""The frequency of every mode along the noise levels.

    Two different things are decided on the way. *Of the run*: from :attr:`settled` on the frequencies move no more. The diffusion
    path keeps the weights of modes, so with exact draws that is the first level; a sampler whose frequencies move has weights that
    come from its own dynamics and not from the target. *Of a particle*: :attr:`decided` is where its mode is fixed.

    Attributes:
        table: One row a level, in the order of the run: sigma, log_snr, ``moved``, ``kept``, ``told``, and the frequency of each
            mode. ``moved`` is the total variation between the frequencies and the final ones, ``kept`` the share of particles that
            are in their final mode, and ``told`` the same between chance (0) and certainty (1).
        places: The modes: location, the survey's rough weight, and the window of each (:func:`rdmc.capture.places`).
        particles: Particles behind each frequency.
    """

    table: Table
    places: Table
    particles: int

    @property
    def modes(self) -> list[str]:
        """Names of the columns with frequencies, heaviest mode of the survey first."""
        return mode_columns(dict.fromkeys(self.table.columns))

    @property
    def window(self) -> tuple[float, float]:
        """Log signal-to-noise ratios between which theory expects modes to be decided.

        From where p_t has one mode for the farthest pair of modes to where q_t is log-concave for all nearest pairs; NaN for one
        mode or modes that touch.
        """
        pairs = [(first, high) for first, high in zip(self.places["first"], self.places["high"], strict=True)]
        known = [(low, high) for low, high in pairs if math.isfinite(low) and math.isfinite(high)]
        if not known:
            return math.nan, math.nan
        return min(low for low, _ in known), max(high for _, high in known)

    @property
    def settled(self) -> int:
        """The level after which no frequency differs from the final one by more than five standard errors.

        The final frequencies are those of the same particles, so that of a difference only the particles that changed count.
        """
        shares = np.array([self.table[name] for name in self.modes]).T
        changed = np.clip(1.0 - np.array(self.table[KEPT]), 1.0 / self.particles, None)
        moved = np.abs(shares - shares[-1]).max(1) > _SURE * np.sqrt(changed / self.particles)
        late = np.flatnonzero(moved)
        return int(late[-1]) + 1 if len(late) else 0

    @property
    def decided(self) -> int | None:
        """The first level from which on at least half of what can be told of a particle's final mode is told; None for one mode."""
        told = np.array(self.table["told"])
        if np.isnan(told).all():
            return None
        below = np.flatnonzero(~(told >= _HALF))
        return int(below[-1]) + 1 if len(below) else 0

    @property
    def sentence(self) -> str:
        """Where the modes were decided, in words."""
        if self.decided is None:
            return "All particles are in one mode at every level: there is nothing to decide."
        sigma = self.table["sigma"]
        last = len(sigma) - 1
        low, high = self.window
        expected = f"; theory expects that for log snr between {low:.2g} and {high:.2g}" if math.isfinite(low) else ""
        here = f"sigma = {sigma[min(self.decided, last)]:.3g} (log snr {self.table['log_snr'][min(self.decided, last)]:.2g})"
        if self.decided == 0:
            return (
                f"Particles were in their final modes from the first level on, {here}: the frequencies are those of the places "
                f"where they, or their inner chains, began{expected}."
            )
        if self.settled == 0:
            run = "The frequencies of the modes are the same at all levels."
        else:
            run = (
                f"The frequencies of the modes moved until sigma = {sigma[min(self.settled, last)]:.3g}, by "
                f"{max(self.table['moved']):.2g} in all."
            )
        return f"{run} The mode of a particle is decided at {here}{expected}."

    def to_markdown(self) -> str:
        """The table, the modes and the sentence."""
        return f"{self.table.to_markdown()}\n\n{self.places.to_markdown()}\n\n{self.sentence}"

    def __str__(self) -> str:
        return self.to_markdown()


def capture(result: HasModes) -> Capture:
    """The frequency of every mode along the noise levels of a run, all populations together.

    At each level a particle counts for the mode in which its present draw of x_0 lies (for annealed Langevin: the particle itself).

    Cost: none.

    Raises:
        ValueError: If the run recorded no modes: it had no pilot to tell them apart, its sampler records none, or an older version
            made it.
    """
    names = mode_columns(result.inner)
    if not names or not len(result.places):
        raise ValueError(
            f"`capture` needs the frequencies of modes by noise level, which this result of {result.sampler!r} does not have: give "
            "the sampler a pilot that tells the modes apart; not every sampler records them"
        )
    inner: dict[str, Array] = {
        name: np.nanmean(np.asarray(values, dtype=np.float64), 0) for name, values in _known(result, names)
    }
    blank = np.full(len(inner[names[0]]), math.nan)
    shares = np.stack([inner[name] for name in names], 1)
    rest = np.clip(1.0 - shares.sum(1), 0.0, None)  # modes beyond the recorded ones
    final = np.append(shares[-1], rest[-1])
    full = np.column_stack([shares, rest])
    chance = full @ final
    told = np.where(
        chance < 1.0 - 1e-9, (inner[KEPT] - chance) / np.where(chance < 1.0 - 1e-9, 1.0 - chance, 1.0), math.nan
    )
    columns = {
        "sigma": inner.get("sigma", blank),
        "log_snr": inner.get("log_snr", blank),
        "moved": 0.5 * np.abs(full - full[-1]).sum(1),
        KEPT: inner[KEPT],
        "told": told,
        **{name: inner[name] for name in names},
    }
    table = Table({name: values.tolist() for name, values in columns.items()})
    return Capture(table, result.places, result.chains * result.draws)


def _known(result: HasModes, names: list[str]) -> list[tuple[str, NDArray[Any]]]:
    """The columns that are read, at the levels that at least one population reached."""
    reached = ~np.isnan(np.asarray(result.inner[names[0]], dtype=np.float64)).all(0)
    wanted = [name for name in (*names, KEPT, "sigma", "log_snr") if name in result.inner]
    return [(name, np.asarray(result.inner[name])[:, reached]) for name in wanted]
