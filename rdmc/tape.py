"""What a density answered during a step that is not finished, so that the step can be gone through again without asking."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from rdmc.checkpoint import Checkpoint
from rdmc.density import Density

__all__ = ["Tape", "taped"]


class Tape:
    """Answers in the order of the questions: those that were kept first, then new ones, which are kept from time to time.

    A step whose questions follow from its answers asks the same ones again, so it goes on where it was cut off. Its own work
    between the questions is done again.

    Args:
        checkpoint: Where the answers are kept.
        name: Of the step.
        interval: Seconds between two writings.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, interval: float) -> None:
        self._checkpoint = checkpoint
        self._name = name
        self._interval = interval
        self._kept: list[Any] = []
        self._chunks = 0
        while (chunk := checkpoint.recall(self._key(self._chunks))) is not None:
            self._kept += chunk
            self._chunks += 1
        self._kept.reverse()
        self._new: list[Any] = []
        self._written = time.monotonic()

    def _key(self, chunk: int) -> str:
        return f"{self._name}/{chunk}"

    def ask(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        """The answer that is on the tape, or the function's."""
        if self._kept:
            return self._kept.pop()
        answer = function(x)
        self._new.append(answer)
        if time.monotonic() - self._written >= self._interval:
            self._checkpoint.keep(self._key(self._chunks), self._new)
            self._chunks += 1
            self._new = []
            self._written = time.monotonic()
        return answer

    def keys(self) -> list[str]:
        """The entries that the finished step makes superfluous."""
        return [self._key(chunk) for chunk in range(self._chunks)]


def taped(density: Density, ask: Callable[[Callable[[Tensor], Any], Tensor], Any]) -> Density:
    """The density with every call of the user's functions made through ``ask``; evaluations count as before."""
    return replace(
        density,
        log_density=lambda x: ask(density.log_density, x),
        gradient=lambda x: ask(density.bare_value_and_grad, x),
    )
