"""BlackJAX on the same densities, written in ``jax.numpy`` and checked to be the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from targets.base import Target
from targets.mixture import GaussianMixture
from targets.regression import LogisticRegression

__all__ = ["blackjax_side"]


def in_jax(target: Target) -> Callable[[Any], Any]:
    """The same log density at one point, in ``jax.numpy``."""
    import jax
    import jax.numpy as jnp

    if isinstance(target, GaussianMixture):
        whitening, offsets, heights = (
            jnp.asarray(part.numpy()) for part in (target.whitening, target.offsets, target.log_heights)
        )
        shape = tuple(target.means.shape)

        def mixture(x: Any) -> Any:
            z = (whitening @ x - offsets).reshape(shape)
            return jax.scipy.special.logsumexp(heights - 0.5 * jnp.square(z).sum(-1))

        return mixture
    if isinstance(target, LogisticRegression):
        design, sds = jnp.asarray(target.signed_design.numpy()), jnp.asarray(target.prior_sds.numpy())
        constant = jnp.log(sds).sum() + 0.5 * target.dim * math.log(2.0 * math.pi)

        def regression(x: Any) -> Any:
            return jax.nn.log_sigmoid(design @ x).sum() - 0.5 * jnp.square(x / sds).sum() - constant

        return regression
    raise ValueError(f"`target` must be a mixture or a regression, got {target!r}")


def check_same(target: Target, function: Callable[[Any], Any], x: Tensor) -> None:
    """Refuse to compare densities that differ."""
    import jax

    value, grad = target.value_and_grad(x)
    other, slope = jax.jit(jax.vmap(jax.value_and_grad(function)))(jax.numpy.asarray(x.numpy()))
    for name, a, b in (("value", value, other), ("gradient", grad, slope)):
        off = float((a - torch.tensor(b.tolist(), dtype=a.dtype)).abs().max()) / max(1.0, float(a.abs().max()))
        if off > 1e-10:
            raise ArithmeticError(f"{name} of {target.name} differs in JAX by {off:.1e}, wanted 1e-10")


def blackjax_side(
    target: Target, kernel: str, step_size: float, leapfrogs: int, x: Tensor, steps: int
) -> Callable[[], float]:
    """BlackJAX's kernel, mapped over the chains."""
    import blackjax
    import jax

    function = in_jax(target)
    check_same(target, function, x[:50])
    if kernel == "mala":
        algorithm = blackjax.mala(function, step_size)
    else:
        algorithm = blackjax.hmc(function, step_size, jax.numpy.ones(target.dim), num_integration_steps=leapfrogs)
    state = jax.jit(jax.vmap(algorithm.init))(jax.numpy.asarray(x.numpy()))

    @jax.jit
    def run(key: Any, state: Any) -> Any:
        def transition(state: Any, key: Any) -> Any:
            state, info = jax.vmap(algorithm.step)(jax.random.split(key, len(x)), state)
            return state, info.acceptance_rate.mean()

        return jax.lax.scan(transition, state, jax.random.split(key, steps))

    return lambda: float(jax.block_until_ready(run(jax.random.key(0), state))[1][-1])
