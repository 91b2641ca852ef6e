"""Products of double wells: exponentially many modes whose weights, evidence and draws are all exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from targets.base import Target
from targets.draws import normal, uniform
from targets.line import Line

__all__ = ["Wells", "double_wells", "many_well"]

_MOST_MODES = 1024


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Wells(Target):
    r"""Separable density of quartic double wells and Gaussian coordinates.

    .. math:: \log \pi(x) = C + \sum_j \left( l_j x_j + q_j x_j^2 - k_j x_j^4 \right)

    where every well has the same coefficients, and :math:`l_j = k_j = 0 > q_j` elsewhere. The mode of a point is the
    sign pattern of its well coordinates, read as a binary number with the first well as the lowest bit.

    Attributes:
        constant: C.
        linear: ``(d,)`` the l.
        quadratic: ``(d,)`` the q.
        quartic: ``(d,)`` the k.
        wells: ``(m,)`` int64 positions of the well coordinates.
        well: Law of one well coordinate.
        positive: P(x_j > 0) for a well coordinate.
    """

    constant: float
    linear: Tensor
    quadratic: Tensor
    quartic: Tensor
    wells: Tensor
    well: Line
    positive: float

    def log_density(self, x: Tensor) -> Tensor:
        """Log density: ``(M, d) -> (M,)``."""
        square = x.square()
        return self.constant + (self.linear * x + (self.quadratic - self.quartic * square) * square).sum(1)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        return self.log_density(x), self.linear + (2.0 * self.quadratic - 4.0 * self.quartic * x.square()) * x

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: wells by inverse CDF on 20,001 nodes, the rest Gaussian."""
        u = uniform(self, (n, len(self.wells)), generator)
        z = normal(self, (n, self.dim), generator)
        sd = torch.where(self.quartic > 0, torch.zeros_like(self.quadratic), (-0.5 / self.quadratic).abs().sqrt())
        heights = torch.from_numpy(self.well.quantile(u.cpu().double().numpy())).to(u)
        return (sd * z).index_copy(1, self.wells, heights)

    def mode_of(self, x: Tensor) -> Tensor:
        """Sign pattern of the wells as a binary number: ``(M, d) -> (M,)``."""
        if not self.has_modes:
            return super().mode_of(x)
        bits = (x.index_select(1, self.wells) > 0).to(torch.int64)
        return (bits << torch.arange(self.wells.shape[0], device=x.device)).sum(1)


def many_well(dim: int = 32) -> Wells:
    r"""FAB's many-well: pairs of a tilted double well and a Gaussian.

    Per pair :math:`\log \pi = \frac12 x_1 + 6 x_1^2 - x_1^4 - \frac12 x_2^2`; wells sit at the even positions
    (counted from 0). Ground truth: ``log_z`` = (d/2)(log of a 1-D trapezoidal sum + log(2 pi)/2), 164.695675 at
    d = 32; P(x_1 > 0) = 0.844307 for each well, all independent. At d = 32 the 65,536 modes aren't listed.

    Args:
        dim: Even dimension d; 2^(d/2) modes, listed up to d = 20.

    Raises:
        ValueError: If ``dim`` isn't a positive even number.

    Source: Midgley et al. (2023), arXiv:2208.01893, section 4.2; the double well is from Noe et al. (2019), Boltzmann
    generators.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"`dim` must be a positive even number, got {dim}")
    wells = torch.arange(0, dim, 2)
    return _wells("many_well", "Midgley et al. (2023), arXiv:2208.01893", dim, wells, (0.5, 6.0, 1.0), 0.0, -0.5)


def double_wells(dim: int = 5, wells: int = 5, delta: float = 4.0, tilt: float = 0.0) -> Wells:
    r"""Double wells in the first coordinates, Gaussians in the others, with an optional tilt.

    .. math:: \log \pi(x) = -\sum_{j \le m} (x_j^2 - \delta)^2 - \sum_{j > m} x_j^2 + \text{tilt} \sum_{j \le m} x_j

    Ground truth: ``log_z`` = m (1-D trapezoidal sum) + (d - m) log(pi)/2: -0.541056 at (d, m, delta) = (5, 5, 4),
    3.097424 at (10, 5, 3), 27.221431 at (50, 5, 2), all without tilt. Without tilt all modes weigh the same, which any
    symmetric sampler gets right; ``tilt=0.3`` is the honest test.

    Args:
        dim: Dimension d.
        wells: m <= d; 2^m modes, listed up to m = 10.
        delta: Wells lie near +-sqrt(delta), separated by a barrier of delta^2.
        tilt: Slope along each well coordinate.

    Raises:
        ValueError: If ``wells`` isn't in 1..d or ``delta`` isn't positive.

    Source: Cordero-Encinar et al. (2025), arXiv:2508.15069, double well; the tilt is ours.
    """
    if not 1 <= wells <= dim or delta <= 0.0:
        raise ValueError(f"`wells` must be in 1..{dim} and `delta` positive, got {wells}, {delta}")
    return _wells(
        "double_wells",
        "Cordero-Encinar et al. (2025), arXiv:2508.15069",
        dim,
        torch.arange(wells),
        (tilt, 2.0 * delta, 1.0),
        -wells * delta**2,
        -1.0,
    )


def _wells(
    name: str,
    source: str,
    dim: int,
    wells: Tensor,
    coefficients: tuple[float, float, float],
    constant: float,
    curvature: float,
) -> Wells:
    """Assemble a target; ``coefficients`` are (l, q, k) of a well, ``curvature`` is the q of the others."""
    count = len(wells)
    linear, quadratic, quartic = coefficients
    reach = math.sqrt(quadratic / (2.0 * quartic)) + 4.0
    # Built from integers so that 0, the boundary between the modes, is a node to the last bit.
    nodes = reach * np.arange(-10000, 10001, dtype=np.float64) / 10000.0
    well = Line.of(nodes, linear * nodes + quadratic * nodes**2 - quartic * nodes**4)
    positive = well.probability(np.heaviside(nodes, 0.5))
    # Stationary points in ascending order: left well, barrier, right well.
    left, _, right = np.sort(np.roots([-4.0 * quartic, 0.0, 2.0 * quadratic, linear]).real)
    modes = mode_weights = None
    if 2**count <= _MOST_MODES:
        bits = torch.tensor([signs[::-1] for signs in product((0, 1), repeat=count)], dtype=torch.float64)
        modes = torch.zeros(2**count, dim, dtype=torch.float64)
        modes[:, wells] = float(left) + (float(right) - float(left)) * bits
        mode_weights = (positive * bits + (1.0 - positive) * (1.0 - bits)).prod(1)

    def spread(at_wells: float, elsewhere: float) -> Tensor:
        return torch.full((dim,), elsewhere, dtype=torch.float64).index_fill(0, wells, at_wells)

    return Wells(
        name=name,
        dim=dim,
        source=source,
        log_z=constant + count * well.log_z + 0.5 * (dim - count) * math.log(math.pi / -curvature),
        modes=modes,
        mode_weights=mode_weights,
        constant=constant,
        linear=spread(linear, 0.0),
        quadratic=spread(quadratic, curvature),
        quartic=spread(quartic, 0.0),
        wells=wells,
        well=well,
        positive=positive,
    )
