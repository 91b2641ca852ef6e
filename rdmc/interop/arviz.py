"""From a result to ArviZ in the model's own variables, dims and coords."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rdmc.export import assemble
from rdmc.export import to_arviz as flat_to_arviz
from rdmc.interop.model import Draws, Model
from rdmc.result import Result

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["group", "to_arviz"]

_SAMPLE = ("chain", "draw")
_CHUNK = 8192


def group(data: Any, name: str) -> xr.Dataset:
    """A group as a data set, of ``InferenceData`` and ``DataTree`` alike."""
    node = data[name]
    return node.to_dataset() if hasattr(node, "to_dataset") and hasattr(node, "children") else node


def _dataset(values: Draws, model: Model, attrs: Mapping[str, Any], sample: Mapping[str, int]) -> xr.Dataset:
    """Arrays ``(*sample, *shape)`` with the model's dims, or ArviZ's default names for them, and its coords."""
    import xarray as xr

    variables: dict[str, Any] = {}
    lengths: dict[str, int] = dict(sample)
    for name, array in values.items():
        event = array.shape[len(sample) :]
        given = list(model.dims.get(name, ()))
        given = given if len(given) == len(event) else []
        dims = [dim or f"{name}_dim_{i}" for i, dim in enumerate(given or [""] * len(event))]
        for i, (dim, length) in enumerate(zip(dims, event, strict=True)):
            if lengths.setdefault(dim, length) != length:  # two variables use one name for axes of different length
                dims[i] = f"{name}_dim_{i}"
                lengths[dims[i]] = length
        variables[name] = ((*sample, *dims), array)
    labels = {dim: model.coords.get(dim, None) for dim in lengths}
    coords = {
        dim: np.asarray(label) if label is not None and len(label) == lengths[dim] else np.arange(lengths[dim])
        for dim, label in labels.items()
    }
    return xr.Dataset(variables, coords, dict(attrs))


def _by_chain(function: Any, result: Result) -> dict[str, Any]:
    """A map of points, over all draws in chunks of bounded memory, ``(chains, draws, *shape)`` each."""
    flat = result.samples.reshape(-1, result.dim)
    parts = [function(chunk) for chunk in flat.split(_CHUNK)]
    joined = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
    return {name: array.reshape(result.chains, result.draws, *array.shape[1:]) for name, array in joined.items()}


def to_arviz(
    model: Model, result: Result, *, var_names: Sequence[str] | None = None, log_likelihood: bool = False
) -> Any:
    """The result in the model's own variables.

    Groups: ``posterior`` with dims and coords, ``sample_stats`` with ``lp`` (the log density on R^d), ``inner`` where the sampler
    has diagnostics of its levels, ``observed_data`` and ``constant_data`` where the model has them, ``log_likelihood`` on request.
    ``posterior.attrs`` has ``log_evidence`` and ``log_evidence_mcse`` where known, and ``problems``, what :meth:`rdmc.Result.check`
    says, as a JSON list.

    Args:
        model: Where the density came from.
        result: What :func:`rdmc.sample` gave for it.
        var_names: Variables to keep; all by default.
        log_likelihood: Whether to compute the pointwise log likelihood.

    Returns:
        ``arviz.InferenceData`` under ArviZ 0.x, ``xarray.DataTree`` under 1.x.

    Raises:
        ValueError: If the result has another dimension, ``var_names`` has an unknown name, or the log likelihood is unknown.
    """
    if result.dim != model.dim:
        raise ValueError(f"`result` must be of the model: wanted dimension {model.dim}, got {result.dim}")
    if log_likelihood and model.log_likelihood is None:
        raise ValueError("`log_likelihood` was asked for, but the model has no observed variables")
    flat = flat_to_arviz(result)
    attrs = {**group(flat, "posterior").attrs, "problems": json.dumps(result.check())}
    sample = dict(zip(_SAMPLE, (result.chains, result.draws), strict=True))
    with torch.no_grad():
        posterior = _by_chain(model.constrain, result)
        likelihood = _by_chain(model.log_likelihood, result) if log_likelihood else {}
    if var_names is not None:
        if unknown := [name for name in var_names if name not in posterior]:
            raise ValueError(f"`var_names` must be among {sorted(posterior)}, got {unknown}")
        posterior = {name: posterior[name] for name in var_names}
    groups = {"posterior": _dataset(posterior, model, attrs, sample), "sample_stats": group(flat, "sample_stats")}
    if likelihood:
        groups["log_likelihood"] = _dataset(likelihood, model, attrs, sample)
    if model.observed_data:
        groups["observed_data"] = _dataset(model.observed_data, model, {}, {})
    if model.constant_data:
        groups["constant_data"] = _dataset(model.constant_data, model, {}, {})
    if result.inner and "inner" in flat:
        groups["inner"] = group(flat, "inner")
    return assemble(groups)
