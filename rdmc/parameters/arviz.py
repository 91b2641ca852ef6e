"""From a result and its parameters to ArviZ: constrained draws under their names, with dimensions and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.parameters.naming import unconstrained

if TYPE_CHECKING:
    from rdmc.parameters.collection import Parameters
    from rdmc.parameters.parameter import Parameter

__all__ = ["Drawn", "to_arviz"]


class Drawn(Protocol):
    """What is read of a result."""

    @property
    def samples(self) -> Tensor:
        """``(chains, draws, dim)``."""
        ...

    def to_arviz(self) -> Any:
        """Its groups, ``posterior`` in real coordinates."""
        ...


def to_arviz(parameters: Parameters, result: Drawn, values: Mapping[str, Any] | None = None) -> Any:
    """The result as an ArviZ object in the parameters' names.

    Groups: ``posterior``, the constrained values, dims (chain, draw, ...) with the parameters' own dimensions and coordinates (an
    axis without a name is called ``mu_dim_0``); ``unconstrained_posterior``, the real coordinates of those that have a constraint,
    as the schema wants; and all others of ``result.to_arviz()``. ``lp`` in ``sample_stats`` is the log density of the real
    coordinates, log determinant included.

    Args:
        parameters: Those whose density was sampled.
        result: What :func:`rdmc.sample` returned.
        values: ``(chains, draws, *shape)`` by name, in place of the draws of the posterior: relabelled draws, say. There is no
            ``unconstrained_posterior`` then, and ``lp`` stays that of the draws as sampled.

    Returns:
        ``arviz.InferenceData`` under ArviZ 0.x, ``xarray.DataTree`` under 1.x.

    Raises:
        ValueError: If the result isn't of these parameters, or ``values`` lack a name or have a wrong shape.
        ImportError: If ArviZ is not installed.
    """
    import xarray as xr

    samples = result.samples
    if samples.shape[-1] != parameters.dim:
        raise ValueError(
            f"`result` must be a run of these parameters: wanted {parameters.dim} coordinates, got {samples.shape[-1]}"
        )
    base = result.to_arviz()
    tree = hasattr(base, "children")
    names = list(base.children if tree else base.groups())
    others = {name: base[name].to_dataset() if tree else base[name] for name in names}
    posterior = others.pop("posterior")
    index = {axis: posterior[axis].values for axis in ("chain", "draw")}
    given = parameters.constrain(samples) if values is None else _checked(parameters, samples, values)
    variables = {
        name: (("chain", "draw", *_dims(name, parameter)), _array(given[name]))
        for name, parameter in parameters.parameters.items()
    }
    used = {dim for dims, _ in variables.values() for dim in dims}
    coords = {dim: list(labels) for dim, labels in parameters.coords.items() if dim in used}
    groups = {"posterior": xr.Dataset(variables, {**index, **_numbered(variables), **coords}, posterior.attrs)}
    if values is None and (real := _unconstrained(parameters, samples)):
        coords = {dim: labels for dim, labels in coords.items() if any(dim in dims for dims, _ in real.values())}
        groups["unconstrained_posterior"] = xr.Dataset(real, {**index, **_numbered(real), **coords}, posterior.attrs)
    groups |= others
    if tree:
        return xr.DataTree.from_dict(groups)
    idata = type(base)(posterior=groups.pop("posterior"))
    idata.add_groups(groups, warn_on_custom_groups=False)
    return idata


def _unconstrained(parameters: Parameters, samples: Tensor) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Real coordinates of the parameters that have a constraint: axes that the constraint leaves as they are keep their names."""
    found = {}
    for name, part in parameters.slices.items():
        parameter = parameters.parameters[name]
        if not parameter.constrained:
            continue
        shape = parameter.unconstrained_shape
        dims = _dims(name, parameter)
        if shape != parameter.value_shape:
            dims = (*dims[: len(shape) - 1], f"{unconstrained(name)}_dim_0")
        found[name] = (("chain", "draw", *dims), _array(samples[..., part].reshape(*samples.shape[:2], *shape)))
    return found


def _dims(name: str, parameter: Parameter) -> tuple[str, ...]:
    return tuple(parameter.dims) or tuple(f"{name}_dim_{i}" for i in range(len(parameter.value_shape)))


def _numbered(variables: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]) -> dict[str, NDArray[np.int64]]:
    """Every dimension of the schema has a coordinate: 0, 1, ... where the user gave none."""
    return {dim: np.arange(n) for dims, array in variables.values() for dim, n in zip(dims, array.shape, strict=True)}


def _checked(parameters: Parameters, samples: Tensor, values: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, parameter in parameters.parameters.items():
        wanted = (*samples.shape[:2], *parameter.value_shape)
        came = tuple(np.shape(values[name])) if name in values else None
        if came != wanted:
            raise ValueError(
                f"`values` must hold {name!r} of shape {wanted}, got {'nothing' if came is None else came}"
            )
    return values


def _array(values: Any) -> NDArray[Any]:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    half = values.dtype in (torch.float16, torch.bfloat16)  # netCDF has no such types
    array: NDArray[Any] = (values.float() if half else values).detach().cpu().numpy()
    return array
