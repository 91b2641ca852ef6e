"""What a run has done so far: every named step is done once, also when the run is stopped and called again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from rdmc.checkpoint import Checkpoint
from rdmc.density import Counter, Density
from rdmc.tape import Tape, taped

__all__ = ["Journal", "Spent"]

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two states of an unfinished step on disk."""


class Spent(NamedTuple):
    """Evaluations that a step took."""

    gradients: int
    densities: int

    @classmethod
    def since(cls, counter: Counter, begin: Spent) -> Spent:
        """What was counted after ``begin``."""
        return cls(counter.gradients - begin.gradients, counter.densities - begin.densities)


def _ignore(label: str) -> None:
    """Show nothing."""


class Journal:
    """Runs steps, or recalls them.

    Steps must be a function of the run's arguments and of earlier steps alone, so that a step recalled is the step repeated.
    Without a checkpoint every step is simply run.

    Args:
        counter: Of the run's evaluations; a step that is recalled counts as when it was run.
        checkpoint: Where steps are kept.
        watch: Told the name of every step as it begins, for a progress bar.

    Attributes:
        began: Clock reading (:func:`time.perf_counter`) at which it was made.
    """

    def __init__(
        self,
        counter: Counter,
        checkpoint: Checkpoint | None = None,
        watch: Callable[[str], None] = _ignore,
    ) -> None:
        self.counter = counter
        self.checkpoint = checkpoint
        self.watch = watch
        self._tape: Tape | None = None
        self.began = time.perf_counter()
        self._written = time.monotonic()

    def now(self) -> Spent:
        """Evaluations so far."""
        return Spent(self.counter.gradients, self.counter.densities)

    def step(self, name: str, work: Callable[[], T]) -> T:
        """Do the step, or recall what it gave."""
        self.watch(name)
        kept = self.recall(name)
        if kept is not None:
            return kept[0]
        begin = self.now()
        if self.checkpoint is None:
            return work()
        self._tape = Tape(self.checkpoint, name, INTERVAL)
        try:
            value = work()
            self.keep(name, (value,), Spent.since(self.counter, begin), self._tape.keys())
        finally:
            self._tape = None
        return value

    def taped(self, density: Density) -> Density:
        """The density, of which unfinished steps keep the answers."""
        return density if self.checkpoint is None else taped(density, self._ask)

    def _ask(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        return function(x) if self._tape is None else self._tape.ask(function, x)

    def recall(self, name: str) -> Any | None:
        """The parts kept under the name, their evaluations counted; None where there are none."""
        if self.checkpoint is None:
            return None
        record = self.checkpoint.recall(name)
        if record is None:
            return None
        parts, spent = record
        self.counter.gradients += spent.gradients
        self.counter.densities += spent.densities
        return parts

    def keep(self, name: str, parts: tuple[Any, ...], spent: Spent, instead_of: Sequence[str] = ()) -> None:
        """Keep the parts of a finished step, in place of what was kept while it was not."""
        if self.checkpoint is not None:
            self.checkpoint.keep(name, (parts, spent), instead_of)

    def note(self, name: str, parts: tuple[Any, ...], begin: Spent) -> None:
        """Keep the state of an unfinished step, if the last one is older than :data:`INTERVAL`."""
        if self.checkpoint is not None and time.monotonic() - self._written >= INTERVAL:
            self.keep(name, parts, Spent.since(self.counter, begin))
            self._written = time.monotonic()
