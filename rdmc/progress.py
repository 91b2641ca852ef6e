"""One progress bar per run, driven from the host loop, that can never end the run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]

INTERVAL = 0.2
"""Least seconds between two refreshes of the bar; an update in between costs one clock reading."""


def _tqdm(total: int | None, description: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TqdmWarning: a notebook without widgets falls back to text
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=description, unit=" level", dynamic_ncols=True, mininterval=0.0, leave=True)


class Progress:
    """A bar that shows levels done, time left and evaluations per second.

    Whatever goes wrong in the bar (a closed terminal, a broken pipe, a notebook that went away) switches it off; the
    run goes on.

    Args:
        total: Levels of the whole run, None if it isn't known.
        description: Text at the left, usually the name of the sampler.
        enabled: False makes an object whose methods do nothing, for ``progressbar=False``.
        bar: How to make the bar, ``(total, description) -> object`` with tqdm's ``update``, ``set_postfix_str``,
            ``refresh`` and ``close``.

    Example:
        >>> with Progress(3, "rdmc", enabled=False) as progress:
        ...     for level in range(3):
        ...         progress.update(level + 1, evaluations=100 * (level + 1))
    """

    def __init__(
        self,
        total: int | None,
        description: str = "",
        *,
        enabled: bool = True,
        bar: Callable[[int | None, str], Any] = _tqdm,
    ) -> None:
        self._bar: Any = None
        self._shown_done = 0
        self._done, self._evaluations, self._total = 0, 0, total
        self._start = self._shown = time.monotonic()
        if enabled:
            self._safely(lambda: setattr(self, "_bar", bar(total, description)))

    @property
    def active(self) -> bool:
        """Whether a bar is shown."""
        return self._bar is not None

    def update(self, done: int, evaluations: int, *, total: int | None = None) -> None:
        """Show that ``done`` levels are finished after ``evaluations`` evaluations, counted from the start of the run.

        Args:
            done: Levels finished so far.
            evaluations: Evaluations so far.
            total: New number of levels, where a run has decided to do more.
        """
        if self._bar is None:
            return
        self._done, self._evaluations = done, evaluations
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now - self._shown >= INTERVAL:
            self._shown = now
            self._safely(self._show)

    def note(self, label: str) -> None:
        """Say beside the bar what is being done; for parts of a run whose length isn't known."""
        if self._bar is not None:
            self._safely(lambda: self._bar.set_postfix_str(label))

    def close(self) -> None:
        """Show the last state and leave the bar; harmless when repeated."""
        if self._bar is not None:
            self._safely(self._show)
        if self._bar is not None:
            bar, self._bar = self._bar, None
            self._safely(bar.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self) -> None:
        self._bar.total = self._total
        rate = self._evaluations / max(time.monotonic() - self._start, 1e-9)
        self._bar.set_postfix_str(f"{_short(self._evaluations)} evaluations, {_short(rate)}/s", refresh=False)
        self._bar.update(self._done - self._shown_done)
        self._bar.refresh()
        self._shown_done = self._done

    def _safely(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.disable = True  # else tqdm's destructor would write to the same broken stream


def _short(value: float) -> str:
    """Three digits and a unit: 950, 12.3k, 4.56M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"
