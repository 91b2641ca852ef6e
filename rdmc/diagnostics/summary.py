"""A result in words and small tables, for someone who wants to know whether to trust it."""

from __future__ import annotations

import textwrap
from typing import Protocol

import numpy as np

from rdmc.diagnostics.convergence import rhat_threshold
from rdmc.diagnostics.rules import ResultLike
from rdmc.diagnostics.stage_rules import unseen
from rdmc.table import Table

__all__ = ["Summarisable", "summarise"]

SHOWN_MODES = 12
SHOWN_COORDINATES = 12


class Summarisable(ResultLike, Protocol):
    """What a summary reads of a result, beside what the rules read; :class:`rdmc.Result` documents each."""

    @property
    def chains(self) -> int: ...  # noqa: D102
    @property
    def draws(self) -> int: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def evaluations_per_draw(self) -> float: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def log_evidence(self) -> float | None: ...  # noqa: D102
    @property
    def log_evidence_mcse(self) -> float | None: ...  # noqa: D102
    @property
    def stages(self) -> Table: ...  # noqa: D102
    @property
    def sampler(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int | None: ...  # noqa: D102
    def check(self) -> list[str]: ...  # noqa: D102


def _cost(result: Summarisable) -> str:
    values = f" and {result.density_evaluations:,} density" if result.density_evaluations else ""
    return (
        f"Cost: {result.gradient_evaluations:,} gradient{values} evaluations "
        f"({result.evaluations_per_draw:.1f} gradients per draw), "
        f"{result.seconds:.1f} s"
    )


def _evidence(result: Summarisable) -> list[str]:
    if result.log_evidence is None:
        return []
    error = "" if result.log_evidence_mcse is None else f" +- {result.log_evidence_mcse:.2g}"
    return [f"Log evidence: {result.log_evidence:.4g}{error}"]


def _modes(result: Summarisable) -> list[str]:
    if not len(result.modes):
        return []
    names = result.names
    rows = [
        {
            "mode": i,
            "weight": f"{row['weight']:.4f} +- {row['weight_mcse']:.4f}",
            "found by": f"{row['chains_found']} of {result.chains}",
            "log density": row["log_density"],
            "highest draw"
            if names is None
            else f"highest draw ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})": tuple(row["location"]),
        }
        for i, row in enumerate(result.modes[:SHOWN_MODES])
    ]
    more = len(result.modes) - len(rows)
    tail = (
        [f"  ... and {more} lighter modes, weight {sum(result.modes['weight'][SHOWN_MODES:]):.2g} together"]
        if more
        else []
    )
    return [
        "",
        *_support(result),
        *_symmetries(result),
        f"Modes ({len(result.modes)}):",
        textwrap.indent(str(Table.from_rows(rows)), "  "),
        *tail,
    ]


_FOUND = "found from where the density is -inf"
_SUPPORTS = {
    "box": f"The support is a box, {_FOUND}; it was sampled in log-odds between its bounds.",
    "bounds": f"Coordinates have bounds, {_FOUND}; they were sampled in logarithms of the distances from these, or in log-odds "
    "between two.",
    "polytope": f"The support is a polytope, its faces {_FOUND}; it was sampled in log-ratios of the distances from these.",
    "polyhedron": f"The support has flat faces, {_FOUND}; it was sampled in logarithms of the distances from these, or in "
    "log-ratios.",
}


def _support(result: Summarisable) -> list[str]:
    told = _SUPPORTS.get(result.stages["support"][0]) if "support" in result.stages.columns else None
    return [] if told is None else [*textwrap.wrap(told, 100), ""]


def _symmetries(result: Summarisable) -> list[str]:
    order = result.stages["symmetries"][0] if "symmetries" in result.stages.columns else 1
    if order == 1:
        return []
    told = (
        f"The density is the same under {order} affine maps, as that of exchangeable labels is. One image of each mode was "
        "sampled, and each draw moved by a map drawn uniformly."
    )
    return [*textwrap.wrap(told, 100), ""]


def _stages(result: Summarisable) -> list[str]:
    if not len(result.stages):
        return []
    wanted = ("stage", "reference", "components", "forward", "reverse", "jump", "log_evidence", "gradients", "seconds")
    shown = Table.from_rows(
        [{name: _short(row[name]) for name in wanted if name in row} for row in result.stages[:SHOWN_MODES]]
    )
    return ["", "Stages before the populations:", textwrap.indent(str(shown), "  ")]


def _short(value: object) -> object:
    return ("" if np.isnan(value) else f"{value:.4g}") if isinstance(value, float) else value


def _coordinates(result: Summarisable) -> list[str]:
    found = result.convergence
    if found.reason is not None and np.isnan(found.ess_bulk).all():
        return ["", f"Agreement of populations: not known; {found.reason}"]
    order = np.argsort(-np.nan_to_num(found.rhat, nan=np.inf), kind="stable")
    chosen = sorted(order[:SHOWN_COORDINATES].tolist())
    flat = result.samples.reshape(-1, result.dim).double().cpu()
    rows = [
        {
            "coordinate": result.names[i] if result.names else i,
            "mean": float(flat[:, i].mean()),
            "sd": float(flat[:, i].std()),
            "R-hat": f"{found.rhat[i]:.3f}",
            "ESS bulk": f"{found.ess_bulk[i]:.0f}",
            "ESS tail": f"{found.ess_tail[i]:.0f}",
        }
        for i in chosen
    ]
    chosen_text = "" if len(rows) == result.dim else f", the {len(rows)} worst of {result.dim}"
    if found.reason is None:
        good = rhat_threshold(result.chains, result.draws, result.dim)
        head = f"Agreement of populations (R-hat below {good:.3f} is good{chosen_text}):"
    else:
        head = f"Coordinates ({found.reason}{chosen_text}):"
    return ["", head, textwrap.indent(str(Table.from_rows(rows)), "  ")]


def _problems(result: Summarisable) -> list[str]:
    problems = result.check()
    if not problems:
        return ["", textwrap.fill(f"No problems found. ({unseen(result)})", 100)]
    lines = [textwrap.fill(text, 100, initial_indent="  - ", subsequent_indent="    ") for text in problems]
    return ["", f"Problems ({len(problems)}):", *lines]


def summarise(result: Summarisable) -> str:
    """What ran, what it cost, the modes with their errors, agreement of the populations, and the problems."""
    head = f"{result.sampler}: {result.chains} populations x {result.draws} draws in {result.dim} dimensions"
    seed = "" if result.seed is None else f", seed {result.seed}"
    sections = [_evidence(result), _modes(result), _coordinates(result), _stages(result), _problems(result)]
    return "\n".join([head + seed, _cost(result), *(line for section in sections for line in section)])
