"""The mode table: where the modes are, how much mass each holds, how sure that is, and which populations saw them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rdmc.mixture import GaussianMixture
from rdmc.table import Table

__all__ = ["MODE_COLUMNS", "mode_table"]

MODE_COLUMNS = ("location", "weight", "weight_mcse", "log_density", "chains_found", "weight_by_chain")
"""Columns of the mode table; ``weight_by_chain`` holds one weight per population."""


def mode_table(
    samples: Tensor, log_density: Tensor, mixture: GaussianMixture, group: Sequence[int] | None = None
) -> Table:
    r"""Summarise draws by the component of a mixture that most probably made them.

    The error of a weight w is the larger of two:

    - multinomial, :math:`\sqrt{w (1 - w) / (C n)}`: what C n independent draws would have;
    - between populations, :math:`s / \sqrt C` with s the standard deviation of the C populations' own weights: the
      only one that sees chains stuck in a mode or weights of a whole population that are off.

    The second is itself a noisy estimate from few populations, and by chance often too small; the first is then a
    floor.

    Args:
        samples: ``(C, n, d)`` draws of C populations.
        log_density: ``(C, n)`` log density at the draws.
        mixture: K components that tell the modes apart.
        group: Mode that each component belongs to (K entries), where several components make up one mode; by default
            each component is a mode.

    Returns:
        One row per mode that holds a draw, heaviest first. ``location`` is the draw with the highest density in the
        mode, so a point that was visited and whose ``log_density`` is exact; in high dimension it still lies below
        the peak.

    Raises:
        ValueError: If shapes disagree.
    """
    if samples.ndim != 3 or log_density.shape != samples.shape[:2] or samples.shape[-1] != mixture.dim:
        raise ValueError(
            f"`samples` and `log_density` must have shapes (C, n, {mixture.dim}) and (C, n), "
            f"got {tuple(samples.shape)} and {tuple(log_density.shape)}"
        )
    if group is not None and len(group) != mixture.components:
        raise ValueError(f"`group` must have one entry per component, {mixture.components}, got {len(group)}")
    chains, draws = log_density.shape
    if chains * draws == 0:
        return Table({name: [] for name in MODE_COLUMNS})
    component = mixture.log_responsibilities(samples).argmax(-1)
    label = component if group is None else torch.tensor(group, device=component.device)[component]
    finite = samples.isfinite().all(-1)  # a NaN draw is in no mode: the weights then sum to less than 1
    known = log_density.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf).reshape(-1)
    rows = []
    for mode in torch.unique(label[finite]).tolist():
        inside = (label == mode) & finite
        by_chain = inside.double().mean(1)
        weight = float(by_chain.mean())
        spread = float(by_chain.std()) / math.sqrt(chains) if chains > 1 else 0.0
        members = inside.reshape(-1).nonzero()[:, 0]
        best = int(members[known[members].argmax()])
        rows.append(
            {
                "location": samples.reshape(chains * draws, -1)[best].tolist(),
                "weight": weight,
                "weight_mcse": max(math.sqrt(weight * (1.0 - weight) / (chains * draws)), spread),
                "log_density": float(known[best]),
                "chains_found": int((by_chain > 0).sum()),
                "weight_by_chain": by_chain.cpu().numpy(),
            }
        )
    rows.sort(key=lambda row: -float(row["weight"]))
    return Table.from_rows(rows, MODE_COLUMNS)
