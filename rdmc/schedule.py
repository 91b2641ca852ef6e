"""Which forward process a run uses and at which times it stops: given, or fitted to what the pilot found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from rdmc.grid import Grid, LinearGrid, LogSNRGrid
from rdmc.locate.survey import Survey
from rdmc.process import EDM, OU, ForwardProcess

__all__ = ["Fitted", "Fixed", "Schedule"]


class Schedule(Protocol):
    """A rule for the process and the grid."""

    def plan(self, survey: Survey | None) -> tuple[ForwardProcess, tuple[float, ...]]:
        """The process, and its decreasing times from the horizon to the last."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A given process and grid, whatever the target.

    Args:
        process: Forward process.
        grid: Where it stops.
    """

    process: ForwardProcess = OU(horizon=1.0)
    grid: Grid = LinearGrid(levels=100, end=0.005)

    def plan(self, survey: Survey | None) -> tuple[ForwardProcess, tuple[float, ...]]:
        """The process and its times."""
        return self.process, self.grid.times(self.process)


@dataclass(frozen=True)
class Fitted:
    r"""Variance exploding in whitened coordinates, from ``reach`` times the spread of the modes down to ``end`` mode widths.

    .. math:: \sigma_0 = \text{reach} \cdot \text{spread}, \qquad \sigma_{k+1} = \sigma_k / \text{ratio}

    Above the spread p_t is one bump and x_T can be drawn directly; below a mode's width x_t says nothing new. The levels between
    are even in log-SNR, and their number grows with the logarithm of the spread only.

    Args:
        reach: Horizon in units of the spread, > 0.
        end: Last noise level, in mean mode widths, > 0.
        ratio: Largest factor between neighbouring levels, > 1.

    Raises:
        ValueError: If an argument is out of range, or on use without a pilot.
    """

    reach: float = 4.0
    end: float = 1.0
    ratio: float = 2.0

    def __post_init__(self) -> None:
        if not (self.reach > 0.0 and self.end > 0.0 and self.ratio > 1.0):
            raise ValueError(
                f"`reach` and `end` must be positive and `ratio` above 1, got {self.reach!r}, {self.end!r} and {self.ratio!r}"
            )

    def plan(self, survey: Survey | None) -> tuple[ForwardProcess, tuple[float, ...]]:
        """The process and its times for this target's spread."""
        if survey is None:
            raise ValueError(
                "`schedule=Fitted()` needs a pilot to know the spread of the modes, got `pilot=None`; use `Fixed`"
            )
        horizon = max(self.reach * survey.spread, 2.0 * self.end)
        process = EDM(horizon)
        levels = max(2, math.ceil(math.log(horizon / self.end) / math.log(self.ratio)))
        return process, LogSNRGrid(levels, self.end).times(process)
