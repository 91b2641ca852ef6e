"""From a result to ArviZ, ``InferenceData`` under 0.x and ``xarray.DataTree`` under 1.x, and to netCDF files."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.capture import mode_columns

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Exportable", "assemble", "atomic_path", "to_arviz", "write_netcdf"]

RESERVED = ("chain", "draw", "sample", "pred_id", "x_dim")
"""Dimension names of the ArviZ schema (and our own), which no variable may have."""


class Exportable(Protocol):
    """What an export reads of a result; :class:`rdmc.Result` documents each."""

    @property
    def samples(self) -> Tensor: ...  # noqa: D102
    @property
    def log_density(self) -> Tensor: ...  # noqa: D102
    @property
    def log_evidence(self) -> float | None: ...  # noqa: D102
    @property
    def log_evidence_mcse(self) -> float | None: ...  # noqa: D102
    @property
    def gradient_evaluations(self) -> int: ...  # noqa: D102
    @property
    def density_evaluations(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def inner(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    @property
    def sampler(self) -> str: ...  # noqa: D102
    @property
    def config(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int | None: ...  # noqa: D102
    @property
    def versions(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def partial(self) -> bool: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...] | None: ...  # noqa: D102


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends, and vanishes if the block fails.

    A reader sees the old file or the whole new one, never half of it.

    Raises:
        ValueError: If the folder does not exist or ``path`` is a folder.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"`path` must be in an existing folder, got {str(target)!r}")
    if target.is_dir():
        raise ValueError(f"`path` must name a file, got the folder {str(target)!r}")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_names(names: Sequence[str] | None, dim: int) -> tuple[str, ...] | None:
    """The names as a tuple, if they can name ``dim`` variables of a data set.

    Raises:
        ValueError: If their number is not ``dim``, or one is empty, repeated or reserved.
    """
    if names is None:
        return None
    if isinstance(names, str) or len(names) != dim or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`names` must be {dim} non-empty texts, one per coordinate, got {names!r}")
    if len(set(names)) != dim or set(names) & set(RESERVED):
        raise ValueError(f"`names` must be distinct and none of {', '.join(RESERVED)}, got {list(names)}")
    return tuple(names)


def _array(values: Tensor) -> NDArray[Any]:
    values = values.detach().cpu()
    half = values.dtype in (torch.float16, torch.bfloat16)  # netCDF has no such types
    array: NDArray[Any] = (values.float() if half else values).numpy()
    return array


def _attributes(result: Exportable) -> dict[str, str | int | float]:
    """What netCDF can hold: texts and numbers; None, bool and dict cannot be written and become JSON texts."""
    versions = dict(result.versions)
    raw: dict[str, Any] = {
        "created_at": datetime.now(UTC).isoformat(),
        "creation_library": "rdmc",
        "creation_library_version": versions.get("rdmc", "unknown"),
        "creation_library_language": "Python",
        "inference_library": "rdmc",
        "inference_library_version": versions.get("rdmc", "unknown"),
        "sampling_time": float(result.seconds),
        "sampler": result.sampler,
        "config": result.config,
        "seed": result.seed,
        "gradient_evaluations": result.gradient_evaluations,
        "density_evaluations": result.density_evaluations,
        "partial": int(result.partial),
        "versions": versions,
    }
    if result.log_evidence is not None:
        raw["log_evidence"] = result.log_evidence
    if result.log_evidence_mcse is not None:
        raw["log_evidence_mcse"] = result.log_evidence_mcse

    def safe(value: Any) -> str | int | float:
        small = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return value if small or isinstance(value, (str, float)) else json.dumps(value, default=str)

    return {name: safe(value) for name, value in raw.items()}


def _inner(result: Exportable, attrs: dict[str, str | int | float]) -> xr.Dataset | None:
    """Group ``inner``, dims (chain, level); noise levels that all populations share become coordinates of ``level``.

    The frequencies of modes are one variable, ``mode_share``, with a dim ``mode`` beside these.
    """
    import xarray as xr

    shapes = {np.shape(values) for values in result.inner.values()}
    if not shapes or 0 in next(iter(shapes)):
        return None
    chains, levels = next(iter(shapes))
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"chain": np.arange(chains), "level": np.arange(levels)}
    modes = mode_columns(result.inner)
    if modes:
        variables["mode_share"] = (("chain", "level", "mode"), np.stack([result.inner[name] for name in modes], -1))
        coordinates["mode"] = np.arange(len(modes))
    for name, values in result.inner.items():
        if name in modes:
            continue
        array = np.asarray(values)
        if name in ("t", "sigma", "log_snr") and np.array_equal(
            array, np.broadcast_to(array[0], array.shape), equal_nan=True
        ):
            coordinates[name] = ("level", array[0])
        else:
            variables[name] = (("chain", "level"), array)
    return xr.Dataset(variables, coordinates, attrs)


def to_arviz(result: Exportable, names: Sequence[str] | None = None) -> Any:
    """The result as an ArviZ object.

    Groups: ``posterior`` with one variable ``x`` of dims (chain, draw, x_dim), or one scalar variable per name;
    ``sample_stats`` with ``lp``, the unnormalised log density; ``inner``, if there is any, with the diagnostics of
    each noise level, dims (chain, level) and coordinates ``level``, ``t``, ``sigma``, ``log_snr``, among them
    ``mode_share`` with one dim more.

    Args:
        result: What :func:`rdmc.sample` returned.
        names: One per coordinate; by default those of the result.

    Returns:
        ``arviz.InferenceData`` under ArviZ 0.x, ``xarray.DataTree`` under 1.x.

    Raises:
        ValueError: If ``names`` is not one distinct, unreserved text per coordinate.
        ImportError: If ArviZ is not installed.
    """
    import xarray as xr

    samples = _array(result.samples)
    chains, draws, dim = samples.shape
    chosen = check_names(names if names is not None else result.names, dim)
    attrs = _attributes(result)
    index = {"chain": np.arange(chains), "draw": np.arange(draws)}
    if chosen is None:
        posterior = xr.Dataset({"x": (("chain", "draw", "x_dim"), samples)}, {**index, "x_dim": np.arange(dim)}, attrs)
    else:
        posterior = xr.Dataset(
            {name: (("chain", "draw"), samples[..., i]) for i, name in enumerate(chosen)}, index, attrs
        )
    groups = {
        "posterior": posterior,
        "sample_stats": xr.Dataset({"lp": (("chain", "draw"), _array(result.log_density))}, index, attrs),
    }
    inner = _inner(result, attrs)
    if inner is not None:
        groups["inner"] = inner
    return assemble(groups)


def assemble(groups: Mapping[str, xr.Dataset]) -> Any:
    """The groups as ``arviz.InferenceData`` under ArviZ 0.x, as ``xarray.DataTree`` under 1.x.

    Raises:
        ImportError: If ArviZ is not installed.
    """
    import xarray as xr

    from rdmc.diagnostics.convergence import import_arviz

    az = import_arviz()
    if int(az.__version__.split(".")[0]) >= 1:  # 1.x still has a name `InferenceData`, so only the version tells
        return xr.DataTree.from_dict(dict(groups))
    idata = az.InferenceData()
    idata.add_groups(dict(groups), warn_on_custom_groups=False)
    return idata


def write_netcdf(result: Exportable, path: str | os.PathLike[str], names: Sequence[str] | None = None) -> Path:
    """Write :func:`to_arviz` of the result to a netCDF file, in one piece or not at all.

    Args:
        result: What :func:`rdmc.sample` returned.
        path: File to write or replace; ``arviz.from_netcdf`` reads it.
        names: One per coordinate; by default those of the result.

    Returns:
        The path.

    Raises:
        ValueError: If the folder does not exist, or for wrong ``names``.
        ImportError: If ArviZ, h5netcdf or h5py (which h5netcdf doesn't bring) is not installed.
    """
    data = to_arviz(result, names)
    with atomic_path(path) as temporary:
        data.to_netcdf(str(temporary), engine="h5netcdf")
    return Path(path)
