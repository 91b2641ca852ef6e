"""From a trial to the next reference: fits, and fits to the better draws of the fits, while these find more."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rdmc.correct.candidates import fitted
from rdmc.correct.judge import Judgement, log_mean_exp
from rdmc.correct.reference import Law, Reference
from rdmc.correct.temper import Population, Trial, log_ratio, next_beta
from rdmc.locate.survey import Survey
from rdmc.particles import systematic
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["improved", "nearer"]

_TIMES = 4  # fits to draws of fits
_SERVES = 0.1  # promised score above which a trial will tell more than draws without moves
_KEEP = 0.3  # effective share of the draws that resampling keeps
_MORE = 0.2  # nats of evidence beyond the trial's, from which the draws have found what its population lacks


def improved(
    target: BatchedDensity, survey: Survey, former: Reference, trial: Trial, rng: Streams
) -> tuple[Reference, Judgement]:
    """The best fit to a trial's population, and while that promises little, to half of it and half of the fit's own draws.

    Local moves hardly take a population out of where its reference was. Draws of a fit lie beyond, and their weights tell which
    of them the target would have. It goes on while they see more evidence than the trial, or the fit gets better.

    Law: none; a reference decides the efficiency of what follows and not its law.
    Cost: that of up to five fits (:func:`rdmc.correct.candidates.fitted`), and for each but the first one density evaluation a
    particle of ``rng``.

    Source: Cappé et al. (2004), J. Comput. Graph. Statist. 13(4), 907-929 (population Monte Carlo); Koblents and Míguez (2015),
    Stat. Comput. 25, 407-425 (tempered weights).
    """
    reference, promise = fitted(target, survey, former, trial, rng)
    x, value, grad, _ = trial.population
    for _ in range(_TIMES):
        if promise.score >= _SERVES:
            break
        drawn, height, evidence = nearer(target, reference.law, rng)
        if len(drawn) == 0:
            break
        x, value = torch.cat([x[::2], drawn[::2]]), torch.cat([value[::2], height[::2]])
        grad = torch.cat([grad[::2], torch.full_like(drawn[::2], torch.nan)])
        more = evidence > trial.log_evidence + _MORE
        unmoved = Population(x, value, grad, torch.arange(len(x), device=x.device))
        seen = replace(trial, population=unmoved, log_evidence=max(evidence, trial.log_evidence))
        following, judged = fitted(target, survey, former, seen, rng)
        if not more and judged.score <= promise.score:
            break
        reference, promise = following, judged
    return reference, promise


def nearer(target: BatchedDensity, law: Law, rng: Streams) -> tuple[Tensor, Tensor, float]:
    r"""Draws of g resampled to :math:`g^{1-\beta} \pi^\beta`, at the largest beta that keeps .3 of them; not moved.

    Cost: one density evaluation a particle.

    Returns:
        ``(N, d)`` points, ``(N,)`` log pi there, and what the draws say of the log evidence, ``-inf`` if pi is 0 at all.
    """
    x, _ = law.draw(rng)
    value = target(x)
    ratio = log_ratio(x, value, law)
    evidence = float(log_mean_exp(ratio))
    if evidence == -torch.inf:
        return x[:0], value[:0], evidence
    log_weight = next_beta(ratio, 0.0, _KEEP) * ratio
    chosen = systematic(log_weight[None], rng.uniform(ratio.shape)[None, :1])[0]
    return x[chosen], value[chosen], evidence
