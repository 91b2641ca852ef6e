"""What the examples share: arguments, the two runs, a table of what they say beside the truth, and the look of figures."""

from __future__ import annotations

import argparse
import math
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from matplotlib.figure import Figure
from torch import Tensor

import rdmc
from rdmc.baselines import NUTS
from rdmc.panels import INK, PALE, POPULATIONS, tidy
from rdmc.parameters import NamedDensity
from targets import Target

__all__ = [
    "INK",
    "PALE",
    "POPULATIONS",
    "Settings",
    "Shares",
    "bars",
    "canvas",
    "mode_shares",
    "nuts",
    "ours",
    "parse",
    "save",
    "scatter",
    "share",
    "tell",
]

Shares: TypeAlias = Mapping[str, Mapping[str, tuple[float, float]]]
"""Name of a mode to name of a sampler to (share, error)."""


@dataclass(frozen=True)
class Settings:
    """How much to draw and where to write.

    Attributes:
        draws: Draws of each of 4 chains.
        nuts_draws: The same for NUTS, whose density is called point by point from JAX.
        nuts: NUTS itself.
        auto: The default sampler.
        seed: Of both.
        out: Folder of the figure, or None for none.
    """

    draws: int
    nuts_draws: int
    nuts: NUTS
    auto: rdmc.Auto
    seed: int
    out: Path | None


def parse(doc: str | None, argv: Sequence[str] | None) -> Settings:
    """Settings from the command line: ``--smoke``, ``--seed``, ``--out``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few draws, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("gallery"), help="folder of the figure")
    a = parser.parse_args(argv)
    if a.smoke:
        brief = NUTS(budget=20.0, doublings=5, pilot=rdmc.Pilot(starts=16, rounds=2, scan=1))
        return Settings(200, 50, brief, rdmc.Auto(effort=0.4), a.seed, a.out)
    return Settings(1000, 250, NUTS(budget=50.0), rdmc.Auto(), a.seed, a.out)


def ours(target: Target | NamedDensity, settings: Settings, sampler: Any = None) -> rdmc.Result:
    """A run of ``rdmc.sample``, the default sampler unless another is given, with the target's own names."""
    names = getattr(target, "parameter_names", None)
    sampler = settings.auto if sampler is None else sampler
    return rdmc.sample(
        target, draws=settings.draws, seed=settings.seed, sampler=sampler, names=names, progressbar=False
    )


def nuts(target: Target, settings: Settings) -> rdmc.Result:
    """A run of BlackJAX's NUTS, 4 chains from scattered points."""
    names = getattr(target, "parameter_names", None)
    return rdmc.sample(
        target, draws=settings.nuts_draws, seed=settings.seed, sampler=settings.nuts, names=names, progressbar=False
    )


def share(event: Tensor) -> tuple[float, float]:
    """Frequency of an event, ``(chains, draws)``, with its standard error.

    The error is the larger of that of independent draws and that of the spread between chains.
    """
    chains = event.double().mean(1)
    mean = float(chains.mean())
    spread = float(chains.std()) / math.sqrt(len(chains))
    return mean, max(math.sqrt(mean * (1.0 - mean) / event.numel()), spread)


def mode_shares(target: Target, results: Mapping[str, rdmc.Result], rows: Sequence[str]) -> Shares:
    """Share of each of the target's modes, under the names given."""
    labels = {name: target.mode_of(r.samples.flatten(0, 1)).view(r.chains, r.draws) for name, r in results.items()}
    return {row: {name: share(label == k) for name, label in labels.items()} for k, row in enumerate(rows)}


def tell(
    title: str,
    results: Mapping[str, rdmc.Result],
    shares: Shares,
    truth: Mapping[str, float],
) -> None:
    """Print one column for each result: cost, R-hat, evidence, shares of the modes; the truth beside it; then problems.

    Args:
        title: First line.
        results: Name of each sampler to its result.
        shares: Row to name of sampler to (share, error).
        truth: ``"log evidence"`` and rows of ``shares`` that are known otherwise.
    """
    names = list(results)
    rows = [
        ["gradients per draw", "", *(f"{r.evaluations_per_draw:.0f}" for r in results.values())],
        ["R-hat, largest", "", *(f"{r.convergence.worst_rhat:.3f}" for r in results.values())],
        ["ESS, smallest", "", *(f"{r.convergence.worst_ess:,.0f}" for r in results.values())],
        [
            "log evidence",
            f"{truth['log evidence']:.3f}" if "log evidence" in truth else "",
            *map(evidence, results.values()),
        ],
    ]
    for row, by_name in shares.items():
        known = f"{truth[row]:.3f}" if row in truth else ""
        rows.append([row, known, *("{:.3f} +- {:.3f}".format(*by_name[name]) for name in names)])
    print(f"\n{title}\n\n{_table(['', 'truth', *names], rows)}\n")
    for name, result in results.items():
        problems = result.check()
        print(f"{name}: " + ("no problem found" if not problems else f"{len(problems)} problem(s)"))
        for problem in problems:
            print(textwrap.fill(problem, 110, initial_indent="  - ", subsequent_indent="    "))


def evidence(result: rdmc.Result) -> str:
    """Log evidence with its error, in words."""
    if result.log_evidence is None or result.log_evidence_mcse is None:
        return "none"
    return f"{result.log_evidence:.3f} +- {result.log_evidence_mcse:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def canvas(columns: int, rows: int = 1, width: float = 11.0, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    """A figure with tidy axes, ``(rows, columns)`` of them."""
    page = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    axes = page.subplots(rows, columns, squeeze=False, **options)
    for each in axes.flat:
        tidy(each)
    return page, axes


def scatter(axes: Any, x: Tensor, y: Tensor, title: str, size: float = 4.0) -> None:
    """Draws ``(chains, draws)`` in the colours of their chains, mixed so that none lies on top."""
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))
    colours = [POPULATIONS[int(k) // x.shape[1] % len(POPULATIONS)] for k in order]
    axes.scatter(x.flatten()[order], y.flatten()[order], s=size, c=colours, alpha=0.5, linewidths=0, rasterized=True)
    axes.set_title(title, loc="left", fontsize=10, color=INK)


def bars(axes: Any, shares: Shares, truth: Mapping[str, float], title: str) -> None:
    """Shares side by side, one colour for each sampler, two standard errors, a black line for what is known."""
    names = list(next(iter(shares.values())))
    width = 0.8 / len(names)
    for k, (name, colour) in enumerate(zip(names, POPULATIONS, strict=False)):
        place = [row + (k - 0.5 * (len(names) - 1)) * width for row in range(len(shares))]
        height, error = zip(*(by_name[name] for by_name in shares.values()), strict=True)
        down = [min(2.0 * e, h) for h, e in zip(height, error, strict=True)]
        axes.bar(place, height, width=0.9 * width, color=colour, alpha=0.75, label=name)
        axes.errorbar(
            place, height, yerr=[down, [2.0 * e for e in error]], fmt="none", ecolor=INK, elinewidth=0.9, capsize=2
        )
    for row, name in enumerate(shares):
        if name in truth:
            label = "truth" if row == 0 else None
            axes.hlines(truth[name], row - 0.45, row + 0.45, color="black", linewidth=2.0, zorder=4, label=label)
    axes.set_xticks(range(len(shares)), list(shares))
    axes.set_ylim(0.0, 1.02 if max(h[0] + 2 * h[1] for b in shares.values() for h in b.values()) > 0.7 else None)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8)


def save(page: Figure, settings: Settings, name: str) -> None:
    """Write the figure into the folder and say so."""
    if settings.out is None:
        return
    for axes in page.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set(size=9, color=INK)
    settings.out.mkdir(parents=True, exist_ok=True)
    page.savefig(settings.out / f"{name}.png", dpi=130)
    print(f"\nwrote {settings.out / f'{name}.png'} ({time.process_time():.0f} s of one core so far)")
