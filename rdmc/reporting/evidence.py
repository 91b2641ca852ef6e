"""The log of the normalising constant: the one number of a result, or every sampler's on one axis."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rdmc.comparison import Comparison
from rdmc.panels import INK, LINE, POPULATIONS, Array
from rdmc.reporting.parts import Plate, Section, cell, sheet, with_error
from rdmc.reporting.subject import Subject
from rdmc.reporting.svg import label, panel
from rdmc.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["evidence_section"]


def _evidences(axes: Axes, names: list[str], values: Array, errors: Array, truth: float | None) -> None:
    place = np.arange(len(names))[::-1]
    if truth is not None:
        axes.axvline(truth, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.errorbar(values, place, xerr=2 * errors, fmt="o", color=POPULATIONS[0], markersize=4.5, elinewidth=1.3)
    axes.set_yticks(place, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("log evidence")
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color=LINE, alpha=0.25, linewidth=0.5)


def evidence_section(subject: Subject) -> Section:
    """What is known of the evidence."""
    if subject.comparison is None:
        return _of_result(next(iter(subject.results.values())))
    return _of_comparison(subject.comparison)


def _of_result(result: Result) -> Section:
    if result.log_evidence is None:
        return Section("evidence", "Evidence", ("This run has no estimate of the evidence.",))
    known = "one standard error" if result.log_evidence_mcse is not None else "its error is not known"
    number = with_error(result.log_evidence, result.log_evidence_mcse)
    return Section("evidence", "Evidence", (f"Log evidence: {number} ({known}).",))


def _of_comparison(comparison: Comparison) -> Section:
    rows: list[tuple[str, float, float | None]] = []
    missing = []
    for row in comparison.table:
        value = row["log_evidence"]
        if value is not None and math.isfinite(value):
            rows.append((row["sampler"], value, row.get("log_evidence_se") or row["log_evidence_mcse"]))
        else:
            missing.append(row["sampler"])
    if not rows:
        return Section("evidence", "Evidence", ("No sampler here gave an estimate of the evidence.",))
    lead = (f"No estimate from {', '.join(missing)}.",) if missing else ()
    texts = [{"sampler": name, "log evidence": with_error(value, error)} for name, value, error in rows]
    table = sheet("Log evidence ± one standard error.", texts)
    log_z = getattr(comparison.truth, "log_z", None)
    truth = None if log_z is None else float(log_z)
    if len(rows) == 1 and truth is None:  # a figure of one number says no more than the number
        return Section("evidence", "Evidence", lead, (table,))
    errors = np.array([0.0 if error is None or not math.isfinite(error) else error for _, _, error in rows])
    names = [label(name, 20) for name, _, _ in rows]
    draw = partial(_evidences, names=names, values=np.array([row[1] for row in rows]), errors=errors, truth=truth)
    alt = "Log evidence: " + "; ".join(f"{row['sampler']} {row['log evidence']}" for row in texts)
    known = f" The dashed line is the true value, {cell(truth)}." if truth is not None else ""
    plate = Plate(
        f"Log evidence by sampler, ± two standard errors.{known}",
        (panel(draw, alt, size=(3.4, 0.75 + 0.3 * len(rows))),),
    )
    return Section("evidence", "Evidence", lead, (table,), (plate,))
