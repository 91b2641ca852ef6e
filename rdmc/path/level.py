"""What one noise level of weighed paths was like."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.inner import Draws
from rdmc.process import ForwardProcess

__all__ = ["PathLevel", "measure_path_level"]


class PathLevel(NamedTuple):
    """What one noise level was like, over all particles of a batch; NaN where not applicable.

    Attributes:
        t: Forward time.
        sigma: Noise scale, in the process's coordinates.
        log_snr: log(alpha^2 / sigma^2).
        inner_ess: Median over particles of the effective number of inner draws.
        acceptance: Of local moves.
        jump_acceptance: Of global moves.
        nonfinite: Number of evaluations that gave NaN or ``+inf``.
        evaluations: Evaluations spent, of the density or of its gradient.
        seconds: Time spent.
    """

    t: float
    sigma: float
    log_snr: float
    inner_ess: float
    acceptance: float
    jump_acceptance: float
    nonfinite: float
    evaluations: float
    seconds: float


def measure_path_level(
    process: ForwardProcess, t: float, draws: Draws | None, nonfinite: Tensor, cost: int, seconds: float
) -> PathLevel:
    """Diagnostics of a level; the only place of the loop where the host waits for the device, once."""
    nan = nonfinite.new_full((), math.nan, dtype=torch.float64)
    numbers = [nonfinite.to(nan.dtype)] + [
        nan if part is None else part.median().to(nan.dtype)
        for part in ((None, None, None) if draws is None else (draws.ess, draws.acceptance, draws.jump_acceptance))
    ]
    if nan.device.type == "meta":  # no values to read
        numbers = [torch.full((), math.nan) for _ in numbers]
    wrong, ess, acceptance, jump = torch.stack(numbers).tolist()
    return PathLevel(t, process.sigma(t), process.log_snr(t), ess, acceptance, jump, wrong * cost, float(cost), seconds)
