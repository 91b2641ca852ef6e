"""The course of a run: diagnostics of each noise level or rung, and the stages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rdmc.panels import INK, LINE, POPULATIONS, Array
from rdmc.reporting.draws import population_key
from rdmc.reporting.parts import Plate, Section, sheet
from rdmc.reporting.subject import Subject
from rdmc.reporting.svg import label, panel
from rdmc.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["course_section", "stages_section"]

METRICS = {
    "rhat": "R-hat of inner chains",
    "ess": "effective inner draws",
    "acceptance": "acceptance",
    "jump_acceptance": "acceptance of jumps",
    "rejection": "rejected swaps",
    "kept": "particles in their final mode",
}
"""Keys of ``Result.inner`` that are drawn, if they hold a number."""

_SHARES = ("acceptance", "jump_acceptance", "rejection", "kept")


def _axis(result: Result) -> tuple[Array, str, bool]:
    """``(chains, levels)`` places on the axis, its name, and whether it is logarithmic."""
    for name, words in (("sigma", "noise level sigma"), ("beta", "inverse temperature")):
        if name in result.inner:
            values: Array = np.asarray(result.inner[name], dtype=np.float64)
            if np.isfinite(values).all() and np.ptp(values) > 0:
                return values, words, name == "sigma" and bool((values > 0).all())
    shape = np.shape(next(iter(result.inner.values())))
    return np.broadcast_to(np.arange(shape[1], dtype=np.float64), shape), "level, in the order of the run", False


def _lines(axes: Axes, places: Array, values: Array, across: str, log: bool, key: str, title: str) -> None:
    for k, (x, y) in enumerate(zip(places, values, strict=True)):
        axes.plot(
            x, y, "o-", color=POPULATIONS[k % len(POPULATIONS)], markersize=2.8, linewidth=1.1, alpha=0.9, clip_on=False
        )
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.tick_params(which="minor", color=LINE, length=2)
        axes.invert_xaxis()
    else:
        axes.locator_params(axis="x", nbins=5)
    if key in _SHARES:
        axes.set_ylim(0, 1)
    elif key == "ess":
        axes.set_ylim(0, None)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="y", color=LINE, alpha=0.25, linewidth=0.5)
    axes.set_title(label(title, 44), loc="left", fontsize=8.5, color=INK)
    axes.set_xlabel(f"{across} (run: left to right)" if log else across)


def _said(result: Result, title: str) -> list[str]:
    """Where the error of the run comes from and where its modes were decided, as far as it recorded that."""
    texts = []
    for read in (result.error_budget, result.capture):
        try:
            texts.append(read().sentence)
        except ValueError:  # this sampler has no such record
            continue
    return [f"{title}: {text}" if title else text for text in texts]


def course_section(subject: Subject) -> Section:
    """Inner diagnostics against the noise level, one line a population."""
    panels, quiet = [], []
    for name, result in subject.results.items():
        made = 0
        for key in METRICS if len(result.inner) else ():
            values = np.asarray(result.inner.get(key, np.nan), dtype=np.float64)
            if values.ndim != 2 or not np.isfinite(values).any():
                continue
            places, across, log = _axis(result)
            clean = np.where(np.isfinite(values), values, np.nan)
            title = ": ".join(text for text in (subject.title(name), METRICS[key]) if text)
            draw = partial(_lines, places=places, values=clean, across=across, log=log, key=key, title=title)
            of = f" of {name}" if subject.title(name) else ""
            panels.append(panel(draw, f"{METRICS[key]} against {across}{of}, {result.chains} populations"))
            made += 1
        if not made:
            quiet.append(name)
    lead = [f"No diagnostics by level from {', '.join(quiet)}."] if quiet else []
    lead += [text for name, result in subject.results.items() for text in _said(result, subject.title(name))]
    caption = "Diagnostics of the inner chains at each level, one line a population."
    plates = (Plate(caption, tuple(panels), population_key(subject)),) if panels else ()
    return Section("course", "Course of the run", tuple(lead), plates=plates)


def stages_section(subject: Subject) -> Section | None:
    """What each stage did, for results that record it."""
    sheets = []
    for name, result in subject.results.items():
        stages = getattr(result, "stages", None)
        if stages is not None and len(stages):
            of = f" of {name}" if subject.title(name) else ""
            sheets.append(sheet(f"Stages{of}: what each found and what it cost.", list(stages)))
    return Section("stages", "Stages", sheets=tuple(sheets)) if sheets else None
