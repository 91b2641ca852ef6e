"""Names of axes from the plates of a NumPyro or Pyro trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plate_dims"]


def plate_dims(trace: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Dims and coords of the sites of a trace: a plate names the axis it stands for, other axes keep default names.

    Args:
        trace: Sites by name, with ``type``, ``value``, ``fn`` and ``cond_indep_stack``, as both libraries have them.

    Returns:
        Names by site, and ``0 .. size - 1`` along each plate.
    """
    dims: dict[str, list[str]] = {}
    coords: dict[str, Any] = {}
    for name, site in trace.items():
        frames = site.get("cond_indep_stack") or ()
        if site["type"] != "sample" or not frames:
            continue
        rank, event = np.ndim(site["value"]), len(getattr(site["fn"], "event_shape", ()))
        named = [f"{name}_dim_{i}" for i in range(rank)]
        for frame in frames:
            axis = rank - event + frame.dim if frame.dim is not None else -1
            if 0 <= axis < rank and np.shape(site["value"])[axis] == frame.size:
                named[axis] = str(frame.name)
                coords[str(frame.name)] = np.arange(frame.size)
        dims[name] = named
    return dims, coords
