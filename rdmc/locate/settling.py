"""Coordinates given up for those of a heavier mode: first ascents may end far from any."""

from __future__ import annotations

import torch

from rdmc.coordinates import Affine, InCoordinates
from rdmc.locate.approach import coordinates
from rdmc.locate.atlas import Atlas
from rdmc.locate.optimise import Ascent
from rdmc.typing import BatchedDensity

__all__ = ["misplaced", "moved"]

_NOTHING = 20.0  # nats below the heaviest mode
_OTHER = 10.0  # widths, or parts of one, beyond which the coordinates are not that mode's
_ENDLESS = 1e7  # widths within which no fall was seen: no place to see others from


def misplaced(atlas: Atlas) -> bool:
    """Whether the coordinates are those of a place that holds nothing beside the heaviest mode, whose widths are others.

    What is found from there is seen in units that are not its own: ascents stop short, and what is one mode seems to be several.
    A symmetric density is left where it is, for its maps are known in these coordinates.

    Cost: at most one density evaluation.
    """
    mass = atlas.log_mass()
    k = int(mass.argmax())
    narrowest, widest = float(atlas.sd[k].min()), float(atlas.sd[k].max())
    alike = narrowest > 1.0 / _OTHER and widest < _OTHER
    if atlas.symmetry is not None or alike or widest >= _ENDLESS:
        return False
    origin = atlas.f(torch.zeros_like(atlas.sd[k])[None])[0]  # the mass there of a law of unit width
    return float(origin) < float(torch.minimum(mass[k], atlas.peak[k])) - _NOTHING  # in a neck either can mislead


def moved(f: BatchedDensity, affine: Affine, atlas: Atlas) -> tuple[Affine, Atlas]:
    """Coordinates of unit scale at the heaviest mode, and the modes in these.

    Cost: that of :func:`rdmc.locate.approach.coordinates`, and an ascent and a curvature for every mode.

    Args:
        f: Log density in the user's coordinates.
        affine: The coordinates given up.
        atlas: What is known, in these.

    Raises:
        DensityError: If no floating type holds the widths of that mode side by side, or its mass is not finite.
    """
    k = int(atlas.log_mass().argmax())
    rough = affine.after(Affine(atlas.mean[k], atlas.axes[k] * atlas.sd[k]))
    g, origin = InCoordinates(f, rough), torch.zeros_like(atlas.mean[k])[None]
    value, grad = g.value_and_grad(origin)
    better = rough.after(coordinates(g, Ascent(origin, value, grad, torch.isfinite(value))))
    again = Atlas(InCoordinates(f, better))
    again.add(better.to_white(affine.to_user(torch.stack(atlas.mean))))
    return better, again
