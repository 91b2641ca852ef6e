"""From the draws of many shards to those of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rdmc.sampler import Block, Unit

__all__ = ["Batch", "Parts", "joined_draws", "joined_evidence", "joined_inner", "measured_units"]

Batch = tuple[tuple[Unit, ...], Block]
"""Shards that ran side by side, and what they gave together."""

Parts = Sequence[tuple[Unit, Block]]
"""What every shard gave, in order of chain and shard."""

_COMBINE = {"rhat": np.fmax, "ess": np.fmin, "evaluations": np.add, "seconds": np.add}


def _by_unit(batches: Sequence[Batch]) -> Parts:
    """Draws, diagnostics and evidence of every shard on its own; costs of all together are shared out."""
    parts: list[tuple[Unit, Block]] = []
    for units, block in batches:
        none: list[Tensor | None] = [None] * len(units)
        samples = block.samples.split([unit.particles for unit in units])
        evidence = none if block.log_evidence is None else block.log_evidence.split(1)
        variance = none if block.evidence_variance is None else block.evidence_variance.split(1)
        particles = sum(unit.particles for unit in units)
        inner = [
            {
                name: v[i] if v.ndim > 1 else _part(name, v, unit.particles / particles)
                for name, v in block.inner.items()
            }
            for i, unit in enumerate(units)
        ]
        parts += zip(units, map(Block, samples, inner, evidence, variance), strict=True)
    return sorted(parts, key=lambda part: part[0])


def _part(name: str, values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Of what was measured for all shards of a batch, what belongs to one with a share of the particles."""
    return values * share if _COMBINE.get(name) is np.add else values


def measured_units(batches: Sequence[Batch]) -> Parts:
    """What every shard gave, of the batches that have diagnostics or an evidence: thousands of chains often have neither."""
    return _by_unit([batch for batch in batches if batch[1].inner or batch[1].log_evidence is not None])


def joined_draws(batches: Sequence[Batch], draws: int) -> Tensor:
    """``(chains, draws, d)``; an interrupted run keeps as many draws of each chain as the shortest has."""
    units, block = batches[0]
    if len(batches) == 1 and all(unit == (i, 0, 1) for i, unit in enumerate(units)):
        # thousands of chains, side by side
        return block.samples[:, :draws].contiguous()
    by_chain: dict[int, list[Tensor]] = {}
    for unit, block in _by_unit(batches):
        by_chain.setdefault(unit.chain, []).append(block.samples.flatten(0, 1))
    lengths = [sum(map(len, parts)) for parts in by_chain.values()]
    length = min(draws, *lengths)
    first = next(iter(by_chain.values()))[0]
    out = first.new_empty((len(by_chain), length, first.shape[-1]))
    for own, parts in zip(out, by_chain.values(), strict=True):
        begin = 0
        for part in parts:
            end = min(length, begin + len(part))
            own[begin:end] = part[: end - begin]
            begin = end
    return out


def joined_inner(blocks: Parts) -> Mapping[str, NDArray[np.float64]]:
    """``(chains, levels)`` diagnostics: the worst over a chain's shards where there is a worst, sums of costs, else the average."""
    chains = sorted({unit.chain for unit, _ in blocks})
    fields = {field for _, block in blocks for field in block.inner}
    levels = max((len(values) for _, block in blocks for values in block.inner.values()), default=0)
    out = {}
    for field in sorted(fields):
        table = np.full((len(chains), levels), math.nan)
        for row, chain in enumerate(chains):
            # a batch that was interrupted early lacks what is known at the end
            shards = [(u, block.inner[field]) for u, block in blocks if u.chain == chain and field in block.inner]
            if not shards:
                continue
            columns = [np.pad(values, (0, levels - len(values)), constant_values=math.nan) for _, values in shards]
            if field in _COMBINE:
                table[row] = _COMBINE[field].reduce(columns)
            else:
                table[row] = np.average(columns, axis=0, weights=[unit.particles for unit, _ in shards])
        out[field] = table
    return out


_WITHIN = 4.0  # how many times as much a variance known within populations says as one from their spread


def joined_evidence(blocks: Parts, partial: bool = False) -> tuple[float | None, float | None]:
    r"""Log of the mean over chains of their evidences, and its standard error.

    With Z_c the chains' estimates and Z their mean, :math:`\mathrm{se}(\log Z) = s / (Z \sqrt{C})` (delta method). The
    variance s^2 is that of the Z_c, which from four chains is off by a factor of two as often as not; where the sampler estimates
    the variance within each chain too, it is the average of both, the second weighted four times.

    Args:
        blocks: What every shard gave.
        partial: Whether the run was interrupted: shards that did not finish have NaN and are left out. In a whole run it stays.
    """
    by_chain: dict[int, list[float]] = {}
    within: list[float] = []
    for unit, block in blocks:
        if block.log_evidence is not None and not (partial and math.isnan(float(block.log_evidence))):
            value = float(block.log_evidence)
            by_chain.setdefault(unit.chain, []).append(value)
            if block.evidence_variance is not None:
                within.append(float(block.evidence_variance))
    if not by_chain:
        return None, None
    if any(math.isnan(value) for values in by_chain.values() for value in values):
        return math.nan, None
    units = sum(map(len, by_chain.values()))
    logs = np.array([np.logaddexp.reduce(values) - math.log(len(values)) for values in by_chain.values()])
    top = float(logs.max())
    if not math.isfinite(top):  # no weight anywhere
        return top, None
    relative = np.exp(logs - top)
    mean = float(relative.mean())
    variances = [float(relative.var(ddof=1)) / mean**2 / len(logs)] if len(logs) > 1 else []
    weights = [1.0] * len(variances)
    if within:
        variances.append(float(np.mean(within)) / units)
        weights.append(_WITHIN)
    error = math.sqrt(float(np.average(variances, weights=weights))) if variances else None
    return top + math.log(mean), error
