"""The result of a run: draws, evidence, modes, cost, and what is wrong with them; saved and loaded without pickle."""

from __future__ import annotations

import html
import importlib.metadata
import io
import os
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.diagnostics.capture import Capture, capture
from rdmc.diagnostics.convergence import Convergence, convergence
from rdmc.diagnostics.error_budget import ErrorBudget, error_budget
from rdmc.diagnostics.modes import MODE_COLUMNS
from rdmc.diagnostics.rules import check
from rdmc.diagnostics.summary import summarise
from rdmc.diagnostics.trace import trace_table
from rdmc.export import atomic_path, check_names, to_arviz
from rdmc.table import Table, dumps, loads

__all__ = ["FORMAT_VERSION", "Result", "library_versions", "load"]

_NUMBERS: dict[str, type[int] | type[float]] = {
    "log_evidence": float,
    "log_evidence_mcse": float,
    "gradient_evaluations": int,
    "density_evaluations": int,
    "seconds": float,
    "seed": int,
}
FORMAT_NAME = "rdmc.Result"
FORMAT_VERSION = 1
"""Version of the file format; raised when a reader of the older one could not read the newer."""


def library_versions() -> dict[str, str]:
    """Versions of what determines the bits of a run."""
    found = {"python": platform.python_version()}
    for name in ("rdmc", "torch", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[name] = "unknown"
    return found


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Result:
    """Draws from a target with everything known about them.

    Attributes:
        samples: ``(chains, draws, dim)`` in the user's coordinates; chains are independent populations.
        log_density: ``(chains, draws)`` unnormalised log density at the draws.
        log_evidence: Log of the normalising constant, or None where the sampler has no estimate.
        log_evidence_mcse: Its Monte Carlo standard error, or None.
        gradient_evaluations: Points at which value and gradient were asked for, everything counted.
        density_evaluations: Points at which the value alone was asked for.
        seconds: Wall-clock time of the run.
        modes: One row per mode: location, weight, weight_mcse, log_density, chains_found (and weight_by_chain).
        inner: Diagnostics of each noise level, ``(chains, levels)`` arrays, NaN where not applicable, in the order of
            the run. Keys with a meaning: t, sigma, log_snr, rhat, ess, mcse, acceptance, jump_acceptance, nonfinite,
            evaluations, seconds, the error terms of :class:`rdmc.level.Level`, and the frequencies of the modes by
            level, "mode 0" and so on.
        places: The modes that these frequencies are of, one row each; see :func:`rdmc.capture.places`.
        stages: What the sampler tried before the populations ran, one row a stage; empty where it tried nothing.
        sampler: Name of the sampler.
        config: ``repr`` of the sampler object, from which the run can be repeated.
        seed: Seed of the run, or None.
        versions: Versions of the libraries that determine the bits.
        partial: Whether the run was interrupted.
        names: Names of the coordinates, or None.

    Raises:
        ValueError: If shapes disagree.
    """

    samples: Tensor
    log_density: Tensor
    log_evidence: float | None = None
    log_evidence_mcse: float | None = None
    gradient_evaluations: int = 0
    density_evaluations: int = 0
    seconds: float = float("nan")
    modes: Table = field(default_factory=lambda: Table({name: [] for name in MODE_COLUMNS}))
    inner: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    places: Table = field(default_factory=lambda: Table({}))
    stages: Table = field(default_factory=lambda: Table({}))
    sampler: str = "unknown"
    config: str = ""
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=library_versions)
    partial: bool = False
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim != 3 or 0 in self.samples.shape:
            raise ValueError(
                f"`samples` must have shape (chains, draws, dim), none of them 0, got {tuple(self.samples.shape)}"
            )
        if self.log_density.shape != self.samples.shape[:2]:
            raise ValueError(
                f"`log_density` must have shape (chains, draws) = {tuple(self.samples.shape[:2])}, "
                f"got {tuple(self.log_density.shape)}"
            )
        shapes = {name: np.shape(values) for name, values in self.inner.items()}
        if len(set(shapes.values())) > 1 or any(
            len(shape) != 2 or shape[0] != self.chains for shape in shapes.values()
        ):
            raise ValueError(f"`inner` must hold arrays of one shape ({self.chains}, levels), got {shapes}")
        if any(np.asarray(values).dtype.kind not in "fiub" for values in self.inner.values()):
            raise ValueError("`inner` must hold numbers; arrays of objects could only be saved by pickle")
        for name, kind in _NUMBERS.items():  # numpy and torch scalars would not survive JSON
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else kind(value))
        object.__setattr__(self, "samples", self.samples.detach())
        object.__setattr__(self, "log_density", self.log_density.detach())
        object.__setattr__(self, "inner", {name: np.asarray(values) for name, values in self.inner.items()})
        object.__setattr__(self, "versions", dict(self.versions))
        object.__setattr__(self, "names", check_names(self.names, self.dim))

    @property
    def chains(self) -> int:
        """Number of independent populations."""
        return self.samples.shape[0]

    @property
    def draws(self) -> int:
        """Draws in each population."""
        return self.samples.shape[1]

    @property
    def dim(self) -> int:
        """Dimension of the target."""
        return self.samples.shape[2]

    @property
    def evaluations_per_draw(self) -> float:
        """Gradient evaluations per draw, the unit in which samplers are compared."""
        return self.gradient_evaluations / (self.chains * self.draws)

    @cached_property
    def convergence(self) -> Convergence:
        """R-hat and ESS of every coordinate over the populations (computed once, by ArviZ)."""
        return convergence(self.samples)

    @cached_property
    def trace(self) -> Table:
        """One row per outer step, pooled over populations; see :func:`rdmc.diagnostics.trace.trace_table`."""
        return trace_table(self.inner)

    def check(self) -> list[str]:
        """Problems in words, each with what to do next; empty if none is known."""
        return check(self)

    def capture(self) -> Capture:
        """Which mode the particles were in, level by level; see :func:`rdmc.diagnostics.capture`."""
        return capture(self)

    def error_budget(self) -> ErrorBudget:
        """Start, discretisation and score error by noise level; see :func:`rdmc.diagnostics.error_budget`."""
        return error_budget(self)

    def summary(self) -> str:
        """What ran, what it cost, the modes with their errors, R-hat and ESS over populations, and the problems."""
        return summarise(self)

    def to_arviz(self, names: Sequence[str] | None = None) -> Any:
        """``InferenceData`` (ArviZ 0.x) or ``DataTree`` (1.x); see :func:`rdmc.export.to_arviz`."""
        return to_arviz(self, names)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an ``.npz`` file with JSON metadata, in one piece or not at all; :func:`load` gives back every bit.

        Args:
            path: File to write or replace, under exactly this name.

        Raises:
            ValueError: If the folder does not exist.
        """
        tensors = {"samples": self.samples.cpu(), "log_density": self.log_density.cpu()}
        header = {name: getattr(self, name) for name in _SCALARS}
        meta = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "dtypes": {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()},
            "inner": list(self.inner),
            "modes": {name: self.modes[name] for name in self.modes.columns},
            "stages": {name: self.stages[name] for name in self.stages.columns},
            "places": {name: self.places[name] for name in self.places.columns},
            **header,
        }
        arrays = {name: _bits(value) for name, value in tensors.items()}
        arrays |= {f"inner_{i}": values for i, values in enumerate(self.inner.values())}
        with atomic_path(path) as temporary, open(temporary, "xb") as file:
            np.savez(file, meta=np.frombuffer(dumps(meta).encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        return Path(path)

    def __repr__(self) -> str:
        evidence = "" if self.log_evidence is None else f", log_evidence={self.log_evidence:.4g}"
        state = ", partial" if self.partial else ""
        return (
            f"Result({self.sampler}: {self.chains} chains x {self.draws} draws in {self.dim} dimensions, "
            f"{len(self.modes)} modes"
            f"{evidence}, {self.evaluations_per_draw:.4g} gradients per draw{state})"
        )

    def _repr_html_(self) -> str:
        problems = "".join(f"<li>{html.escape(problem)}</li>" for problem in self.check())
        below = f"<p>Problems:</p><ul>{problems}</ul>" if problems else "<p>No problems found.</p>"
        shown = self.modes.select(*(name for name in self.modes.columns if name != "weight_by_chain"))
        return f"<p>{html.escape(repr(self))}</p>{shown._repr_html_()}{below}"


_PARTS = ("samples", "log_density", "inner", "modes", "places", "stages")
_SCALARS = tuple(f.name for f in fields(Result) if f.name not in _PARTS)


def _bits(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()
    return array


def load(path: str | os.PathLike[str]) -> Result:
    """The result that :meth:`Result.save` wrote, to the bit, on the CPU.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, was written by something else, or by a newer version of the format.
    """
    name = str(path)
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = loads(arrays.pop("meta").tobytes().decode())
        if meta["format"] != FORMAT_NAME:
            raise ValueError(f"format {meta['format']!r}")
        version = int(meta["format_version"])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise ValueError(
            f"`path` must be a file written by `Result.save`; {name!r} is not, or is damaged ({error})"
        ) from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{name!r} has format version {version}, this rdmc reads up to {FORMAT_VERSION}: use a newer rdmc"
        )
    try:
        tensors: dict[str, Any] = {}
        for key, dtype in meta["dtypes"].items():
            tensor = torch.from_numpy(arrays[key])
            tensors[key] = tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
        inner = {key: arrays[f"inner_{i}"] for i, key in enumerate(meta["inner"])}
        scalars: dict[str, Any] = {key: meta[key] for key in _SCALARS}
        scalars["names"] = None if meta["names"] is None else tuple(meta["names"])
        # files of version 1 were first written without these
        stages, places = (Table(meta.get(name, {})) for name in ("stages", "places"))
        return Result(**tensors, inner=inner, modes=Table(meta["modes"]), places=places, stages=stages, **scalars)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`path` must be a complete result; {name!r} is damaged ({type(error).__name__}: {error})"
        ) from error
