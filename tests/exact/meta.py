"""What a pilot would give, on `meta`, where tensors have no values to read back."""

from __future__ import annotations

import torch

from rdmc.coordinates import Affine
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture

META = torch.device("meta")


def survey(dim: int, modes: int = 2) -> Survey:
    """Modes and coordinates of that many dimensions."""
    k = torch.zeros(modes, device=META, dtype=torch.float64)
    eye = torch.eye(dim, device=META, dtype=torch.float64)
    mixture = GaussianMixture(
        k, k[:, None].expand(modes, dim), eye.expand(modes, dim, dim), k[:, None].expand(modes, dim)
    )
    return Survey(Affine.identity(dim, device=META), mixture, k, k, 0.0)
