r"""The snooker move of differential evolution, right in every dimension.

emcee 3.1.6 has a ``DESnookerMove`` that doesn't leave the law invariant: it scales the direction by the root of its
length where the length belongs, and halves the exponent of the acceptance ratio. In one dimension the exponent is 0 and
the fault hardly shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdmc.baselines.foreign import require

__all__ = ["snooker_move", "snooker_proposal"]

Array = NDArray[np.float64]


def snooker_proposal(x: Array, others: Array, gamma: float, random: np.random.RandomState) -> tuple[Array, Array]:
    r"""Proposals along the line from another walker, and the logs of their Jacobians.

    With z, z_1, z_2 three different other walkers and e = (x - z) / |x - z|,

    .. math:: x' = x + \gamma\, e\, (e \cdot (z_1 - z_2)), \qquad
              \log J = (d - 1) \left( \log |x' - z| - \log |x - z| \right)

    Law: with J in the acceptance ratio, every law is left invariant. The walkers moved are not among the others, so
    moving all at once is legal.

    Args:
        x: ``(n, d)`` walkers to move.
        others: ``(m, d)`` walkers that stay, m >= 3.
        gamma: Stretch; 1.7 is the authors' choice.
        random: NumPy's generator.

    Returns:
        ``(n, d)`` proposals and ``(n,)`` log J; -inf where x stands on z.

    Source: ter Braak and Vrugt (2008), Statistics and Computing 18, 435-446, section 2 and eq. (5).
    """
    first = random.randint(len(others), size=len(x))
    second = (first + 1 + random.randint(len(others) - 1, size=len(x))) % len(others)
    # the third among those that are left: step over both, the smaller first
    third = random.randint(len(others) - 2, size=len(x))
    third += third >= np.minimum(first, second)
    third += third >= np.maximum(first, second)
    z = others[first]
    delta = x - z
    distance = np.linalg.norm(delta, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        e = delta / distance[:, None]
        proposal = x + gamma * e * np.sum(e * (others[second] - others[third]), axis=1, keepdims=True)
        log_jacobian = (x.shape[1] - 1.0) * (np.log(np.linalg.norm(proposal - z, axis=1)) - np.log(distance))
    still = ~np.isfinite(log_jacobian)
    return np.where(still[:, None], x, proposal), np.where(still, -np.inf, log_jacobian)


def snooker_move(gamma: float = 1.7) -> Any:
    """The move as emcee takes it.

    Raises:
        ImportError: If emcee is missing, naming the extra.
    """
    base = require("emcee.moves.red_blue", "emcee").RedBlueMove

    class Snooker(base):  # type: ignore[misc, valid-type]
        """A red-blue move, as all of emcee's ensemble moves."""

        def get_proposal(self, sample: Array, complement: list[Array], random: Any) -> tuple[Array, Array]:
            return snooker_proposal(sample, np.concatenate(complement), gamma, random)

    return Snooker()
