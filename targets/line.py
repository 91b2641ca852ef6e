"""A law on the line given by its log density on a grid: normaliser, probabilities, inverse-CDF draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Line"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """The law with a density linear between the nodes of a uniform grid.

    The density's error is O(h^2) in the spacing h and decays like the tails; with the 20,000 nodes used by the
    targets the law's distribution function is right to about 1e-8.

    Attributes:
        nodes: ``(G,)`` uniform grid that holds all but a negligible part of the mass.
        density: ``(G,)`` normalised density at the nodes.
        log_z: Log of the integral of the given function, trapezoidal rule (spectrally accurate here, as the function
            is smooth and vanishes at both ends).
    """

    nodes: Array
    density: Array
    log_z: float

    @classmethod
    def of(cls, nodes: Array, log_density: Array) -> Line:
        """The law from its unnormalised log density at uniform ``nodes``, both ``(G,)``."""
        top = float(log_density.max())
        density = np.exp(log_density - top)
        total = float(np.trapezoid(density, nodes))
        return cls(nodes=nodes, density=density / total, log_z=top + float(np.log(total)))

    def probability(self, event: Array) -> float:
        """Probability of the event given by its indicator at the nodes, 1/2 where the boundary is a node."""
        return float(np.trapezoid(self.density * event, self.nodes))

    def quantile(self, u: Array) -> Array:
        """Inverse distribution function at ``u`` in [0, 1), any shape."""
        spacing = self.nodes[1] - self.nodes[0]
        cells = 0.5 * spacing * (self.density[1:] + self.density[:-1])
        cdf = np.concatenate([[0.0], np.cumsum(cells)])
        u = u * cdf[-1]
        cell = np.clip(np.searchsorted(cdf, u, side="right") - 1, 0, len(cells) - 1)
        area = (u - cdf[cell]) / spacing
        left, right = self.density[cell], self.density[cell + 1]
        # Root of left s + (right - left) s^2 / 2 = area in the form that doesn't cancel; an empty cell has left = 0.
        root = left + np.sqrt(np.maximum(left**2 + 2.0 * (right - left) * area, 0.0))
        return np.asarray(self.nodes[cell] + spacing * 2.0 * area / np.maximum(root, np.finfo(np.float64).tiny))
