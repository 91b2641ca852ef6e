"""A planet's period from a few nights of radial velocities: aliases, each a narrow mode, solved by a one-dimensional integral."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from targets.base import Target
from targets.draws import normal, uniform
from targets.line import Array, Line

__all__ = ["NIGHTS", "RadialVelocities", "radial_velocities"]

NIGHTS: tuple[tuple[float, float], ...] = (
    (56451.8434, -33146.4),
    (56468.8787, -33135.6),
    (56506.8289, -33145.6),
    (56508.8356, -33150.4),
    (56540.6837, -33143.5),
    (56544.6388, -33165.7),
    (56565.6303, -33178.2),
)
"""Nightly means of 91 HARPS velocities of 51 Pegasi: Julian date less 2,400,000 and m/s; of 3, 10, 2, 20, 4, 13, 39 spectra.

Source: Martins et al. (2015), Astronomy & Astrophysics 576, A134, table of the radial velocities (J/A+A/576/A134).
"""

_NODES = 200_001
_LEAST_WEIGHT = 0.01
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RadialVelocities(Target):
    r"""Posterior of a circular orbit.

    .. math:: v_i \sim N(a \cos\phi_i + b \sin\phi_i + c, s^2), \quad \phi_i = 2\pi t_i / P, \quad
              \log P \sim N(\log P_0, r^2), \quad a, b \sim N(0, A^2), \quad c \sim N(0, C^2)

    Coordinates: :math:`\log P` (days), a, b, c (m/s). All constants are included, so ``log_z`` is the log evidence. The
    modes are the peaks of the period's marginal law that hold at least one percent, each from the lowest point before it to that
    behind it, and, last, all other periods together.

    Attributes:
        times: ``(n,)`` t in days, centred.
        velocities: ``(n,)`` v in m/s, centred.
        noise: s.
        centre: :math:`\log P_0`.
        prior_sds: ``(4,)`` r, A, A, C.
        log_period: Posterior law of :math:`\log P`.
        edges: ``(K, 2)`` where each peak begins and ends, :math:`\log P`.
        periods: ``(K,)`` where each has its top, days.
    """

    times: Tensor
    velocities: Tensor
    noise: float
    centre: float
    prior_sds: Tensor
    log_period: Line
    edges: Tensor
    periods: Tensor

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return ("log_period", "cosine", "sine", "offset")

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior: ``(M, 4) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        a, b, c = x[:, 1:2], x[:, 2:3], x[:, 3:]
        phase = 2.0 * math.pi * self.times * torch.exp(-x[:, :1])
        cosine, sine = torch.cos(phase), torch.sin(phase)
        pull = (self.velocities - a * cosine - b * sine - c) / self.noise**2
        away = x - torch.nn.functional.pad(x.new_full((1,), self.centre), (0, 3))
        value = -0.5 * self.noise**2 * pull.square().sum(1) - 0.5 * (away / self.prior_sds).square().sum(1)
        count = self.times.shape[0]
        constant = count * math.log(self.noise) + torch.log(self.prior_sds).sum() + 0.5 * (count + 4) * _LOG_2PI
        # d phase / d log P = -phase
        by_log_period = (pull * (a * sine - b * cosine) * phase).sum(1)
        by_linear = torch.stack([by_log_period, (pull * cosine).sum(1), (pull * sine).sum(1), pull.sum(1)], dim=1)
        return value - constant, by_linear - away / self.prior_sds.square()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Exact draws: :math:`\log P` by inverse CDF on 200,001 nodes, then a, b, c, which are Gaussian given it."""
        u = uniform(self, (n,), generator)
        z = normal(self, (n, 3), generator)
        log_period = torch.from_numpy(self.log_period.quantile(u.cpu().double().numpy())).to(u)
        phase = 2.0 * math.pi * self.times * torch.exp(-log_period)[:, None]
        design = torch.stack([torch.cos(phase), torch.sin(phase), torch.ones_like(phase)], dim=2)
        precision = design.mT @ design / self.noise**2 + torch.diag(self.prior_sds[1:] ** -2)
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve((design.mT @ self.velocities / self.noise**2)[:, :, None], factor)
        linear = mean + torch.linalg.solve_triangular(factor.mT, z[:, :, None], upper=True)
        return torch.cat([log_period[:, None], linear[:, :, 0]], dim=1)

    def mode_of(self, x: Tensor) -> Tensor:
        """Peak of the period, K outside all of them: ``(M, 4) -> (M,)``, in ascending order of the period."""
        inside = (x[:, :1] > self.edges[:, 0]) & (x[:, :1] <= self.edges[:, 1])
        # each peak adds its distance from K: nothing is left where no peak holds the point
        count = self.edges.shape[0]
        return count - (inside * (count - torch.arange(count, device=x.device))).sum(1)


def radial_velocities(noise: float = 3.0, centre: float = 4.0, spread: float = 0.7) -> RadialVelocities:
    r"""Posterior of the orbit of 51 Pegasi b from the nightly means of seven nights.

    The planet's period is 4.2308 days. Seven nights don't tell it from its aliases: 2.11, 5.52, 1.41 days and others.

    Ground truth: given the period the model is linear and Gaussian; ``log_z``, the law of the period and the weights of its
    peaks are trapezoidal sums over :math:`\log P` on 200,001 nodes.

    Args:
        noise: s, m/s; larger than the errors of the means (below 1 m/s), as it stands for the star's own motion too.
        centre: Prior median of the period, days.
        spread: Prior standard deviation of its logarithm.

    Raises:
        ValueError: If an argument isn't positive.

    Source: :data:`NIGHTS`; the aliases are those of Dawson, Fabrycky (2010), Radial velocity planets de-aliased, ApJ 722.
    """
    if min(noise, centre, spread) <= 0.0:
        raise ValueError(f"`noise`, `centre` and `spread` must be positive, got {noise}, {centre}, {spread}")
    table = np.asarray(NIGHTS)
    times, velocities = (table - table.mean(0)).T
    sds = np.array([spread, 50.0, 50.0, 50.0])
    nodes = np.linspace(math.log(centre) - 5.5 * spread, math.log(centre) + 5.5 * spread, _NODES)
    prior = -0.5 * ((nodes - math.log(centre)) / spread) ** 2 - math.log(spread) - 0.5 * _LOG_2PI
    law = Line.of(nodes, prior + _log_marginal(nodes, times, velocities, noise, sds[1:]))
    peaks, edges = _peaks(law)
    inner = [
        law.probability(0.5 * ((nodes > low) & (nodes <= high)) + 0.5 * ((nodes >= low) & (nodes < high)))
        for low, high in edges
    ]
    return RadialVelocities(
        name="radial_velocities",
        dim=4,
        source="Martins et al. (2015), A&A 576, A134",
        log_z=law.log_z,
        mode_weights=torch.tensor([*inner, 1.0 - sum(inner)], dtype=torch.float64),
        times=torch.tensor(times),
        velocities=torch.tensor(velocities),
        noise=noise,
        centre=math.log(centre),
        prior_sds=torch.tensor(sds),
        log_period=law,
        edges=torch.tensor(edges, dtype=torch.float64),
        periods=torch.tensor(peaks, dtype=torch.float64).exp(),
    )


def _log_marginal(nodes: Array, times: Array, velocities: Array, noise: float, sds: Array) -> Array:
    r"""``(G,)`` log density of the velocities given each :math:`\log P`: N(0, s^2 I + D S^2 D^T) by its 3 x 3 complement."""
    phase = 2.0 * math.pi * times * np.exp(-nodes)[:, None]
    design = np.stack([np.cos(phase), np.sin(phase), np.ones_like(phase)], axis=2) * (sds / noise)
    inner = np.eye(3) + np.einsum("gni,gnj->gij", design, design)
    pull = np.einsum("gni,n->gi", design, velocities / noise)
    explained = (pull * np.linalg.solve(inner, pull[:, :, None])[:, :, 0]).sum(1)
    count = len(times)
    quadratic = (velocities @ velocities) / noise**2 - explained
    return np.asarray(-0.5 * (quadratic + np.linalg.slogdet(inner)[1] + count * _LOG_2PI) - count * math.log(noise))


def _peaks(law: Line) -> tuple[list[float], list[tuple[float, float]]]:
    """Nodes of the peaks that hold at least a percent each, and those of the lowest points before and behind each."""
    density = law.density
    tops = (np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1).tolist()
    lows = [0, *(a + int(np.argmin(density[a:b])) for a, b in pairwise(tops)), len(density) - 1]
    ends = list(pairwise(lows))
    kept = [k for k, (a, b) in enumerate(ends) if density[a:b].sum() >= _LEAST_WEIGHT * density.sum()]
    return [float(law.nodes[tops[k]]) for k in kept], [
        (float(law.nodes[ends[k][0]]), float(law.nodes[ends[k][1]])) for k in kept
    ]
