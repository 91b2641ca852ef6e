"""BlackJAX's way of calling, for torch: ``init`` and ``step`` of this package's kernels, for people who write their own loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.kernels import Info, Isotropic, Kernel, Metric, State
from rdmc.rng import Streams
from rdmc.typing import LogDensity

__all__ = ["SamplingAlgorithm", "algorithm"]


class SamplingAlgorithm(NamedTuple):
    """A pair of functions, as in BlackJAX.

    Attributes:
        init: ``(B, d)`` positions to a state.
        step: A generator and a state to the next state and what the transition was like.
    """

    init: Callable[[Tensor], State]
    step: Callable[[torch.Generator, State], tuple[State, Info]]


def algorithm(
    kernel: Kernel,
    log_density: LogDensity | Density,
    *,
    metric: Metric | None = None,
    tuning: Tensor | float | None = None,
) -> SamplingAlgorithm:
    """A kernel on a log density, as ``init(position)`` and ``step(generator, state)``.

    Law: that of the kernel: MALA and HMC leave the density invariant. Nothing adapts; to adapt, keep the ``tuning``, change it by
    ``kernel.adapt(tuning, info, gain)`` and make the algorithm anew, which costs nothing.

    Args:
        kernel: ``rdmc.kernels.MALA()``, ``HMC()``, ``ULA()`` and others.
        log_density: ``(M, d) -> (M,)``, or a :class:`rdmc.Density`, which counts.
        metric: Preconditioner; none by default.
        tuning: Logarithm of the step size, a number or one per chain ``(B,)``; by default the kernel's ``step_size``, scaled down
            with dimension as the kernel does.

    Raises:
        ValueError: By ``init``, if positions are not ``(B, d)``.

    Example:
        >>> from rdmc.kernels import MALA
        >>> mala = algorithm(MALA(step_size=0.5), lambda x: -0.5 * x.square().sum(-1))
        >>> state, generator = mala.init(torch.zeros(8, 2)), torch.Generator().manual_seed(0)
        >>> for _ in range(10):
        ...     state, info = mala.step(generator, state)
        >>> state.x.shape, info.acceptance.shape
        (torch.Size([8, 2]), torch.Size([8]))

    Source: the interface is that of BlackJAX (Cabezas et al. 2024, arXiv:2402.10797).
    """
    own = metric if metric is not None else Isotropic()

    def target(x: Tensor) -> Density:
        if isinstance(log_density, Density):
            return log_density
        return Density(log_density, x.shape[-1], dtype=x.dtype, device=x.device)

    def init(position: Tensor) -> State:
        if position.ndim != 2:
            raise ValueError(
                f"`position` must be (B, d), one row per chain (x[None] for one chain), got {tuple(position.shape)}"
            )
        return kernel.init(target(position), position)

    def step(generator: torch.Generator, state: State) -> tuple[State, Info]:
        rng = Streams((generator,), (state.x.shape[-2],), state.x.dtype, state.x.device)
        if tuning is None:
            chosen = kernel.tuning(state, rng)
        else:
            chosen = torch.as_tensor(tuning, dtype=state.x.dtype, device=state.x.device).expand(state.value.shape)
        return kernel.step(target(state.x), state, rng, chosen, own)

    return SamplingAlgorithm(init, step)
