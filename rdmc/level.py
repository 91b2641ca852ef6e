"""What one noise level of a reverse diffusion was like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.budget.terms import Errors
from rdmc.errors import NonFiniteDensityError
from rdmc.inner.base import Draws
from rdmc.process import ForwardProcess
from rdmc.score import ScoreEstimate

__all__ = ["NONFINITE_LIMIT", "Level", "level_columns", "measure_level", "require_finite"]

NONFINITE_LIMIT = 0.2
"""Share of a level's evaluations that may be no numbers before a run is refused."""


class Level(NamedTuple):
    """What one noise level was like, over all particles of a batch.

    Attributes:
        t: Forward time.
        sigma: Noise scale, in the process's coordinates.
        log_snr: log(alpha^2 / sigma^2).
        rhat: R-hat of the inner chains' ends with respect to their beginnings at this level.
        memory: Share of the spread between inner chains that is left since they last began afresh: the product of
            1 - 1 / rhat^2 over the levels since. Near 0 the chains have forgotten where they began. The level of a cold
            start itself does not count: points thrown far off are forgotten for the nearest mode and not for the law.
        ess: Median over particles of the effective number of inner draws.
        mcse: Root mean square Monte Carlo error of the posterior mean.
        acceptance: Of local moves.
        jump_acceptance: Of global moves.
        nonfinite: Number of evaluations that gave NaN or ``+inf``.
        evaluations: Gradient evaluations spent.
        seconds: Time spent.
        discretisation: Error of the step to the next level with the exact posterior mean, in nats
            (:func:`rdmc.budget.terms.error_terms`); NaN where the step has none that can be told, here and below.
        score: What the noise of the posterior mean adds in this step, if it is new at each level.
        score_bound: The same if it were the same at all levels.
        draw_error: Where the step uses a draw from q_t, how far its law may be from q_t, else 0. Of chains it is
            -log(1 - memory): an upper bound if a chain has forgotten where it began with probability 1 - memory.
        carried: Share of the inner chains' deviations that comes from the level before; 0 where they began afresh.
    """

    t: float
    sigma: float
    log_snr: float
    rhat: float
    memory: float
    ess: float
    mcse: float
    acceptance: float
    jump_acceptance: float
    nonfinite: float
    evaluations: float
    seconds: float
    discretisation: float = math.nan
    score: float = math.nan
    score_bound: float = math.nan
    draw_error: float = math.nan
    carried: float = math.nan


def measure_level(
    process: ForwardProcess,
    t: float,
    draws: Draws,
    score: ScoreEstimate,
    memory: float,
    cost: float,
    seconds: float,
    errors: Errors | None = None,
) -> Level:
    """Diagnostics of a level; the only place of the loop where the host waits for the device, once.

    Args:
        process: Forward process.
        t: Time of the level.
        draws: What the inner sampler gave.
        score: What the estimator made of it.
        memory: That of the level before, 1 where the inner chains began afresh.
        cost: Gradient evaluations spent.
        seconds: Time spent.
        errors: The terms of the step, None where nobody measured them.
    """
    nan = draws.x_0.new_full((), math.nan)
    numbers = [
        *(errors if errors is not None else (nan, nan, nan, nan)),
        draws.rhat if draws.rhat is not None else nan,
        score.ess.median(),
        score.mcse.square().mean().sqrt(),
        draws.acceptance.mean() if draws.acceptance is not None else nan,
        draws.jump_acceptance.mean() if draws.jump_acceptance is not None else nan,
        draws.nonfinite,
    ]
    if draws.x_0.device.type == "meta":  # no values to read
        numbers = [torch.full((), math.nan) for _ in numbers]
    discretisation, noise, bound, draw, rhat, ess, mcse, acceptance, jump, wrong = torch.stack(numbers).tolist()
    kept = 1.0 - 1.0 / rhat**2
    memory *= kept
    if errors is not None and math.isnan(draw) and draws.chains:
        draw = -math.log1p(-memory) if memory < 1.0 else memory * math.inf
    return Level(
        t=t,
        sigma=process.sigma(t),
        log_snr=process.log_snr(t),
        rhat=rhat,
        memory=memory,
        ess=ess,
        mcse=mcse,
        acceptance=acceptance,
        jump_acceptance=jump,
        nonfinite=wrong * cost,
        evaluations=cost,
        seconds=seconds,
        discretisation=discretisation,
        score=noise,
        score_bound=bound,
        draw_error=draw,
        carried=kept if draws.continued else 0.0,
    )


def level_columns(levels: Sequence[Level]) -> dict[str, NDArray[np.float64]]:
    """The levels by field, each ``(levels,)``: the ``inner`` of a :class:`rdmc.sampler.Block`."""
    columns = np.array(levels, dtype=np.float64).reshape(len(levels), len(Level._fields)).T
    return dict(zip(Level._fields, columns, strict=True))


class Evaluated(Protocol):
    """What is known of a level's evaluations."""

    @property
    def t(self) -> float:
        """Forward time."""
        ...

    @property
    def sigma(self) -> float:
        """Noise scale."""
        ...

    @property
    def nonfinite(self) -> float:
        """Number of evaluations that gave NaN or ``+inf``."""
        ...

    @property
    def evaluations(self) -> float:
        """Evaluations spent."""
        ...


def require_finite(level: Evaluated, points: Tensor, name: str = "log_density") -> None:
    """Refuse a level with too many evaluations that are not numbers.

    Args:
        level: What it was like.
        points: ``(m, d)`` some particles in the user's coordinates, for the exception.
        name: Whose evaluations they are.

    Raises:
        NonFiniteDensityError: If they are more than a fifth.
    """
    wrong = level.nonfinite / max(1.0, level.evaluations)
    if wrong > NONFINITE_LIMIT:
        raise NonFiniteDensityError(
            f"`{name}` gave NaN or +inf at {wrong:.0%} of the evaluations at noise level sigma = {level.sigma:.3g} "
            f"(limit {NONFINITE_LIMIT:.0%}); return -inf outside the support",
            t=level.t,
            points=points,
        )
