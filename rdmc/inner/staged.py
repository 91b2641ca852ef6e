"""An inner sampler for each range of the log signal-to-noise ratio."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from rdmc.inner.base import Draws, InnerSampler, Warm
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams

__all__ = ["Staged"]


@dataclass(frozen=True)
class Staged:
    """Choose the inner sampler by the noise level: an effort that follows the difficulty.

    Mode weights are decided at low log-SNR, where q is about pi and only a global sampler helps; in the middle x_t
    already fixes the mode and local chains do; near the data importance sampling is nearly free. The log-SNR is
    log(alpha^2 / sigma^2).

    Warm starts pass from stage to stage: positions, values and gradients as they are, in the number of chains that the
    stage runs; a kernel's tuning only within the stage that made it, since what it means is the kernel's own.
    Cost: that of the stage in charge.

    Args:
        stages: ``(from, sampler)`` pairs with increasing ``from``: a sampler is in charge from that log-SNR up to the
            next pair's. The first is in charge below its own ``from`` too.

    Raises:
        ValueError: If there is no stage, or the thresholds are not increasing numbers.

    Example:
        >>> from rdmc.inner import Chains, Importance
        >>> Staged(((-math.inf, Importance(512)), (-2.0, Chains()), (5.0, Importance(32)))).at(0.0)
        1
    """

    stages: tuple[tuple[float, InnerSampler], ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("`stages` must have at least one (log_snr, sampler) pair, got none")
        levels = [level for level, _ in self.stages]
        if any(math.isnan(level) for level in levels) or any(b <= a for a, b in itertools.pairwise(levels)):
            raise ValueError(f"`stages` must have increasing log-SNR thresholds, got {levels}")

    def at(self, log_snr: float) -> int:
        """Which stage is in charge."""
        return max(0, sum(level <= log_snr for level, _ in self.stages) - 1)

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        """Draw with the stage in charge at this noise level."""
        stage = self.at(2.0 * math.log(q.alpha / q.sigma))
        if start is not None and start.stage is not None and start.stage != stage:
            start = start._replace(tuning=None)
        drawn = self.stages[stage][1].draw(q, rng, start)
        return replace(drawn, warm=drawn.warm._replace(stage=stage))
