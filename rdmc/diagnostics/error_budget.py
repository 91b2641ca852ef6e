"""Where the error of a reverse diffusion comes from: start, discretisation or score, in nats by noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdmc.diagnostics.inner_rules import GLOBAL_LEVELS, inner_chains_forget
from rdmc.diagnostics.left_by_steps import LeftBySteps
from rdmc.table import Table

__all__ = ["ErrorBudget", "error_budget"]

TERMS = ("start", "discretisation", "score")
_LEFT = tuple(f"left_{term}" for term in TERMS)
_NEEDED = ("start_error", "discretisation", "score", "score_bound", "draw_error", "carried", *_LEFT)
_NEGLIGIBLE = 1e-6  # nats below which no term is worth a change

_MISSED = " But the inner chains had not forgotten where they began: what they missed is in no term."

Columns = Mapping[str, NDArray[np.float64]]


class HasLevels(Protocol):
    """What the budget reads of a result."""

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def config(self) -> str: ...
    @property
    def sampler(self) -> str: ...


@dataclass(frozen=True)
class ErrorBudget:
    """The error of a run by term and noise level, in nats of KL(target || law of the draws).

    Two views of each term. The *sum over levels* is that of the theorem: it bounds the divergence of the whole paths, and so that
    of the draws, often from far above, since later steps forget what earlier ones got wrong. What is *left* is an estimate of the
    divergence of the draws themselves, each term alone, from the errors of their means and covariances, of the whole and within
    modes (:mod:`rdmc.budget.transport`): close on Gaussian targets, to a small factor on mixtures. That of the discretisation is
    measured from the draws where steps are coarse or add no noise (:mod:`rdmc.budget.direct`).

    Attributes:
        table: One row a level, in the order of the run: t, sigma, log_snr, start, discretisation, score and score_bound. NaN
            where a term can't be told; ``notes`` says why. ``score_bound`` is the theorem's own term, in which the error of the
            score is the same whenever x_t is; ``score`` knows that inner draws are new at each level.
        left: What is left of start, discretisation and score in the draws.
        notes: What the numbers are and what they leave out.
        trusted: Whether the inner chains had forgotten where they began, where that is known. If not, what they missed is in no
            term, and the sum is no bound.
        hidden: Nats below which what the discretisation left is too little for the draws to show; NaN where they show it.

    Example:
        >>> import rdmc
        >>> found = rdmc.sample(lambda x: -0.5 * x.square().sum(-1), dim=2, sampler="rdmc", progressbar=False).error_budget()
        >>> found.discretisation, found.tv_bound < 0.5
        (0.0, True)
    """

    table: Table
    left: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    trusted: bool = True
    hidden: float = math.nan

    @property
    def start(self) -> float:
        """KL(p_T || law of the start)."""
        return sum(self.table["start"])

    @property
    def discretisation(self) -> float:
        """What the steps lose with exact posterior means, over all levels."""
        return sum(self.table["discretisation"])

    @property
    def score(self) -> float:
        """What the errors of posterior means and draws add, over all levels."""
        return sum(self.table["score"])

    @property
    def total(self) -> float:
        """The three together, a bound on KL(target || draws); NaN where one can't be told."""
        return self.start + self.discretisation + self.score

    @property
    def tv_bound(self) -> float:
        """Bound on the total variation between target and draws that the total implies.

        The smaller of Pinsker's sqrt(KL / 2) and Bretagnolle and Huber's sqrt(1 - exp(-KL)).
        """
        return math.sqrt(min(0.5 * self.total, -math.expm1(-self.total))) if self.total >= 0.0 else math.nan

    @property
    def by_term(self) -> dict[str, float]:
        """The terms by which they are ranked: what is left of each, or the sums over levels where that is not known."""
        sums = {term: getattr(self, term) for term in TERMS}
        left = dict(zip(TERMS, self.left, strict=True))
        told = all(math.isnan(sums[term]) or not math.isnan(left[term]) for term in TERMS)
        return left if told else sums

    @property
    def largest(self) -> str | None:
        """Name of the largest term that can be told, None where there is none, none matters, or what is hidden may be larger."""
        known = {term: value for term, value in self.by_term.items() if not math.isnan(value)}
        top = max(known, key=lambda term: known[term], default=None)
        least = _NEGLIGIBLE if math.isnan(self.hidden) else max(_NEGLIGIBLE, self.hidden)
        return top if top is not None and known[top] > least else None

    @property
    def sentence(self) -> str:
        """Where most of the error comes from, and what to do about it."""
        terms = self.by_term
        unknown = [term for term in TERMS if math.isnan(terms[term])]
        missing = f" Not known: {' and '.join(unknown)}." if unknown else ""
        if self.largest is None and not math.isnan(self.hidden):
            return (
                f"No term stands out: the discretisation leaves less than about {self.hidden:.1g} nats, too little for these draws "
                f"to show, and no other leaves more.{'' if self.trusted else _MISSED}"
            )
        if self.largest is None:
            return f"No term that can be told exceeds {_NEGLIGIBLE:g} nats.{missing}{'' if self.trusted else _MISSED}"
        name = self.largest
        known = math.fsum(value for value in terms.values() if not math.isnan(value))
        made = np.array(self.table[name])
        told = name != "start" and not np.isnan(made).all()
        where = f", made mostly near sigma = {self.table['sigma'][int(np.nanargmax(made))]:.3g}" if told else ""
        words = {"start": "the start", "discretisation": "the discretisation", "score": "the score"}[name]
        return (
            f"Most of the error comes from {words} ({terms[name]:.2g} nats of {known:.2g}{where}); to reduce it, "
            f"{self._remedy(name)}.{missing}{'' if self.trusted else _MISSED}"
        )

    def _remedy(self, name: str) -> str:
        there = "" if np.isnan(np.array(self.table[name])).all() else " there"
        if name == "start":
            return "lengthen the horizon, or start from a normal matched to a pilot's mixture"
        if name == "discretisation":
            return f"take more levels{there}, or the bridge step, which has none"
        if _SCORE["carried"] in self.notes:
            return "give the inner chains more rounds or steps at the highest levels, where they must forget their beginnings"
        if _SCORE["anew"] in self.notes:
            return "give the inner chains more steps"
        return f"take more inner draws{there}"

    def to_markdown(self) -> str:
        """The table, the totals, the sentence and the notes."""
        shown = Table({name: self.table[name] for name in self.table.columns if name != "t"})
        totals = ", ".join(f"{term} {getattr(self, term):.3g}" for term in TERMS)
        told = [f"{value:.3g}" for value in self.left]
        if not math.isnan(self.hidden):
            told[1] = f"less than {self.hidden:.1g}"
        left = ", ".join(f"{term} {value}" for term, value in zip(TERMS, told, strict=True))
        bound = ", a bound" if self.trusted else ""
        variation = f"; total variation at most {self.tv_bound:.2g}" if self.trusted else ""
        lines = [
            shown.to_markdown(),
            "",
            f"Sum over levels{bound}: {self.total:.3g} nats ({totals}){variation}.",
            f"Left in the draws, an estimate: {left}.",
            "",
            self.sentence,
        ]
        return "\n".join([*lines, *(f"\n- {note}" for note in self.notes)])

    def __str__(self) -> str:
        return self.to_markdown()


def error_budget(result: HasLevels) -> ErrorBudget:
    r"""Estimate the terms of the convergence theorem from what the run recorded.

    Each is a part of

    .. math:: \mathrm{KL}(p_T \,\|\, \text{start}) + \sum_t E\, \mathrm{KL}(\text{exact reverse kernel} \,\|\, \text{step}),

    which bounds KL(target || draws); see :mod:`rdmc.budget.terms` for the formulas. Populations are averaged.

    What no run can tell is not in it: modes that no inner chain visited, and a bias that all inner chains share, such as that of
    an unadjusted kernel. The draws stand for the target, so a run with wrong weights has the budget of a target with these weights.

    Cost: none.

    Raises:
        ValueError: If the result has no error terms by level, since its sampler has no noise levels or an older version made it.

    Source: Chen, Chewi, Li, Li, Salim and Zhang (ICLR 2023), arXiv:2209.11215, theorem 2, for the split into three terms.
    """
    inner = {name: np.asarray(values, dtype=np.float64) for name, values in result.inner.items()}
    missing = [name for name in _NEEDED if name not in inner]
    if missing or not inner["discretisation"].size:
        raise ValueError(
            f"an error budget needs the error terms of each noise level, which this result of {result.sampler!r} does not have "
            f"({', '.join(missing[:3]) or 'it has no levels'}): its sampler is no reverse diffusion, or an older version made it"
        )
    pooled = {name: _mean(values) for name, values in inner.items()}
    noise, drawn, kind = _score(pooled)
    score = noise + drawn
    blank = np.full(len(score), math.nan)
    columns = {name: pooled.get(name, blank) for name in ("t", "sigma", "log_snr")}
    columns |= {
        "start": pooled["start_error"],
        "discretisation": pooled["discretisation"],
        "score": score,
        "score_bound": np.where(np.isinf(pooled["score_bound"]), math.nan, pooled["score_bound"]),
    }
    left = [float(pooled[name].sum()) for name in _LEFT]
    left[2] += float(drawn.sum())
    measured = LeftBySteps.of(inner)
    left[1] = measured.choose(left[1], left[0], left[2])
    hidden = measured.most if math.isnan(left[1]) else math.nan
    # the draws are no farther off than the paths
    left = [min(value, float(columns[term].sum())) for value, term in zip(left, TERMS, strict=True)]
    table = Table({name: values.tolist() for name, values in columns.items()})
    trusted = not inner_chains_forget(result)
    return ErrorBudget(table, (left[0], left[1], left[2]), _notes(result, columns, kind), trusted, hidden)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over populations, leaving out those that did not get so far."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(0)
    count = known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _score(pooled: Columns) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    r"""The score's term by level, of means and of draws, and the kind of note that goes with it.

    Noise that is new at each level widens the steps and no more. If inner chains go on from level to level, neighbours share a
    part c of it: with Delta the noise in units of the step's variance, the term of a level is multiplied by
    :math:`1 + 2 \sum_{j<k} c^2 \Delta_j / \Delta_k`, and is at most Girsanov's :math:`\Delta_k / 2`.
    """
    fresh, bound, carried, draw = (pooled[name].copy() for name in ("score", "score_bound", "carried", "draw_error"))
    fresh[np.isinf(fresh)] = math.nan
    shared = 0.0
    for k in range(1, len(fresh)):
        if carried[k] > 0.0 and bound[k - 1] > 0.0:
            shared = carried[k] ** 2 * (shared + 2.0 * bound[k - 1])
            fresh[k] = min(bound[k], fresh[k] * (1.0 + shared / bound[k])) if bound[k] > 0.0 else fresh[k]
        else:
            shared = 0.0
    goes_on = bool((carried[1:] != 0.0).any())
    if goes_on:  # only what was not forgotten while x_t left the mode open is an error of the draws
        last = min(GLOBAL_LEVELS, len(draw)) - 1
        draw = np.where(np.arange(len(draw)) == last, draw, np.where(np.isnan(draw), draw, 0.0))
    if not (draw > 0.0).any():
        return fresh, draw, "means"
    return fresh, draw, "carried" if goes_on else "weights" if np.isnan(pooled["memory"]).all() else "anew"


_SCORE = {
    "means": "Score: an estimate from the Monte Carlo errors of the means; a bias that all inner chains share is not in it.",
    "weights": "Score: an estimate for draws picked by weight, as if the weights were lognormal.",
    "anew": "Score: an upper bound from how much of their beginnings the inner chains' draws had kept at each level.",
    "carried": (
        "Score: an upper bound from how well the inner chains' draws had forgotten their beginnings by the last level at which "
        "x_t leaves the mode open; later levels keep the law of the pair (x_0, x_t) and add nothing."
    ),
}


def _notes(result: HasLevels, columns: Columns, kind: str) -> tuple[str, ...]:
    config = result.config
    notes = []
    if np.isnan(columns["start"]).any():
        notes.append("Start: not known; it takes more draws than there are coordinates.")
    elif "start_at=MatchedNormal" not in config:
        notes.append("Start: from the first two moments of x_T alone, since its law is not known: a lower bound.")
    untold = np.isnan(columns["discretisation"])
    if untold.any():
        notes.append(
            "Discretisation and score: no sum over levels where a step adds no noise, asks twice or remembers, or the mean is "
            "returned: there is no density to compare, path by path. What steps leave is measured where there are draws enough, "
            "these against those of the first level."
        )
    if (np.isnan(columns["score"]) & ~untold).any():
        notes.append(
            "Score: not known where a single inner draw, or a chain without another beside it, says nothing of its own error."
        )
    else:
        notes.append(_SCORE[kind])
    if "finish='state'" in config:
        notes.append(
            f"The draws are of the target noised at sigma = {_last_sigma(columns):.3g} or below, not of the target: that "
            "difference is not in the sum."
        )
    return tuple(notes)


def _last_sigma(columns: Columns) -> float:
    return float(columns["sigma"][-1])
