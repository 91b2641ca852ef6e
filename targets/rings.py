"""Concentric rings: modes that are curves, with no point that stands for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from targets.base import Target
from targets.draws import uniform
from targets.line import Line

__all__ = ["Rings", "rings"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rings(Target):
    r"""Rings in the plane with a Gaussian profile.

    With :math:`r = |x|`,

    .. math:: \pi(x) = \sum_k h_k e^{-(r - R_k)^2 / 2 s^2}, \qquad
              \nabla \log \pi = -\frac{x}{r} \sum_k \rho_k \frac{r - R_k}{s^2}, \quad
              \rho_k \propto h_k e^{-(r-R_k)^2/2s^2}.

    The gradient at the origin, where the density has a negligible cone, is set to 0.

    Attributes:
        radii: ``(K,)`` the :math:`R_k`.
        width: s.
        log_heights: ``(K,)`` the :math:`\log h_k`.
        radial: Law of r, density proportional to :math:`r \pi(r)`.
    """

    radii: Tensor
    width: float
    log_heights: Tensor
    radial: Line

    def log_density(self, x: Tensor) -> Tensor:
        """Log density: ``(M, 2) -> (M,)``."""
        return torch.logsumexp(self._logs(torch.linalg.vector_norm(x, dim=1)), dim=1)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        radius = torch.linalg.vector_norm(x, dim=1)
        logs = self._logs(radius)
        value = torch.logsumexp(logs, dim=1)
        pull = (torch.exp(logs - value[:, None]) * (self.radii - radius[:, None])).sum(1) / self.width**2
        return value, (pull / radius.clamp_min(torch.finfo(x.dtype).tiny))[:, None] * x

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws: uniform angle, radius by inverse CDF on 20,001 nodes."""
        u = uniform(self, (n, 2), generator)
        radius = torch.from_numpy(self.radial.quantile(u[:, 0].cpu().double().numpy())).to(u)
        angle = 2.0 * math.pi * u[:, 1]
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)

    def mode_of(self, x: Tensor) -> Tensor:
        """Ring of largest responsibility: ``(M, 2) -> (M,)``."""
        return self._logs(torch.linalg.vector_norm(x, dim=1)).argmax(dim=1)

    def _logs(self, radius: Tensor) -> Tensor:
        return self.log_heights - 0.5 * ((radius[:, None] - self.radii) / self.width).square()


def rings(
    radii: tuple[float, ...] = (1.0, 3.0, 5.0),
    weights: tuple[float, ...] = (0.2, 0.5, 0.3),
    width: float = 0.15,
) -> Rings:
    r"""Concentric rings of given radii and probabilities in two dimensions.

    Heights are :math:`h_k = w_k / R_k`, so that ring k has mass :math:`2\pi s \sqrt{2\pi} w_k` up to a term of order
    :math:`e^{-R_k^2/2s^2}`. Ground truth: ``log_z`` and ``mode_weights`` by the trapezoidal rule in the radius;
    there are no point modes, ``modes`` is None.

    Args:
        radii: Positive :math:`R_k`.
        weights: Positive :math:`w_k`, normalised here.
        width: s > 0.

    Raises:
        ValueError: If an argument isn't positive or the lengths differ.

    Source: after the rings of Grenioux et al. (2024), arXiv:2402.10758; radii and the unequal weights are ours.
    """
    if not radii or len(radii) != len(weights) or min((*radii, *weights, width)) <= 0.0:
        raise ValueError(f"`radii`, `weights`, `width` must be positive and match, got {radii}, {weights}, {width}")
    centre = np.asarray(radii)
    log_heights = np.log(np.asarray(weights) / sum(weights) / centre)
    nodes = np.linspace(0.0, centre.max() + 12.0 * width, 20001)
    logs = log_heights - 0.5 * ((nodes[:, None] - centre) / width) ** 2
    with np.errstate(divide="ignore"):
        radial = Line.of(nodes, np.logaddexp.reduce(logs, axis=1) + np.log(2.0 * np.pi * nodes))
    masses = [radial.probability(np.asarray(logs.argmax(1) == k, dtype=np.float64)) for k in range(len(radii))]
    return Rings(
        name="rings",
        dim=2,
        source="after Grenioux et al. (2024), arXiv:2402.10758",
        log_z=radial.log_z,
        mode_weights=torch.tensor(masses, dtype=torch.float64),
        radii=torch.tensor(radii, dtype=torch.float64),
        width=width,
        log_heights=torch.from_numpy(log_heights),
        radial=radial,
    )
