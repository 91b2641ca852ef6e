r"""A Gaussian target for which everything is known, and the exact law of any sampler step on it.

With pi = N(m, S), p_t = N(alpha m, C_t), C_t = alpha^2 S + sigma^2 I, and

    E[x_0 | x_t] = m + alpha S C_t^-1 (x_t - alpha m),   Cov[x_0 | x_t] = sigma^2 S C_t^-1.

Every step is then affine in (x_t, noise, noise of the draw). :func:`push` sends a basis of all of them down the whole
grid as one batch, reads off the affine map, and returns the law at the end to rounding: no Monte Carlo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rdmc.process import ForwardProcess
from rdmc.steps import Denoiser, Estimate, Memory, Step


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, cov) in d dimensions. Shapes: mean ``(d,)``, cov ``(d, d)``."""

    mean: Tensor
    cov: Tensor

    def marginal(self, process: ForwardProcess, t: float) -> Gaussian:
        """The law p_t of x_t."""
        alpha_t, sigma_t = process.alpha(t), process.sigma(t)
        return Gaussian(
            alpha_t * self.mean, alpha_t**2 * self.cov + sigma_t**2 * torch.eye(len(self.mean)).to(self.cov)
        )

    def denoiser(self, process: ForwardProcess, draw_noise: Tensor | float = 0.0) -> Denoiser:
        """Exact estimates; the draw is mean + L ``draw_noise`` with L the Cholesky factor of Cov[x_0 | x_t]."""

        def denoise(x_t: Tensor, t: float) -> Estimate:
            alpha_t, sigma_t = process.alpha(t), process.sigma(t)
            p_t = self.marginal(process, t)
            precision = torch.linalg.inv(p_t.cov)
            residual = (x_t - p_t.mean) @ precision
            mean = self.mean + alpha_t * residual @ self.cov
            if isinstance(draw_noise, float):
                return Estimate(mean, -residual, mean + draw_noise)
            factor = torch.linalg.cholesky(sigma_t**2 * _symmetric(self.cov @ precision))
            return Estimate(mean, -residual, mean + draw_noise @ factor.T)

        return denoise


def push(
    step: Step, process: ForwardProcess, times: Sequence[float], target: Gaussian, start: Gaussian | None = None
) -> Gaussian:
    """The exact law at ``times[-1]`` of particles moved by ``step`` down ``times``, from ``start``, by default p at ``times[0]``.

    The batch holds d basis vectors of the start, then d basis vectors of each step's noise and of each step's draw
    noise, then zero; less the zero row, the rows at the end are the columns of the affine map.
    """
    d, levels = len(target.mean), len(times) - 1
    rows = d * (1 + 2 * levels) + 1
    basis = torch.eye(rows, dtype=target.mean.dtype)
    columns = [basis[:, k : k + d] for k in range(0, rows - 1, d)]
    x = columns[0]
    memory: Memory | None = None
    for k, (t, s) in enumerate(pairwise(times)):
        denoise = target.denoiser(process, draw_noise=columns[2 + 2 * k])
        x, memory = step(process, denoise, x, t, s, columns[1 + 2 * k], memory)
    offset = x[-1]
    on_start, on_noise = x[:d] - offset, x[d:-1] - offset
    start = start or target.marginal(process, times[0])
    return Gaussian(
        start.mean @ on_start + offset, _symmetric(on_start.T @ start.cov @ on_start + on_noise.T @ on_noise)
    )


def distance(law: Gaussian, truth: Gaussian) -> float:
    """Euclidean norm of the error of all means and covariances."""
    return math.hypot(float((law.mean - truth.mean).norm()), float((law.cov - truth.cov).norm()))


def measured_order(errors: Sequence[float]) -> float:
    """log2 of the error ratio at the last doubling of the number of steps."""
    return math.log2(errors[-2] / errors[-1])


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)
