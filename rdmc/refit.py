"""A better mixture than the pilot's, from a few particles that went down the reverse diffusion once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.coordinates import InCoordinates
from rdmc.correct.fit import fit_mixture
from rdmc.correct.judge import log_mean_exp
from rdmc.density import Density
from rdmc.inner import GuidedChains
from rdmc.inner.base import require_count
from rdmc.journal import Journal
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.schedule import Fitted
from rdmc.table import Table

__all__ = ["Refit", "Refitted"]

_BETTER = 0.02  # by how much a later candidate must agree better
_WIDER = (2.0, 4.0)  # how many times as wide the components are that are mixed in


class Refitted(NamedTuple):
    """What a refit gave: coordinates with the mixture that was chosen, and how each candidate did."""

    survey: Survey
    tried: Table


@dataclass(frozen=True)
class _Given:
    """A survey that is there already, as a pilot."""

    survey: Survey = field(repr=False)
    starts: int = 1

    def run(self, f: object, rng: Streams) -> Survey:
        """The survey."""
        return self.survey


@dataclass(frozen=True)
class Refit:
    r"""Let particles explore by the reverse diffusion, fit a mixture to where they went, and take it if it is nearer to the target.

    The pilot's mixture knows what is near the optima; inner chains on the way down find curved sets and tails. Candidates are
    the pilot's mixture, a fit to the explorers, and both pooled. The one with the largest affinity to the target decides, as
    its own draws and the explorers together tell it. Unless that is above ``sure``, a share of components twice and four times
    as wide is mixed in, against weights without a bound. Where the mixture that a round began with agreed too little with where
    its explorers went, they may still have been on the way, and another round begins with the better one.

    Cost: for each round ``particles`` times the explorer's cost and some two more, once a run.

    Args:
        particles: Explorers; a third of them only judge.
        explorer: How they go; the pilot's findings take the place of its pilot.
        components: Most components of the fit.
        share: Of the pilot's mixture where both are pooled, in (0, 1).
        rounds: Most rounds.
        goal: Agreement of the mixture before a round, above which it is the last.
        wide: Share of wide components, in [0, 1).
        sure: Squared affinity, 1 where mixture and target agree, above which none are mixed in.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Refit().components
        32
    """

    particles: int = 768
    explorer: RDMC = RDMC(schedule=Fitted(reach=8.0), inner=GuidedChains(rounds=4), pilot=None)
    components: int = 32
    share: float = 0.2
    rounds: int = 5
    goal: float = 0.5
    wide: float = 0.3
    sure: float = 0.98

    def __post_init__(self) -> None:
        for name, least in (("particles", 16), ("components", 1), ("rounds", 1)):
            require_count(name, getattr(self, name), least)
        if not (0.0 < self.share < 1.0 and 0.0 <= self.wide < 1.0):
            raise ValueError(f"`share` must be in (0, 1) and `wide` in [0, 1), got {self.share!r} and {self.wide!r}")

    def run(self, density: Density, survey: Survey, seed: int, key: int) -> Refitted:
        """Explore, fit and choose, as often as it takes.

        Args:
            density: Target.
            survey: What the pilot found.
            seed: Of the run.
            key: Of the streams, apart from every population's.
        """
        rows: list[dict[str, object]] = []
        core = used = survey  # without and with wide components
        for round_ in range(1, self.rounds + 1):
            rng = Streams.seeded(seed, [self.particles], [(key, round_)], dtype=density.dtype, device=density.device)
            z = core.affine.to_white(self._explored(density, used, seed, rng))
            candidates = self._candidates(core.surrogate, survey.seen_in(core.affine).surrogate, z, seed)
            judges = z[-(self.particles // 3) :]
            target = InCoordinates(density, core.affine)
            agreements = {name: float(_agreement(target, g, judges, rng)) for name, g in candidates.items()}
            rows += [
                {
                    "stage": "refit",
                    "round": round_,
                    "name": name,
                    "components": g.components,
                    "agreement": agreements[name],
                }
                for name, g in candidates.items()
            ]
            best = "before"
            for name in candidates:
                best = name if agreements[name] > agreements[best] + _BETTER else best
            if best != "before":
                core = replace(core, surrogate=candidates[best]).whitened()
            used = core if agreements[best] > self.sure else self._widened(core)
            if best == "before" or agreements["before"] > self.goal:
                break
        return Refitted(used, Table({name: [row[name] for row in rows] for name in rows[0]}))

    def _candidates(
        self, before: GaussianMixture, pilot: GaussianMixture, z: Tensor, seed: int
    ) -> dict[str, GaussianMixture]:
        """Mixtures by name, fitted to the explorers that don't judge: a fit would praise itself."""
        fit = fit_mixture(z[: -(self.particles // 3)], self.components, seed)
        both = GaussianMixture.pooled([(self.share, pilot), (1.0 - self.share, fit)])
        return {"before": before, "explorers": fit, "both": both}

    def _widened(self, survey: Survey) -> Survey:
        """With a share of wider components."""
        if self.wide == 0.0:
            return survey
        own = survey.surrogate
        parts = [(1.0 - self.wide, own), *((self.wide / len(_WIDER), own.widened(by)) for by in _WIDER)]
        return replace(survey, surrogate=GaussianMixture.pooled(parts)).whitened()

    def _explored(self, density: Density, survey: Survey, seed: int, rng: Streams) -> Tensor:
        """``(M, d)`` where the explorers ended, in the user's coordinates."""
        explorer = replace(self.explorer, pilot=_Given(survey))
        plan = explorer.prepare(density, seed, Journal(density.counter))
        state = explorer.start(density, plan, rng, self.particles)
        while (progress := explorer.progress(plan, state)).done < progress.total:
            state = explorer.advance(density, plan, state, rng)
        return explorer.collect(density, plan, state).samples[:, 0]


def _agreement(target: InCoordinates, mixture: GaussianMixture, z: Tensor, rng: Streams) -> Tensor:
    r"""``()`` the squared affinity of target and mixture g, seen from draws of g and from ``(M, d)`` explorers.

    .. math:: E_g\bigl[ \sqrt{\pi/g} \bigr] \; E_\pi\bigl[ \sqrt{g/\pi} \bigr] = \Bigl( \int \sqrt{g\, \pi / Z} \Bigr)^2

    The unknown Z cancels, what either side lacks lowers it, and no single point can rule it.
    """
    drawn = mixture.draw(rng)[0]
    ratio = target(drawn) - mixture.log_prob(drawn)
    ratio = torch.where(torch.isnan(ratio) | (ratio == torch.inf), -torch.inf, ratio)
    return (log_mean_exp(0.5 * ratio) + log_mean_exp(0.5 * (mixture.log_prob(z) - target(z)))).exp()
