"""What a step is: one move of the reverse diffusion, x_t to x_s, given what is known about x_0 and given noise.

A step sees the process (alpha, sigma), a denoiser and standard normal noise; it never sees the target, a generator or
the grid. So steps that share the noise can be compared path by path, and a step with the exact denoiser of a Gaussian
is an affine map whose law, and order, are computed without Monte Carlo (``tests/exact/gaussian.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

from torch import Tensor

from rdmc.process import ForwardProcess

__all__ = ["Denoiser", "Estimate", "Memory", "Step"]


class Estimate(NamedTuple):
    """What is known about q_t(x_0 | x_t) at one (x_t, t).

    Attributes:
        mean: ``(B, d)`` posterior mean E[x_0 | x_t].
        score: ``(B, d)`` grad log p_t(x_t). Related to ``mean`` by Tweedie's formula in expectation; an estimator may
            give a better one.
        draw: ``(B, d)`` one draw from q_t(. | x_t).
    """

    mean: Tensor
    score: Tensor
    draw: Tensor


Denoiser: TypeAlias = Callable[[Tensor, float], Estimate]
"""``(x_t (B, d), t) -> Estimate``: all that a step may ask about the target."""


class Memory(NamedTuple):
    """What a multistep method carries from one step to the next; never changed in place.

    Attributes:
        mean: ``(B, d)`` posterior mean at the last time at which it was estimated.
        log_snr: Log signal-to-noise ratio log(alpha^2 / sigma^2) at that time.
    """

    mean: Tensor
    log_snr: float


class Step(Protocol):
    """One move of the reverse diffusion; every implementation is a frozen dataclass that holds its options.

    Attributes:
        order: Weak order of convergence with exact estimates; ``math.inf`` where there is no discretisation error.
        estimates: Calls of the denoiser per step (the cost; nothing else is paid for).
    """

    order: ClassVar[float]
    estimates: ClassVar[int]

    def __call__(
        self,
        process: ForwardProcess,
        denoise: Denoiser,
        x_t: Tensor,
        t: float,
        s: float,
        noise: Tensor,
        memory: Memory | None,
    ) -> tuple[Tensor, Memory | None]:
        """Moves the particles from t to s.

        Args:
            process: Forward process.
            denoise: Estimates of x_0.
            x_t: ``(B, d)`` particles at time t.
            t: Current time.
            s: Next time, 0 <= s < t.
            noise: ``(B, d)`` standard normal; a deterministic step ignores it.
            memory: What the last call of this step returned, None at the first step; a one-step method ignores it.

        Returns:
            ``(B, d)`` particles at time s, and the memory for the next call (None for a one-step method).
        """
        ...
