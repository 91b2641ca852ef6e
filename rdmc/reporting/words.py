"""The page in words: what ran, the verdict, the table of a comparison, and every warning."""

from __future__ import annotations

from typing import Any

from rdmc.capture import tells_more
from rdmc.comparison import COLUMNS, Comparison
from rdmc.diagnostics.convergence import rhat_threshold
from rdmc.diagnostics.stage_rules import unseen
from rdmc.reporting.parts import Section, Verdict, cell, sheet, with_error
from rdmc.reporting.subject import Subject
from rdmc.result import Result

__all__ = ["comparison_section", "configurations", "facts", "headline", "verdict", "warnings_section"]

GRAVEST = 3
_SHOWN = tuple(name for name in COLUMNS if name not in ("log_evidence_mcse", "first_problem"))  # told beside, and below


def headline(subject: Subject) -> str:
    """Title of the page."""
    if subject.comparison is not None:
        return f"Comparison of {len(subject.comparison.samplers)} samplers"
    result = next(iter(subject.results.values()))
    return f"{result.sampler}, {result.dim} dimension{'s' if result.dim > 1 else ''}"


def facts(subject: Subject) -> list[tuple[str, str]]:
    """What was run, as terms and descriptions."""
    found = _compared(subject.comparison) if subject.comparison is not None else []
    if subject.comparison is None:
        result = next(iter(subject.results.values()))
        counts = f"{result.gradient_evaluations:,} gradients"
        if result.density_evaluations:
            counts += f", {result.density_evaluations:,} densities"
        found = [
            ("Sampler", result.sampler),
            ("Draws", f"{result.chains} populations x {result.draws:,}" + (" (interrupted)" if result.partial else "")),
            ("Evaluations", f"{counts} ({result.evaluations_per_draw:,.1f} gradients a draw)"),
            ("Time", f"{result.seconds:.3g} s" if result.seconds >= 0 else "not recorded"),
            ("Seed", "not recorded" if result.seed is None else str(result.seed)),
        ]
    first = next(iter(subject.results.values()), None)
    if first is not None:
        found.append(("Versions", ", ".join(f"{name} {version}" for name, version in first.versions.items())))
    if subject.dated is not None:
        found.append(("File written", subject.dated))
    return found


def _compared(comparison: Comparison) -> list[tuple[str, str]]:
    settings = comparison.settings
    names = {"target": "Target", "dim": "Dimensions", "budget": "Budget, gradients a draw", "seed": "First seed"}
    found = [(words, cell(settings[name])) for name, words in names.items() if settings.get(name) is not None]
    if settings.get("draws") is not None and settings.get("chains") is not None:
        draws = f"{settings['chains']} populations x {settings['draws']:,}"
        seeds = settings.get("seeds", 1)
        found.append(("Draws of each", draws + (f", {seeds} seeds" if seeds > 1 else "")))
    return found


def configurations(subject: Subject) -> list[tuple[str, str]]:
    """Name and ``repr`` of each sampler."""
    return [(name, result.config) for name, result in subject.results.items() if result.config]


def _numbers(result: Result) -> str:
    found = result.convergence
    parts = []
    if found.worst_rhat == found.worst_rhat:
        good = rhat_threshold(result.chains, result.draws, result.dim)
        parts.append(f"R-hat over populations is at most {found.worst_rhat:.3f} (below {good:.3f} is good)")
    if found.worst_ess == found.worst_ess:
        parts.append(
            f"the least effective sample size is {found.worst_ess:,.0f} of {result.chains * result.draws:,} draws"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _unchecked(result: Result) -> str:
    """What the rules had nothing to look at."""
    missing = []
    if not len(result.modes):
        missing.append("no mode table, so mode weights were not checked")
    if not tells_more(result.inner):
        missing.append("no diagnostics by level, so inner chains were not checked")
    return f"There is {'; and '.join(missing)}." if missing else ""


def verdict(subject: Subject) -> Verdict:
    """What :meth:`rdmc.Result.check` says, and no more."""
    if subject.comparison is not None:
        return _verdict_of_comparison(subject)
    result = next(iter(subject.results.values()))
    problems = result.check()
    lead = [text for text in (_numbers(result), _unchecked(result)) if text]
    if not problems:
        return Verdict(
            True, "No known problem", ("No rule of `Result.check` has anything to report.", *lead, unseen(result))
        )
    title = f"{len(problems)} known problem{'s' if len(problems) > 1 else ''}"
    more = [f"… and {len(problems) - GRAVEST} more, under All warnings."] if len(problems) > GRAVEST else []
    return Verdict(False, title, tuple(lead), (*problems[:GRAVEST], *more))


def _verdict_of_comparison(subject: Subject) -> Verdict:
    comparison = subject.comparison
    assert comparison is not None  # the caller asked
    table = comparison.table
    fine = [row["sampler"] for row in table if row["status"] == "ok" and not row["problems"]]
    title = f"{len(fine)} of {len(table)} samplers without a known problem"
    lead = [f"Without a known problem: {', '.join(fine)}."] if fine else []
    if len(comparison.ranking) > 1:
        lead.append(f"Best first, by `Comparison.ranking`: {', '.join(comparison.ranking)}.")
    items = []
    for row in table:
        if row["sampler"] in fine:
            continue
        count = f"{row['problems']:.3g} problem{'s' if row['problems'] != 1 else ''}" if row["problems"] else ""
        state = "" if row["status"] == "ok" else row["status"]
        head = ", ".join(part for part in (state, count) if part)
        items.append(f"{row['sampler']}: {head}. {row['first_problem'] or ''}".strip())
    return Verdict(len(fine) == len(table), title, tuple(lead), tuple(items))


def comparison_section(comparison: Comparison) -> Section:
    """The table of the comparison and its notes."""
    rows = []
    for row in comparison.table:
        shown: dict[str, Any] = {}
        for column in _SHOWN:
            value, error = row[column], row.get(f"{column}_se")
            if column == "log_evidence" and error is None:
                error = row["log_evidence_mcse"]
            shown[column] = value if error is None or value is None else with_error(value, error)
        rows.append(shown)
    notes = comparison.notes
    if comparison.settings.get("seeds", 1) > 1:
        notes = (*notes, "Numbers are means over seeds ± their standard error; figures and modes show the first seed.")
    table = sheet("One row a sampler.", rows)
    return Section("comparison", "Comparison", sheets=(table,), items=notes)


def warnings_section(subject: Subject) -> Section:
    """Every problem of every run."""
    items: list[str] = []
    if subject.comparison is None:
        items = next(iter(subject.results.values())).check()
    else:
        several = subject.comparison.settings.get("seeds", 1) > 1
        for name, runs in subject.comparison.results.items():
            for run in runs:
                seed = f" (seed {run.seed})" if several else ""
                items += [f"{name}{seed}: {problem}" for problem in run.check()]
        for row in subject.comparison.measures:
            if row["status"] in ("failed", "not run"):
                items.append(f"{row['sampler']} ({row['status']}, seed {row['seed']}): {row['first_problem'] or '-'}")
    lead = () if items else ("`Result.check` lists none.",)
    told = dict.fromkeys(unseen(run) for run in subject.results.values())
    return Section("warnings", "All warnings", (*lead, *told), items=tuple(items))
