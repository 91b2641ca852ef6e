"""Energies that are ``torch.nn.Module`` objects: the density is exp(-E)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.interop.model import Draws, Model

__all__ = ["density"]


def density(module: torch.nn.Module, dim: int, name: str = "x") -> Model:
    """An energy as a batched density: the log density is minus what the module gives, up to a constant.

    The module is copied, put into ``eval`` mode, taken to the dtype and device of the run, and its parameters are frozen: the one
    given keeps its mode, dtype and gradients, and training it further does not change the copy.

    Args:
        module: ``(M, d) -> (M,)`` or ``(M, 1)``, an energy.
        dim: Dimension d.
        name: Of the variable.

    Raises:
        ValueError: If ``dim`` is not a positive integer.
    """
    own = copy.deepcopy(module).eval().requires_grad_(False)

    moved: dict[tuple[torch.dtype, torch.device], Any] = {}

    def at(dtype: torch.dtype, device: torch.device) -> Any:
        if (dtype, device) not in moved:
            moved[dtype, device] = copy.deepcopy(own).to(dtype=dtype, device=device)
        return moved[dtype, device]

    def log_density(x: Tensor) -> Tensor:
        energy: Tensor = at(x.dtype, x.device)(x)
        return -(energy[:, 0] if energy.shape == (len(x), 1) else energy)

    def constrain(x: Tensor) -> Draws:
        return {name: x.detach().cpu().numpy()}

    return Model(Density(log_density, dim), (name,), ((dim,),), constrain)
