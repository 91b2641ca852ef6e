r"""What is wrong with a run, in words and with the next thing to try: small rules, each a function of a result.

A rule that cries wolf is worse than none, so every statistical rule has a threshold with a stated false-alarm rate:
for exact independent draws, over all rules together, fewer than one run in a hundred has anything to report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rdmc.diagnostics.convergence import Convergence, rhat_threshold
from rdmc.diagnostics.inner_rules import acceptance_in_range, inner_chains_forget
from rdmc.diagnostics.path_rules import evidence_known, paths_even
from rdmc.diagnostics.stage_rules import STAGE_RULES
from rdmc.table import Table

__all__ = ["PAGE", "RULES", "ResultLike", "Rule", "check", "findings"]

FALSE_ALARM = 1e-3
"""Chance that one statistical rule speaks about exact independent draws."""
_FEW_UNDEFINED = 5e-4  # of all evaluations, so few that what they hide can't be seen in the draws


class ResultLike(Protocol):
    """What the rules read of a result."""

    @property
    def samples(self) -> Tensor:
        """``(chains, draws, d)``."""
        ...

    @property
    def log_density(self) -> Tensor:
        """``(chains, draws)``."""
        ...

    @property
    def log_evidence(self) -> float | None:
        """Log of the normalising constant, if it is estimated."""
        ...

    @property
    def log_evidence_mcse(self) -> float | None:
        """Its standard error."""
        ...

    @property
    def modes(self) -> Table:
        """The mode table, possibly empty."""
        ...

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]:
        """``(chains, levels)`` per noise level."""
        ...

    @property
    def stages(self) -> Table:
        """What was tried before the populations ran, possibly nothing."""
        ...

    @property
    def gradient_evaluations(self) -> int:
        """All gradient evaluations of the run."""
        ...

    @property
    def density_evaluations(self) -> int:
        """All density evaluations of the run."""
        ...

    @property
    def partial(self) -> bool:
        """Whether the run was interrupted."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the coordinates."""
        ...

    @property
    def convergence(self) -> Convergence:
        """R-hat and ESS of the samples."""
        ...


Rule: TypeAlias = Callable[[ResultLike], list[str]]


def _coordinate(result: ResultLike, index: int) -> str:
    return f"`{result.names[index]}`" if result.names else f"coordinate {index}"


def interrupted(result: ResultLike) -> list[str]:
    """A run that was stopped."""
    if not result.partial:
        return []
    return ["The run was interrupted: these are the draws of an unfinished run, not of the target. Run it to the end."]


def finite_samples(result: ResultLike) -> list[str]:
    """Samples that are NaN or infinite."""
    bad = int((~result.samples.isfinite()).any(-1).sum())
    if not bad:
        return []
    total = result.samples.shape[0] * result.samples.shape[1]
    return [
        f"{bad} of {total} draws hold NaN or infinite values. Check that `log_density` is finite or -inf "
        "everywhere, never NaN."
    ]


def inside_support(result: ResultLike) -> list[str]:
    """Draws at which the density is 0."""
    outside = int((result.log_density == -math.inf).sum())
    if not outside:
        return []
    return [
        f"{outside} of {result.log_density.numel()} draws lie outside the support: their chains began there and never "
        "found the way in. Transform constrained parameters to the whole space, or raise the budget."
    ]


def defined_at_draws(result: ResultLike) -> list[str]:
    """Draws at which the density is NaN or +inf: a sampler that accepts or rejects nothing may end there."""
    wrong = result.log_density.isnan() | (result.log_density == math.inf)
    undefined = int((wrong & result.samples.isfinite().all(-1)).sum())
    if not undefined:
        return []
    return [
        f"`log_density` is NaN or +inf at {undefined} of {result.log_density.numel()} draws, which can't be draws of the target. "
        "Make it -inf outside the support and numerically safe inside, or use a sampler with an accept step."
    ]


def nonfinite_evaluations(result: ResultLike) -> list[str]:
    """Evaluations that gave NaN or +inf, unless so few that they can't matter."""
    bad = float(np.nansum(result.inner["nonfinite"])) if "nonfinite" in result.inner else 0.0
    total = float(np.nansum(result.inner["evaluations"])) if "evaluations" in result.inner else 0.0
    total = max(total or float(result.gradient_evaluations + result.density_evaluations), bad)
    if bad <= _FEW_UNDEFINED * total:
        return []
    return [
        f"`log_density` gave NaN or +inf at {bad:.0f} evaluations ({bad / total:.2g} of all); they were rejected, which biases the "
        "draws if the density has mass there. Make it -inf outside the support and numerically safe inside."
    ]


def populations_agree(result: ResultLike) -> list[str]:
    """R-hat between populations above what independent draws show."""
    found = result.convergence
    chains, draws, dim = result.samples.shape
    if found.reason is not None:
        advice = ", so agreement between populations cannot be judged. Use `chains=4` and more draws."
        return [found.reason[0].upper() + found.reason[1:] + advice]
    messages = []
    constant = np.flatnonzero(np.isnan(found.rhat))
    if constant.size:
        messages.append(
            f"{_coordinate(result, int(constant[0]))} has the same value in every draw"
            f"{f' (and {constant.size - 1} more)' if constant.size > 1 else ''}. Check that the sampler moves at all."
        )
    threshold = rhat_threshold(chains, draws, dim, FALSE_ALARM)
    worst = found.worst_coordinate
    if worst is not None and found.rhat[worst] > threshold:
        messages.append(
            f"The {chains} populations disagree: R-hat is {found.rhat[worst]:.3f} at "
            f"{_coordinate(result, worst)}, above {threshold:.3f}. Do not pool them; compare the mode weights of the populations "
            "and raise the budget."
        )
    return messages


def enough_draws(result: ResultLike) -> list[str]:
    """Effective sample size below 100 per population, or below a fifth of the draws where there are fewer than 500.

    The estimate for few draws is noisy; a fifth was never undercut by independent ones (20 to 1000 draws, 900 runs).
    """
    ess = result.convergence.worst_ess
    chains, draws, _ = result.samples.shape
    wanted = chains * min(100.0, draws / 5)
    if not ess < wanted:
        return []
    return [
        f"Only {ess:.0f} effective draws in all ({chains * draws} draws), {wanted:.0f} wanted: quantiles and errors are "
        "unreliable. Ask for more draws, or use a sampler that mixes better."
    ]


def _counts(result: ResultLike) -> NDArray[np.float64] | None:
    """``(chains, K)`` draws of each population in each mode, if the table says so and there is something to compare."""
    chains, draws, _ = result.samples.shape
    if "weight_by_chain" not in result.modes.columns or chains < 2 or len(result.modes) == 0:
        return None
    return np.rint(np.array(result.modes["weight_by_chain"], dtype=np.float64).T * draws)


def modes_found_by_all(result: ResultLike) -> list[str]:
    r"""Modes that some populations missed although they hold too many draws for that to be chance.

    Given that c draws fell into a mode, independent populations of equal size leave all but j of C empty with
    probability at most :math:`\binom{C}{j} (j / C)^c`.
    """
    counts = _counts(result)
    if counts is None:
        return []
    chains, modes = counts.shape
    missed = []
    for k in range(modes):
        found, total = int((counts[:, k] > 0).sum()), float(counts[:, k].sum())
        if 0 < found < chains and math.comb(chains, found) * (found / chains) ** total * modes < FALSE_ALARM:
            missed.append(f"mode {k} (weight {result.modes[k]['weight']:.2g}) was found by only {found} of {chains}")
    if not missed:
        return []
    more = f", and {len(missed) - 4} more modes" if len(missed) > 4 else ""
    return [
        f"Some populations missed modes: {', '.join(missed[:4])}{more}. There may be modes that none found. "
        "Raise the budget, and compare another seed."
    ]


def weights_agree(result: ResultLike) -> list[str]:
    """Mode weights that differ between populations more than independent draws would, by a chi-square test.

    Modes with fewer than 5 expected draws per population are pooled. Independence is asked for only up to a factor of
    four in the
    variance: populations of a resampled or autocorrelated sampler that vary somewhat more are told by ``weight_mcse``.
    """
    counts = _counts(result)
    if counts is None:
        return []
    chains, draws, _ = result.samples.shape
    common = counts.mean(0) >= 5
    rest = draws - counts[:, common].sum(1)
    table = np.column_stack([counts[:, common], rest])
    table = table[:, table.mean(0) >= 5]
    if table.shape[1] < 2:
        return []
    from scipy.stats import chi2

    expected = table.mean(0)
    statistic = float(((table - expected) ** 2 / expected).sum())
    freedom = (chains - 1) * (table.shape[1] - 1)
    if chi2.sf(statistic, freedom) >= FALSE_ALARM or statistic < 4 * freedom:
        return []
    deviation = (table - expected) / np.sqrt(expected)
    worst = int(np.abs(deviation).max(0).argmax())
    share = table[:, worst] / draws
    kept = np.flatnonzero(common)
    name = f"mode {kept[worst]}" if worst < kept.size else "the rare modes together"
    return [
        f"Mode weights differ between populations {math.sqrt(statistic / freedom):.1f} times as much as independent draws would: "
        f"{name} holds between {share.min():.2g} and {share.max():.2g}. The weights are not settled; raise the budget."
    ]


RULES: tuple[Rule, ...] = (
    interrupted,
    finite_samples,
    inside_support,
    defined_at_draws,
    nonfinite_evaluations,
    populations_agree,
    enough_draws,
    modes_found_by_all,
    weights_agree,
    inner_chains_forget,
    acceptance_in_range,
    *STAGE_RULES,
    evidence_known,
    paths_even,
)
"""All rules, gravest first."""


PAGE = "docs/diagnostics.md"
"""The page of the documentation with a section for each rule: what the texts mean and what to do."""


def findings(result: ResultLike) -> list[tuple[str, str]]:
    """Problems of a result, each with the name of its rule, which is also that of its section on :data:`PAGE`."""
    return [(rule.__name__, message) for rule in RULES for message in rule(result)]


def check(result: ResultLike) -> list[str]:
    """Problems of a result in words, each with what to do next; empty if none is known.

    No rule can see a mode that every population missed.
    """
    return [message for _, message in findings(result)]
