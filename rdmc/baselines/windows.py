"""Stan's window adaptation, step by step on the host, from BlackJAX's parts.

``blackjax.window_adaptation`` does the same in one compiled call, which can neither be stopped at a budget nor shown in a progress
bar, and compiles the sampler a second time. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdmc.baselines.foreign import require
from rdmc.baselines.jax_bridge import Jax

__all__ = ["Windows", "WindowsState"]


class WindowsState(NamedTuple):
    """Of every chain: dual averaging, Welford's moments, and the parameters that the next step uses.

    Attributes:
        averaging: State of the dual averaging.
        moments: State of the mass matrix adaptation; it holds the present inverse mass matrix.
        step_size: ``(B,)``.
    """

    averaging: Any
    moments: Any
    step_size: Any

    @property
    def metric(self) -> Any:
        """``(B, d)`` inverse mass matrices."""
        return self.moments.inverse_mass_matrix


class Windows(NamedTuple):
    """The adaptation, compiled.

    Attributes:
        init: ``(B, d)`` positions to a state.
        update: ``(state, positions, acceptance, slow, closes)`` to a state; the last two are Python booleans from the schedule.
        final: State to step sizes ``(B,)``.
    """

    init: Callable[[Any], WindowsState]
    update: Callable[[WindowsState, Any, Any, bool, bool], WindowsState]
    final: Callable[[WindowsState], Any]

    @classmethod
    def of(cls, runtime: Jax, target_acceptance: float) -> Windows:
        """Dual averaging and a diagonal metric, as in Stan.

        Raises:
            ImportError: If BlackJAX is missing, naming the extra.
        """
        jax = runtime.jax
        start, average, settle = require("blackjax.adaptation.step_size", "nuts").dual_averaging_adaptation(
            target_acceptance
        )
        begin, accumulate, close = require("blackjax.adaptation.mass_matrix", "nuts").mass_matrix_adaptation(True)

        def init(positions: Any) -> WindowsState:
            def one(position: Any) -> WindowsState:
                return WindowsState(start(1.0), begin(position.shape[0]), jax.numpy.ones((), runtime.numpy_dtype))

            state: WindowsState = jax.vmap(one)(positions)
            return state

        def update(state: WindowsState, positions: Any, acceptance: Any, slow: bool, closes: bool) -> WindowsState:
            def one(state: WindowsState, position: Any, rate: Any) -> WindowsState:
                moments = accumulate(state.moments, position) if slow else state.moments
                averaging = average(state.averaging, rate)
                if closes:
                    moments, averaging = close(moments), start(settle(averaging))
                return WindowsState(averaging, moments, jax.numpy.exp(averaging.log_step_size))

            after: WindowsState = jax.vmap(one)(state, positions, acceptance)
            return after

        def final(state: WindowsState) -> Any:
            return jax.vmap(settle)(state.averaging)

        return cls(jax.jit(init), jax.jit(update, static_argnums=(3, 4)), jax.jit(final))

    @staticmethod
    def schedule(steps: int) -> NDArray[np.bool_]:
        """``(steps, 2)``: whether the metric learns at a step, and whether a window closes there."""
        build = require("blackjax.adaptation.window_adaptation", "nuts").build_schedule
        return np.asarray(build(steps)).astype(bool)
