"""The Mueller-Brown potential: three curved basins of unequal mass joined by saddles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from targets.base import Target
from targets.draws import uniform

__all__ = ["MuellerBrown", "mueller_brown"]

_BOX = ((-9.0, 13.0), (-13.0, 8.0))
_CELLS = 1000
_WIDTHS = torch.tensor([(high - low) / _CELLS for low, high in _BOX], dtype=torch.float64)
_STARTS = ((0.385, 0.202), (3.27, -4.17), (6.16, -6.23))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MuellerBrown(Target):
    r"""Mueller-Brown surface in stretched coordinates with a confining quadratic.

    With :math:`u = (x_1 - 3.5)/5` and :math:`v = (x_2 + 6.5)/5`,

    .. math:: \log \pi(x) = -\frac{1}{10} \Big[ \sum_{i=1}^4 A_i e^{a_i (u-u_i)^2 + b_i (u-u_i)(v-v_i) + c_i (v-v_i)^2}
              + 35.0136\,(u + 0.033923)^2 + 59.8399\,(v - 0.465694)^2 \Big].

    The mode of a point is the nearest of the three maxima.

    Attributes:
        terms: ``(6, 4)`` the rows A, a, b, c, u_i, v_i.
    """

    terms: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Log density: ``(M, 2) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        height, a, b, c, centre_u, centre_v = self.terms
        u, v = (x[:, :1] - 3.5) / 5.0, (x[:, 1:] + 6.5) / 5.0
        du, dv = u - centre_u, v - centre_v
        hills = height * torch.exp(a * du.square() + b * du * dv + c * dv.square())
        off_u, off_v = u[:, 0] + 0.033923, v[:, 0] - 0.465694
        energy = hills.sum(1) + 35.0136 * off_u.square() + 59.8399 * off_v.square()
        force_u = (hills * (2.0 * a * du + b * dv)).sum(1) + 2.0 * 35.0136 * off_u
        force_v = (hills * (b * du + 2.0 * c * dv)).sum(1) + 2.0 * 59.8399 * off_v
        return -0.1 * energy, -0.02 * torch.stack([force_u, force_v], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws from a 1000 x 1000 table of cells, uniform within the cell.

        The cells are 0.02 wide against basins about 0.5 wide, so that the only bias is of order h^2/12 = 3e-5 in
        second moments; probabilities of regions larger than a cell are right to about 1e-5.
        """
        centres, log_mass = _table(self.to("cpu", torch.float64))
        cdf = torch.exp(log_mass - log_mass.max()).cumsum(0)
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device).cpu()
        cell = torch.searchsorted(cdf / cdf[-1], u, right=True)
        jitter = uniform(self, (n, 2), generator) - 0.5
        return centres[cell].to(jitter) + _WIDTHS.to(jitter) * jitter

    def mode_of(self, x: Tensor) -> Tensor:
        """Nearest maximum: ``(M, 2) -> (M,)``."""
        if self.modes is None:
            return super().mode_of(x)
        return (x[:, None, :] - self.modes).square().sum(2).argmin(1)


def mueller_brown() -> MuellerBrown:
    r"""The Mueller-Brown density of the ZOD-MC benchmark.

    Ground truth, all from the midpoint rule on 1000 x 1000 cells (spectrally accurate, as the density vanishes at the
    border; half the cells per side change ``log_z`` by less than 1e-9): ``log_z`` = 10.014179, mean
    (3.357256, -3.713724), E|x|^2 = 36.7345. Modes by Newton's method: (.3841, .1959),
    (3.2692, -4.1688), (6.1579, -6.2350), where the nearest-mode masses are
    0.27474, 0.38301, 0.34226.

    Source: Mueller, Brown (1979), Theoretica Chimica Acta 53, 75-93, table of the model surface; scaling and
    confinement of He, Rojas, Tao (2024), arXiv:2402.17886.
    """
    bare = MuellerBrown(
        name="mueller_brown",
        dim=2,
        source="Mueller, Brown (1979), Theor. Chim. Acta 53; He, Rojas, Tao (2024), arXiv:2402.17886",
        terms=_terms(),
    )
    modes = _climb(bare, torch.tensor(_STARTS, dtype=torch.float64))
    target = replace(bare, modes=modes)
    centres, log_mass = _table(target)
    log_z = torch.logsumexp(log_mass, 0)
    mass = torch.exp(log_mass - log_z)
    distance, order = torch.topk((centres[:, None, :] - modes).square().sum(2), 2, dim=1, largest=False)
    # A cell cut by the border between two modes is shared: the difference of squared distances is linear, with this
    # half-range over a cell.
    half_range = ((modes[order[:, 0]] - modes[order[:, 1]]).abs() * _WIDTHS).sum(1)
    share = 0.5 + 0.5 * ((distance[:, 1] - distance[:, 0]) / half_range).clamp_max(1.0)
    weights = torch.bincount(order[:, 0], mass * share, 3) + torch.bincount(order[:, 1], mass * (1.0 - share), 3)
    return replace(target, log_z=float(log_z), mode_weights=weights)


def _terms() -> Tensor:
    return torch.tensor(
        [
            [-200.0, -100.0, -170.0, 15.0],
            [-1.0, -1.0, -6.5, 0.7],
            [0.0, 0.0, 11.0, 0.6],
            [-10.0, -10.0, -6.5, 0.7],
            [1.0, 0.0, -0.5, -1.0],
            [0.0, 0.5, 1.5, 1.0],
        ],
        dtype=torch.float64,
    )


def _table(target: MuellerBrown) -> tuple[Tensor, Tensor]:
    """Cell centres ``(C, 2)`` and log masses ``(C,)`` by the midpoint rule."""
    sides = [low + (high - low) * (torch.arange(_CELLS, dtype=torch.float64) + 0.5) / _CELLS for low, high in _BOX]
    centres = torch.cartesian_prod(*sides)
    logs = torch.cat([target.log_density(part) for part in torch.split(centres, 2**14)])
    return centres, logs + _WIDTHS.log().sum()


def _climb(target: MuellerBrown, x: Tensor) -> Tensor:
    """``(K, 2)`` the maxima beside the given points: Newton's method with a differenced Hessian."""
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    for _ in range(20):
        columns = [(target.value_and_grad(x + h)[1] - target.value_and_grad(x - h)[1]) / 2e-5 for h in step]
        x = x - torch.linalg.solve(torch.stack(columns, dim=2), target.value_and_grad(x)[1])
    return x
