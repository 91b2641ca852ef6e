"""The one entry point and the one loop."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rdmc.arguments import whole
from rdmc.checkpoint import Checkpoint
from rdmc.compiling import chosen
from rdmc.density import Density, HasLogDensity, as_density
from rdmc.diagnostics.rules import PAGE, findings
from rdmc.errors import SamplingWarning, SamplingWarningError
from rdmc.export import check_names
from rdmc.journal import Journal
from rdmc.memory import budget, rows_within
from rdmc.progress import Progress
from rdmc.registry import SAMPLERS, sampler_named
from rdmc.result import Result
from rdmc.rng import Streams
from rdmc.run import Run
from rdmc.sampler import Sampler
from rdmc.typing import LogDensity

__all__ = ["sample"]

_LEAST = 20  # gradient evaluations a draw that any of the samplers makes at its defaults


def sample(
    log_density: LogDensity | Density | HasLogDensity,
    dim: int | None = None,
    draws: int = 1000,
    chains: int = 4,
    sampler: str | Sampler[Any] = "auto",
    seed: int = 0,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progressbar: bool = True,
    strict: bool = False,
    names: Sequence[str] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    compile: bool | str = "auto",  # noqa: A002  # torch's word
) -> Result:
    """Draw from an unnormalised log density.

    Args:
        log_density: Batched torch callable ``(M, d) -> (M,)``; a per-point ``(d,) -> ()`` is recognised and mapped. Or a
            :class:`rdmc.Density`, or an object with ``dim`` and ``log_density``.
        dim: Dimension; required for a bare callable.
        draws: Draws of each chain.
        chains: Independent populations, each with its own random streams.
        sampler: A name (``rdmc.SAMPLERS`` lists them) or a sampler object.
        seed: Non-negative integer; the same seed gives the same bits.
        device: Default ``"cpu"``.
        dtype: Default ``torch.float64``.
        progressbar: Show a bar, and at the end, once, what :meth:`Result.check` says against the run.
        strict: Raise at the end if :meth:`Result.check` lists a problem.
        names: Names of the coordinates; by default what the object calls its ``coordinates``, if it does.
        executor: Where batches of draws run: a :class:`concurrent.futures.Executor` (processes, Dask, MPI,
            :class:`rdmc.RayExecutor`), or a function that makes one. The same bits as without, whatever the number of workers; a
            batch whose worker dies is run again. The search for modes and for a reference runs here.
        checkpoint: A file that keeps what is done. The same call goes on where another process was stopped, and gives the same bits
            as a run that was not.
        memory: Bytes that an evaluation of the density may take: larger batches are evaluated in parts. Default: 2 GiB, on a GPU a
            quarter of its memory. On a CPU the parts are also small enough for its cache.
        compile: Fuse the density and its gradient by ``torch.compile``; ``"auto"`` does where the counts of the run promise to
            repay it. A density that can't be compiled runs as it is, with a warning. Compiled runs have bits of their own.

    Returns:
        The result. Ctrl-C ends the run early with what is there, marked ``partial``.

    Warns:
        SamplingWarning: Where progress is shown and there are problems: each with its remedy and the section that explains it.

    Raises:
        ValueError: If an argument is out of range; the message names it, what was wanted and what came.
        DensityError: If ``log_density`` does not keep its contract.
        ImproperDensityError: If the mass runs off to infinity.
        NonFiniteDensityError: If too many evaluations give NaN or ``+inf``.
        CheckpointError: If the file is damaged, belongs to another run, or can't be written.
        WorkerLostError: If the same batch has lost its worker three times.
        Exception: What ``log_density`` raises. Where parts of the run were done, the exception has them as ``.partial``.
        SamplingWarningError: With ``strict``, carrying the result.

    Example:
        >>> import rdmc
        >>> result = rdmc.sample(lambda x: -0.5 * x.square().sum(-1), dim=2, draws=50, progressbar=False)
        >>> tuple(result.samples.shape)
        (4, 50, 2)
    """
    draws, chains, seed = _count("draws", draws, 1), _count("chains", chains, 1), _count("seed", seed, 0)
    memory = None if memory is None else _count("memory", memory, 1)
    name, engine = _resolve(sampler)
    clock = time.perf_counter()
    density = as_density(log_density, dim, dtype=dtype or torch.float64, device="cpu" if device is None else device)
    given = names if names is not None else getattr(log_density, "coordinates", None)
    names = check_names(given, density.dim)
    probes = _probes(density, seed)
    density = density.check(probes)
    density = replace(density, rows=rows_within(density, budget(density.device, memory), probes))
    density = chosen(density, compile, _LEAST * draws * chains, probes)
    run = Run(engine, density, draws, chains, seed, name, names, clock)
    identity = run.identity(density(_probes(density, 0)))
    with (
        _opened(checkpoint, identity, engine) as kept,
        Progress(None, name, enabled=progressbar) as bar,
    ):
        result = run.go(Journal(density.counter, kept, bar.note), bar, executor)
    if strict and (problems := result.check()):
        raise SamplingWarningError("the run finished, but: " + "; ".join(problems), result=result)
    if progressbar and (found := findings(result)):
        told = "\n".join(f"- {message} ({PAGE}#{rule})" for rule, message in found)
        warnings.warn(f"{name}, seed {seed}: `result.check()` lists\n{told}", SamplingWarning, stacklevel=2)
    return result


@contextmanager
def _opened(
    path: str | os.PathLike[str] | None, identity: dict[str, object], engine: Sampler[Any]
) -> Iterator[Checkpoint | None]:
    """The checkpoint of this run, or None."""
    if path is None:
        yield None
        return
    kept = Checkpoint(path, identity, ("rdmc", type(engine).__module__.split(".")[0]))
    try:
        yield kept
    finally:
        kept.close()


def _probes(density: Density, seed: int) -> Tensor:
    """``(M, d)`` points for the first evaluation, M != d."""
    count = 3 if density.dim != 3 else 4
    rng = Streams.seeded(seed, [count], [(0xFFFFFFFE,)], dtype=density.dtype, device=density.device)
    return rng.normal((count, density.dim))


def _resolve(sampler: str | Sampler[Any]) -> tuple[str, Sampler[Any]]:
    if isinstance(sampler, str):
        return sampler, sampler_named(sampler)
    if isinstance(sampler, type):
        raise ValueError(
            f"`sampler` must be a sampler object or one of {sorted(SAMPLERS)}, got the class {sampler.__name__}; "
            f"pass `{sampler.__name__}()`"
        )
    if not all(
        callable(getattr(sampler, method, None)) for method in ("batches", "prepare", "start", "advance", "collect")
    ):
        raise ValueError(f"`sampler` must be a sampler object or one of {sorted(SAMPLERS)}, got {sampler!r}")
    return type(sampler).__name__.lower(), sampler


def _count(name: str, value: object, minimum: int) -> int:
    count = whole(value)
    if count is None or count < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")
    return count
