"""A field on a chain: two collective modes in a hundred correlated dimensions, solved by its transfer matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from targets.base import Target
from targets.draws import uniform

__all__ = ["Phi4", "phi4"]

Array = NDArray[np.float64]

_BETA = 20.0
_A = 0.1
_REACH = 3.0
_LOCAL = 480


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Phi4(Target):
    r"""The discretised :math:`\phi^4` field with Dirichlet ends :math:`\phi_0 = \phi_{d+1} = 0`.

    .. math:: \log \pi(\phi) = -\beta \left[ \frac{a d}{2} \sum_{i=0}^{d} (\phi_{i+1} - \phi_i)^2
              + \frac{1}{a d} \sum_{i=1}^{d} \left( \frac{(1 - \phi_i^2)^2}{4} + b \phi_i \right) \right],
              \qquad a = 0.1, \; \beta = 20.

    The mode of a configuration is the sign of its middle site :math:`\phi_{\lceil d/2 \rceil}`: index 0 for
    negative, 1 for positive.

    Attributes:
        field: b; a positive field favours the negative mode.
        coupling: :math:`\beta a d / 2`.
        weight: :math:`\beta / (a d)`.
        nodes: ``(G,)`` grid of one site's values.
        messages: ``(d, G)`` log of the integral over all sites to the left, as a function of a site's value and with
            that site's own potential included.
    """

    field: float
    coupling: float
    weight: float
    nodes: Tensor
    messages: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Log density: ``(M, d) -> (M,)``."""
        bonds = self._bonds(x).square().sum(1)
        sites = (0.25 * (1.0 - x.square()).square() + self.field * x).sum(1)
        return -self.coupling * bonds - self.weight * sites

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        bonds = self._bonds(x)
        pull = 2.0 * self.coupling * (bonds[:, 1:] - bonds[:, :-1])
        return self.log_density(x), pull + self.weight * ((1.0 - x.square()) * x - self.field)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Draws by backward sampling: the last site, then each site given its right neighbour.

        A site's conditional law is the left message times a Gaussian of width
        :math:`s = (2 \cdot \text{coupling})^{-1/2}` about the neighbour; it is tabulated on 480 nodes over +-6 s and
        inverted, which broadens each step by less than 2e-4 of its variance.
        """
        u = uniform(self, (self.dim, n, 1), generator).cpu().double()
        nodes, messages = self.nodes.cpu().double(), self.messages.cpu().double()
        draws = torch.empty(n, self.dim, dtype=torch.float64)
        for rows in torch.split(torch.arange(n), 2000):
            right = torch.zeros(len(rows), 1, dtype=torch.float64)
            for site in reversed(range(self.dim)):
                right = self._site_given_right(nodes, messages[site], right, u[site, rows])
                draws[rows, site] = right[:, 0]
        return draws.to(self.device, self.dtype)

    def mode_of(self, x: Tensor) -> Tensor:
        """Sign of the middle site: ``(M, d) -> (M,)``."""
        return (x[:, (self.dim - 1) // 2] > 0).to(torch.int64)

    def _bonds(self, x: Tensor) -> Tensor:
        """``(M, d + 1)`` differences of neighbours, the zero ends included."""
        bonds: Tensor = torch.diff(torch.nn.functional.pad(x, (1, 1)), dim=1)
        return bonds

    def _site_given_right(self, nodes: Tensor, message: Tensor, right: Tensor, u: Tensor) -> Tensor:
        """``(n, 1)`` inverse-CDF draws of a site given its right neighbour ``(n, 1)``."""
        sd = (2.0 * self.coupling) ** -0.5
        step = 12.0 * sd / _LOCAL
        offsets = step * (torch.arange(_LOCAL + 1, dtype=torch.float64) - _LOCAL / 2)
        at = (right + offsets - nodes[0]) / (nodes[1] - nodes[0])
        cell = at.long().clamp(0, len(nodes) - 2)
        slope = message[cell + 1] - message[cell]
        log_density = message[cell] + slope * (at - cell) - self.coupling * offsets.square()
        density = torch.exp(log_density - log_density.amax(1, keepdim=True))
        cdf = torch.cumsum(0.5 * (density[:, 1:] + density[:, :-1]), dim=1)
        target = u * cdf[:, -1:]
        index = torch.searchsorted(cdf, target, right=True).clamp_max(_LOCAL - 1)
        high = cdf.gather(1, index)
        left, after = density.gather(1, index), density.gather(1, index + 1)
        area = target - (high - 0.5 * (left + after))
        # Root of the quadratic distribution function in the form that doesn't cancel.
        root = left + torch.sqrt((left.square() + 2.0 * (after - left) * area).clamp_min(0.0))
        fraction = (2.0 * area / root.clamp_min(torch.finfo(root.dtype).tiny)).clamp(0.0, 1.0)
        draw: Tensor = right + offsets[index] + step * fraction
        return draw


def phi4(dim: int = 100, b: float = 0.0, nodes: int = 601) -> Phi4:
    r"""The :math:`\phi^4` chain with the field ``b`` that makes its two modes unequal.

    Ground truth by a transfer matrix, that is d successive trapezoidal integrals on ``nodes`` grid points over
    [-3, 3]; the Gaussian bonds make the rule spectrally accurate (601 and 1201 nodes agree to 1e-9 in ``log_z`` and,
    where the rarer mode holds more than 1e-9, in the log odds). At d = 100: ``log_z`` = -196.912221 (b = 0),
    -196.633253 (.005), -195.996197 (.01), -181.362334 (.1); log odds of phi_50 > 0: 0, -1.55877, -3.11744, -23.40093.
    Modes by Newton's method from +-1. Published benchmarks use b large enough to empty one mode, and a sign error for
    the odds circulates: a positive b favours the *negative* mode.

    Args:
        dim: Number of sites d.
        b: Field; 0.0025 to 0.01 gives weights that can be measured.
        nodes: Odd number of grid points.

    Raises:
        ValueError: If ``dim`` or ``nodes`` is too small or ``nodes`` even.

    Source: Gabrie, Rotskoff, Vanden-Eijnden (2022), Adaptive Monte Carlo augmented with normalizing flows, PNAS 119,
    arXiv:2105.12603, with the parameters of Grenioux et al. (2024), arXiv:2402.10758.
    """
    if dim < 1 or nodes < 101 or nodes % 2 == 0:
        raise ValueError(f"`dim` must be at least 1 and `nodes` odd and at least 101, got {dim}, {nodes}")
    coupling, weight = 0.5 * _BETA * _A * dim, _BETA / (_A * dim)
    grid = _REACH * np.arange(-(nodes // 2), nodes // 2 + 1) / (nodes // 2)
    spacing = grid[1] - grid[0]
    site = -weight * (0.25 * (1.0 - grid**2) ** 2 + b * grid)
    bond = np.exp(-coupling * (grid[:, None] - grid) ** 2)
    messages = np.empty((dim, nodes))
    messages[0] = site - coupling * grid**2
    for i in range(1, dim):
        top = messages[i - 1].max()
        with np.errstate(divide="ignore"):
            messages[i] = site + top + np.log(bond @ np.exp(messages[i - 1] - top) * spacing)
    # The chain is its own mirror image: the message from the right is the one from the left, counted from the end.
    middle = (dim - 1) // 2
    log_marginal = messages[middle] + messages[dim - 1 - middle] - site
    mass = np.exp(log_marginal - log_marginal.max())
    # Euler-Maclaurin: the half-line sums end where the marginal has a slope, the whole-line sum doesn't.
    slope = (mass[nodes // 2 + 1] - mass[nodes // 2 - 1]) / 24.0
    positive = float((mass @ np.heaviside(grid, 0.5) + slope) / mass.sum())
    negative = float((mass @ np.heaviside(-grid, 0.5) - slope) / mass.sum())
    return Phi4(
        name="phi4",
        dim=dim,
        source="Gabrie, Rotskoff, Vanden-Eijnden (2022), arXiv:2105.12603; Grenioux et al. (2024), arXiv:2402.10758",
        log_z=float(log_marginal.max() + math.log(mass.sum() * spacing)),
        modes=torch.from_numpy(np.stack([_relax(np.full(dim, sign), coupling, weight, b) for sign in (-1.0, 1.0)])),
        mode_weights=torch.tensor([negative, positive], dtype=torch.float64),
        field=b,
        coupling=coupling,
        weight=weight,
        nodes=torch.from_numpy(grid),
        messages=torch.from_numpy(messages).clamp_min(-1e300),
    )


def _relax(phi: Array, coupling: float, weight: float, b: float) -> Array:
    """Newton's method on the energy, with the site curvature made convex so that every step descends."""
    chain = 2.0 * coupling * (2.0 * np.eye(len(phi)) - np.eye(len(phi), k=1) - np.eye(len(phi), k=-1))
    for _ in range(200):
        force = weight * ((1.0 - phi**2) * phi - b) - chain @ phi
        step = np.linalg.solve(chain + np.diag(weight * np.maximum(3.0 * phi**2 - 1.0, 0.0)), force)
        phi = phi + step
        if np.abs(step).max() < 1e-14:
            break
    return phi
