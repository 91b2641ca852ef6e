"""Hyperparameters of a Gaussian process for 24 days of weather: quick changes and little noise, or slow changes and much noise?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from targets.base import Target

__all__ = ["TEMPERATURES", "GaussianProcess", "gaussian_process"]

TEMPERATURES = (76, 78, 74, 67, 84, 85, 79, 82, 87, 90, 87, 93, 92, 82, 80, 79, 77, 72, 65, 73, 76, 77, 76, 76)
"""Highest temperature of each day at La Guardia airport, New York, degrees Fahrenheit, 31 May to 23 June 1973.

Source: Chambers et al. (1983), Graphical Methods for Data Analysis; rows 31 to 54 of R's ``airquality``.
"""

_LEAST_NOISE = 1e-4
_SHAPE, _RATE = 2.0, 1.0
_LOG_2PI = math.log(2.0 * math.pi)
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GaussianProcess(Target):
    r"""Posterior of a Gaussian process' length scale, share of noise and variance.

    .. math:: y \sim N(0, v C), \quad C_{ij} = (1 - \phi) e^{-(t_i - t_j)^2 / 2 l^2} + \phi \delta_{ij}, \quad
              \log l \sim N(m, r^2), \quad u \sim N(0, w^2), \quad v \sim \mathrm{InvGamma}(2, 1)

    with the share of noise :math:`\phi = \epsilon + (1 - \epsilon) / (1 + e^{-u})`, :math:`\epsilon = 10^{-4}`, so that C can be
    factorised everywhere. Coordinates: :math:`\log l` (days), u, :math:`\log v` (Jacobian included). All constants are
    included. The modes: 0 is a length scale shorter than the lowest point of its marginal law between the peaks, 1 longer.

    Attributes:
        squares: ``(n, n)`` squares of the distances in time.
        data: ``(n,)`` y, standardised.
        prior: m, r, w.
        edge: Boundary of the two modes, :math:`\log l`.
    """

    squares: Tensor
    data: Tensor
    prior: tuple[float, float, float]
    edge: float

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return ("log_length", "logit_noise", "log_variance")

    def noise_share(self, x: Tensor) -> Tensor:
        r""":math:`\phi`, ``(M,)``, of points ``(M, 3)``."""
        return _LEAST_NOISE + (1.0 - _LEAST_NOISE) * torch.sigmoid(x[:, 1])

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior plus log Jacobian: ``(M, 3) -> (M,)``."""
        _, _, factor = self._factor(x)
        weights = torch.cholesky_solve(self.data[:, None].expand(len(x), -1, 1), factor)[:, :, 0]
        return self._value(x, factor, weights @ self.data)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Log density and gradient.

        .. math:: \partial \ell = \tfrac12 \alpha^T \partial C\, \alpha / v - \tfrac12 tr(C^{-1} \partial C), \; \alpha = C^{-1} y
        """
        signal, scaled, factor = self._factor(x)
        inverse = torch.cholesky_inverse(factor)
        weights = inverse @ self.data
        quadratic = weights @ self.data
        v = x[:, 2].exp()
        slack = weights[:, :, None] * weights[:, None, :] / v[:, None, None] - inverse
        share = self.noise_share(x)
        by_length = 0.5 * (1.0 - share) * (slack * signal * scaled).sum((1, 2))
        rate = (1.0 - _LEAST_NOISE) * torch.sigmoid(x[:, 1]) * torch.sigmoid(-x[:, 1])
        by_noise = 0.5 * rate * (slack.diagonal(dim1=1, dim2=2).sum(1) - (slack * signal).sum((1, 2)))
        by_variance = -0.5 * len(self.data) - _SHAPE + (0.5 * quadratic + _RATE) / v
        m, r, w = self.prior
        by_prior = torch.stack([(x[:, 0] - m) / r**2, x[:, 1] / w**2, torch.zeros_like(v)], dim=1)
        grad = torch.stack([by_length, by_noise, by_variance], dim=1) - by_prior
        return self._value(x, factor, quadratic), grad

    def mode_of(self, x: Tensor) -> Tensor:
        """0 for a short length scale, 1 for a long one: ``(M, 3) -> (M,)``."""
        return (x[:, 0] > self.edge).to(torch.int64)

    def predict(self, x: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noiseless process, ``(M, T)`` each, at times ``(T,)`` in days from the first.

        Args:
            x: ``(M, 3)`` hyperparameters.
            at: ``(T,)`` times.
        """
        _, _, factor = self._factor(x)
        times = torch.arange(len(self.data), dtype=at.dtype, device=at.device)
        share, v = self.noise_share(x)[:, None], x[:, 2:].exp()
        lag = (at[:, None] - times).square() * torch.exp(-2.0 * x[:, 0])[:, None, None]
        cross = (1.0 - share)[:, :, None] * torch.exp(-0.5 * lag)
        solved = torch.cholesky_solve(cross.mT, factor)
        return solved.mT @ self.data, (v * ((1.0 - share) - (cross * solved.mT).sum(2))).clamp_min(0.0).sqrt()

    def _factor(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(M, n, n)`` each: correlations of the signal, squared distances over the squared length, Cholesky factor of C."""
        scaled = self.squares * torch.exp(-2.0 * x[:, 0])[:, None, None]
        signal = torch.exp(-0.5 * scaled)
        share = self.noise_share(x)[:, None, None]
        eye = torch.eye(len(self.data), dtype=x.dtype, device=x.device)
        return signal, scaled, torch.linalg.cholesky_ex((1.0 - share) * signal + share * eye).L

    def _value(self, x: Tensor, factor: Tensor, quadratic: Tensor) -> Tensor:
        m, r, w = self.prior
        log_v, count = x[:, 2], len(self.data)
        log_det = 2.0 * torch.log(factor.diagonal(dim1=1, dim2=2)).sum(1)
        constant = _SHAPE * math.log(_RATE) - math.lgamma(_SHAPE) - math.log(r * w) - (1.0 + 0.5 * count) * _LOG_2PI
        of_prior = -0.5 * ((x[:, 0] - m) / r).square() - 0.5 * (x[:, 1] / w).square()
        of_variance = -(_SHAPE + 0.5 * count) * log_v - (_RATE + 0.5 * quadratic) * torch.exp(-log_v)
        return constant + of_prior + of_variance - 0.5 * log_det


def gaussian_process(length: float = 2.4, length_spread: float = 1.5, noise_spread: float = 3.0) -> GaussianProcess:
    r"""Posterior of the hyperparameters of a Gaussian process for 24 daily temperatures.

    Either the weather changes from day to day and is measured well, or it changes over half a week and every day adds noise.

    Ground truth: v integrates out in closed form; the rest by the trapezoidal rule on 341 x 301 nodes, which is right to
    1e-8 in ``log_z`` (halving either spacing moves it by less).

    Args:
        length: Prior median of the length scale, days.
        length_spread: r, prior standard deviation of its logarithm.
        noise_spread: w.

    Raises:
        ValueError: If an argument isn't positive.

    Source: data as in :data:`TEMPERATURES`; for the two optima see Rasmussen, Williams (2006), Gaussian Processes for Machine
    Learning, figure 5.5.
    """
    if min(length, length_spread, noise_spread) <= 0.0:
        raise ValueError(
            f"`length`, `length_spread`, `noise_spread` must be positive, got {length, length_spread, noise_spread}"
        )
    y = np.asarray(TEMPERATURES, dtype=np.float64)
    y = (y - y.mean()) / y.std()
    times = np.arange(len(y), dtype=np.float64)
    squares = (times[:, None] - times) ** 2
    prior = (math.log(length), length_spread, noise_spread)
    nodes, noise, logs = _grid(squares, y, prior)
    top = float(logs.max())
    mass = np.exp(logs - top)
    marginal = mass.sum(1)
    low = _dip(marginal)
    short = float((marginal[:low].sum() + 0.5 * marginal[low]) / marginal.sum())
    return GaussianProcess(
        name="gaussian_process",
        dim=3,
        source="Chambers et al. (1983), Graphical Methods for Data Analysis (R's airquality)",
        log_z=top + math.log(mass.sum() * (nodes[1] - nodes[0]) * (noise[1] - noise[0])),
        mode_weights=torch.tensor([short, 1.0 - short], dtype=torch.float64),
        squares=torch.from_numpy(squares),
        data=torch.from_numpy(y),
        prior=prior,
        edge=float(nodes[low]),
    )


def _grid(squares: Array, y: Array, prior: tuple[float, float, float]) -> tuple[Array, Array, Array]:
    """Nodes of log length and of u, and the log density on their product, ``(341, 301)``, v integrated out."""
    m, r, w = prior
    lengths, noise = np.linspace(m - 6.0 * r, m + 6.0 * r, 341), np.linspace(-6.0 * w, 6.0 * w, 301)
    share = _LEAST_NOISE + (1.0 - _LEAST_NOISE) / (1.0 + np.exp(-noise))
    values, vectors = np.linalg.eigh(np.exp(-0.5 * squares * np.exp(-2.0 * lengths)[:, None, None]))
    eigenvalues = np.maximum(values, 0.0)[:, None, :] * (1.0 - share)[:, None] + share[:, None]
    quadratic = ((np.swapaxes(vectors, 1, 2) @ y) ** 2)[:, None, :] / eigenvalues
    power = _SHAPE + 0.5 * len(y)
    constant = _SHAPE * math.log(_RATE) - math.lgamma(_SHAPE) + math.lgamma(power) - 0.5 * len(y) * _LOG_2PI
    of_data = constant - 0.5 * np.log(eigenvalues).sum(2) - power * np.log(_RATE + 0.5 * quadratic.sum(2))
    of_prior = -0.5 * (((lengths - m) / r) ** 2)[:, None] - 0.5 * (noise / w) ** 2 - math.log(r * w) - _LOG_2PI
    return lengths, noise, of_data + of_prior


def _dip(density: Array) -> int:
    """Index of the lowest value between the two highest peaks; of the highest, if there is one peak."""
    peaks = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    if len(peaks) < 2:
        return int(density.argmax())
    first, second = sorted(int(i) for i in peaks[np.argsort(density[peaks])[-2:]])
    return first + int(density[first:second].argmin())
