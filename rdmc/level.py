"""What one noise level of a reverse diffusion was like."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from rdmc.inner.base import Draws
from rdmc.process import ForwardProcess
from rdmc.score import ScoreEstimate

__all__ = ["Level", "measure_level"]


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


def measure_level(
    process: ForwardProcess, t: float, draws: Draws, score: ScoreEstimate, memory: float, cost: float, seconds: float
) -> Level:
    """Diagnostics of a level; the only place of the loop where the host waits for the device, once."""
    nan = draws.x_0.new_full((), math.nan)
    numbers = [
        draws.rhat if draws.rhat is not None else nan,
        score.ess.median(),
        score.mcse.square().mean().sqrt(),
        draws.acceptance.mean() if draws.acceptance is not None else nan,
        draws.jump_acceptance.mean() if draws.jump_acceptance is not None else nan,
        draws.nonfinite,
    ]
    if draws.x_0.device.type == "meta":  # no values to read
        numbers = [torch.full((), math.nan) for _ in numbers]
    rhat, ess, mcse, acceptance, jump, wrong = torch.stack(numbers).tolist()
    memory *= 1.0 - 1.0 / rhat**2
    log_snr = process.log_snr(t)
    return Level(t, process.sigma(t), log_snr, rhat, memory, ess, mcse, acceptance, jump, wrong * cost, cost, seconds)
