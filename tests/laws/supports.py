"""A support of every kind, for tests."""

from __future__ import annotations

import math

import torch

from rdmc.coordinates import Affine
from rdmc.supports.box import Box
from rdmc.supports.polyhedron import Polyhedron
from tests.laws.cases import F, generator


def affine(dim: int, seed: int = 0) -> Affine:
    """Off-centre, turned, of scales from 1 to 10."""
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator(seed), dtype=F)).Q
    return Affine(torch.linspace(-0.1, 0.2, dim, dtype=F), torch.logspace(0, 1, dim, dtype=F)[:, None] * turn)


BOX = Box(
    torch.tensor([-math.inf, 2.0, -math.inf, -1.0], dtype=F), torch.tensor([math.inf, math.inf, 30.0, 4.0], dtype=F)
)
MIXED = Polyhedron(affine(7), positive=2, simplices=(3, 1))  # and one free coordinate
SOLID = Polyhedron(affine(4), simplices=(3, 1))
