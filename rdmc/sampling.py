"""The one entry point and the one loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.density import Density, HasLogDensity, as_density
from rdmc.diagnostics.modes import MODE_COLUMNS, mode_table
from rdmc.errors import SamplingWarningError
from rdmc.progress import Progress
from rdmc.registry import SAMPLERS, sampler_named
from rdmc.result import Result
from rdmc.rng import Streams
from rdmc.sampler import Block, Plan, Sampler, Unit
from rdmc.table import Table
from rdmc.typing import LogDensity

__all__ = ["sample"]


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
        progressbar: Show a bar.
        strict: Raise at the end if :meth:`Result.check` lists a problem.
        names: Names of the coordinates.

    Returns:
        The result. Ctrl-C ends the run early with what is there, marked ``partial``.

    Raises:
        ValueError: If an argument is out of range; the message names it, what was wanted and what came.
        DensityError: If ``log_density`` does not keep its contract.
        ImproperDensityError: If the mass runs off to infinity.
        NonFiniteDensityError: If too many evaluations give NaN or ``+inf``.
        SamplingWarningError: With ``strict``, carrying the result.

    Example:
        >>> import rdmc
        >>> result = rdmc.sample(lambda x: -0.5 * x.square().sum(-1), dim=2, draws=50, progressbar=False)
        >>> tuple(result.samples.shape)
        (4, 50, 2)
    """
    _require_count("draws", draws, 1)
    _require_count("chains", chains, 1)
    _require_count("seed", seed, 0)
    name, engine = _resolve(sampler)
    clock = time.perf_counter()
    density = as_density(log_density, dim, dtype=dtype or torch.float64, device=device or "cpu")
    density = density.check(_probes(density, seed))
    plan = engine.prepare(density, seed)
    blocks, partial = _run(engine, density, plan, draws, chains, seed, name, progressbar)
    samples = _stack(blocks, draws)
    values = density(samples)
    log_evidence, log_evidence_mcse = _evidence(blocks)
    result = Result(
        samples=samples,
        log_density=values,
        log_evidence=log_evidence,
        log_evidence_mcse=log_evidence_mcse,
        gradient_evaluations=density.counter.gradients,
        density_evaluations=density.counter.densities,
        seconds=time.perf_counter() - clock,
        modes=_modes(plan, samples, values),
        stages=plan.stages,
        inner=_inner(blocks),
        sampler=name,
        config=repr(engine),
        seed=seed,
        partial=partial,
        names=tuple(names) if names is not None else None,
    )
    if strict and (problems := result.check()):
        raise SamplingWarningError("the run finished, but: " + "; ".join(problems), result=result)
    return result


def _run(
    engine: Sampler[Any],
    density: Density,
    plan: Plan,
    draws: int,
    chains: int,
    seed: int,
    name: str,
    progressbar: bool,
) -> tuple[list[tuple[Unit, Block]], bool]:
    """Advance every batch stage by stage: the loop. On Ctrl-C, what is there."""
    batches = engine.batches(draws, chains)
    finished: list[tuple[Unit, Block]] = []
    state: Any = None
    units: tuple[Unit, ...] = ()
    with Progress(None, name, enabled=progressbar) as bar:
        try:
            for index, units in enumerate(batches):
                keys = [(unit.chain, unit.shard) for unit in units]
                sizes = [unit.particles for unit in units]
                rng = Streams.seeded(seed, sizes, keys, dtype=density.dtype, device=density.device)
                state = engine.start(density, plan, rng, draws)
                while (progress := engine.progress(plan, state)).done < progress.total:
                    state = engine.advance(density, plan, state, rng)
                    done = engine.progress(plan, state)
                    bar.update(
                        index * done.total + done.done, density.counter.gradients, total=done.total * len(batches)
                    )
                finished += _split(units, engine.collect(density, plan, state))
                state = None
        except KeyboardInterrupt:
            if state is not None:
                finished += _split(units, engine.collect(density, plan, state))
            if not finished:
                raise
            return finished, True
    return finished, False


def _split(units: tuple[Unit, ...], block: Block) -> list[tuple[Unit, Block]]:
    """A batch's draws, diagnostics and evidence by unit."""
    parts = block.samples.split([unit.particles for unit in units])

    def by_unit(part: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(units) if part is None else part.split(1)

    evidence, variance = by_unit(block.log_evidence), by_unit(block.evidence_variance)
    inner = [{name: v if v.ndim == 1 else v[i] for name, v in block.inner.items()} for i in range(len(units))]
    return [(unit, Block(*own)) for unit, *own in zip(units, parts, inner, evidence, variance, strict=True)]


def _stack(blocks: list[tuple[Unit, Block]], draws: int) -> Tensor:
    """``(chains, draws, d)``; an interrupted run keeps as many draws of each chain as the shortest has."""
    by_chain: dict[int, list[Tensor]] = {}
    for unit, block in blocks:
        by_chain.setdefault(unit.chain, []).append(block.samples.flatten(0, 1))
    joined = [torch.cat(parts) for _, parts in sorted(by_chain.items())]
    length = min(draws, *(len(part) for part in joined)) if len(joined) > 1 else min(draws, len(joined[0]))
    return torch.stack([part[:length] for part in joined])


_COMBINE = {"rhat": np.fmax, "ess": np.fmin, "evaluations": np.add, "seconds": np.add}


def _inner(blocks: list[tuple[Unit, Block]]) -> Mapping[str, NDArray[np.float64]]:
    """``(chains, levels)`` diagnostics: the worst over a chain's shards where there is a worst, sums of costs, else the average."""
    chains = sorted({unit.chain for unit, _ in blocks})
    fields = {field for _, block in blocks for field in block.inner}
    levels = max((len(values) for _, block in blocks for values in block.inner.values()), default=0)
    out = {}
    for field in sorted(fields):
        table = np.full((len(chains), levels), math.nan)
        for row, chain in enumerate(chains):
            shards = [(unit, block.inner[field]) for unit, block in blocks if unit.chain == chain]
            columns = [np.pad(values, (0, levels - len(values)), constant_values=math.nan) for _, values in shards]
            if field in _COMBINE:
                table[row] = _COMBINE[field].reduce(columns)
            else:
                table[row] = np.average(columns, axis=0, weights=[unit.particles for unit, _ in shards])
        out[field] = table
    return out


_WITHIN = 4.0  # how many times as much a variance known within populations says as one from their spread


def _evidence(blocks: list[tuple[Unit, Block]]) -> tuple[float | None, float | None]:
    r"""Log of the mean over chains of their evidences, and its standard error.

    With Z_c the chains' estimates and Z their mean, :math:`\mathrm{se}(\log Z) = s / (Z \sqrt{C})` (delta method). The
    variance s^2 is that of the Z_c, which from four chains is off by a factor of two as often as not; where the sampler estimates
    the variance within each chain too, it is the average of both, the second weighted four times.
    """
    by_chain: dict[int, list[float]] = {}
    within: list[float] = []
    for unit, block in blocks:
        if block.log_evidence is not None and math.isfinite(value := float(block.log_evidence)):
            by_chain.setdefault(unit.chain, []).append(value)
            if block.evidence_variance is not None:
                within.append(float(block.evidence_variance))
    if not by_chain:
        return None, None
    units = sum(map(len, by_chain.values()))
    logs = np.array([np.logaddexp.reduce(values) - math.log(len(values)) for values in by_chain.values()])
    top = float(logs.max())
    relative = np.exp(logs - top)
    mean = float(relative.mean())
    variances = [float(relative.var(ddof=1)) / mean**2 / len(logs)] if len(logs) > 1 else []
    weights = [1.0] * len(variances)
    if within:
        variances.append(float(np.mean(within)) / units)
        weights.append(_WITHIN)
    error = math.sqrt(float(np.average(variances, weights=weights))) if variances else None
    return top + math.log(mean), error


def _modes(plan: Plan, samples: Tensor, values: Tensor) -> Table:
    """The mode table, in the pilot's terms."""
    if plan.survey is None:
        return Table({column: [] for column in MODE_COLUMNS})
    affine = plan.survey.affine
    table = mode_table(affine.to_white(samples), values, plan.survey.surrogate, plan.survey.groups())
    where = torch.tensor(table["location"], dtype=samples.dtype, device=samples.device)
    columns = {column: table[column] for column in table.columns}
    return Table({**columns, "location": affine.to_user(where).tolist()})


def _probes(density: Density, seed: int) -> Tensor:
    """``(M, d)`` points for the first evaluation, M != d."""
    count = 3 if density.dim != 3 else 4
    rng = Streams.seeded(seed, [count], [(0xFFFFFFFE,)], dtype=density.dtype, device=density.device)
    return rng.normal((count, density.dim))


def _resolve(sampler: str | Sampler[Any]) -> tuple[str, Sampler[Any]]:
    if isinstance(sampler, str):
        return sampler, sampler_named(sampler)
    if not all(
        callable(getattr(sampler, method, None)) for method in ("batches", "prepare", "start", "advance", "collect")
    ):
        raise ValueError(f"`sampler` must be a sampler object or one of {sorted(SAMPLERS)}, got {sampler!r}")
    return type(sampler).__name__.lower(), sampler


def _require_count(name: str, value: int, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")
