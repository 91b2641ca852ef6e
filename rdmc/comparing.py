"""Several samplers on one target at one budget: who found what, and whom to believe."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rdmc.capture import tells_more
from rdmc.comparison import COLUMNS, Comparison
from rdmc.density import Density, HasLogDensity, as_density
from rdmc.errors import SamplingWarning
from rdmc.inner import GuidedChains
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Survey
from rdmc.registry import SAMPLERS, sampler_named
from rdmc.result import Result
from rdmc.reverse import RDMC
from rdmc.sampler import Sampler, pilot_streams
from rdmc.sampling import sample
from rdmc.stein import DENSITY_COST, Yardstick, agree
from rdmc.table import Table
from rdmc.typing import LogDensity

__all__ = ["compare", "with_budget"]


def compare(
    target: LogDensity | Density | HasLogDensity,
    samplers: Sequence[str | Sampler[Any]] | Mapping[str, Sampler[Any]] | None = None,
    budget: float = 1000,
    draws: int = 200,
    chains: int = 4,
    seed: int = 0,
    *,
    seeds: int = 1,
    dim: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progressbar: bool = True,
) -> Comparison:
    """Run several samplers on one target at one budget and measure all of them alike.

    Columns: ``evaluations`` (per draw, everything counted: gradients and half the density evaluations), ``seconds``, ``rhat``
    (largest), ``ess_bulk`` and ``ess_tail`` (smallest), ``ess_per_1000`` (evaluations), ``modes`` found, ``log_evidence`` and
    ``log_evidence_mcse``, ``problems`` (their number) and ``first_problem``. If the target has exact draws, ``sliced_w2`` to
    as many of them, and if it knows its mode weights, ``mode_tv``, each beside what exact draws of that number would show
    (``_floor``). ``ksd``: kernel Stein discrepancy in the pilot's coordinates, of at most 1000 draws; it is blind to mode
    weights. ``agreement``: total variation between the mode weights and the samplers' consensus, which needs no truth.

    A sampler that raises has the status "failed" and its message in ``first_problem``; Ctrl-C ends the comparison with what
    is there.

    Args:
        target: As for :func:`rdmc.sample`; ground truth is read from a ``targets.Target`` or any object like it.
        samplers: Names, sampler objects, or a mapping of names to objects; by default every name in ``rdmc.SAMPLERS``.
        budget: Gradient evaluations per draw; :func:`with_budget` says how each sampler is held to it.
        draws: Draws of each chain.
        chains: Independent populations.
        seed: First seed.
        seeds: Runs of each sampler, with the seeds ``seed``, ``seed + 1``, ...; columns are means with standard errors.
        dim: Dimension; required for a bare callable.
        device: Default ``"cpu"``.
        dtype: Default ``torch.float64``.
        progressbar: Show a bar for each run.

    Raises:
        ValueError: If an argument is out of range or a name unknown.
        DensityError: If ``target`` does not keep its contract.

    Example:
        >>> import rdmc
        >>> def log_density(x):
        ...     return -0.5 * x.square().sum(-1)
        >>> found = rdmc.compare(log_density, ["ula", "rdmc"], budget=20, draws=20, dim=2, progressbar=False)
        >>> [row["status"] for row in found.table]
        ['ok', 'ok']
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < math.inf:
        raise ValueError(f"`budget` must be a positive number of gradient evaluations per draw, got {budget!r}")
    for name, value, least in (("draws", draws, 1), ("chains", chains, 1), ("seed", seed, 0), ("seeds", seeds, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}")
    engines = _named(samplers)
    density = as_density(target, dim, dtype=dtype or torch.float64, device=device or "cpu")
    count = (
        3 if density.dim != 3 else 4
    )  # a per-point callable is mapped, a broken one is refused here and not by each sampler
    density = density.check(pilot_streams(density, seed, count).normal((count, density.dim)))
    survey = _survey(density, engines, seed)
    yardstick = Yardstick(density, target, survey, seed)
    rows: list[dict[str, Any]] = []
    weights: list[Tensor | None] = []
    results: dict[str, tuple[Result, ...]] = dict.fromkeys(engines, ())
    left, blind, stopped = set(), set(), False
    options: dict[str, Any] = {"device": device, "dtype": dtype, "progressbar": progressbar}
    for name, engine in engines.items():
        for number in range(seed, seed + seeds):
            row: dict[str, Any] = {**dict.fromkeys(COLUMNS), "sampler": name, "seed": number, "status": "not run"}
            weight = None
            try:
                if not stopped:
                    held = with_budget(engine, budget, draws, survey)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", SamplingWarning)  # the table has the first problem of each
                        result = replace(sample(target, dim, draws, chains, held, number, **options), sampler=name)
                    stopped = result.partial
                    results[name] += (result,)
                    row["status"] = "partial" if result.partial else "ok"
                    measures, weight = yardstick.measure(result)
                    row |= measures
                    left |= set() if _is_held(engine) else {name}
                    quiet = not tells_more(result.inner)
                    blind |= {name} if quiet and _one_particle_a_draw(held, draws) else set()
            except KeyboardInterrupt:
                if not any(results.values()):
                    raise
                stopped = True
            except Exception as error:  # whatever a sampler may raise is a finding, not the end
                row |= {"status": "failed", "first_problem": f"{type(error).__name__}: {error}"}
            rows.append(row)
            weights.append(weight)
    apart, voters = agree(rows, weights, blind)
    rows = [row | {"agreement": value} for row, value in zip(rows, apart, strict=True)]
    named = getattr(target, "name", None) or getattr(target, "__name__", type(target).__name__)
    known = {"target": str(named), "dim": density.dim, "budget": budget, "draws": draws, "chains": chains}
    return Comparison(
        measures=Table.from_rows(rows, ("sampler", "seed", *COLUMNS[1:])),
        results=results,
        notes=tuple(_notes(rows, yardstick, voters, left, blind, budget)),
        settings=known | {"seed": seed, "seeds": seeds},
        truth=target if yardstick.can_sample or yardstick.true_weights is not None else None,
    )


def with_budget(sampler: Sampler[Any], budget: float, draws: int = 1000, survey: Survey | None = None) -> Sampler[Any]:
    """The sampler, held to about ``budget`` gradient evaluations per draw; the pilot comes on top.

    - A sampler with a field ``budget`` gets it.
    - :class:`rdmc.RDMC` with guided chains gets as many rounds a level (at least 1) as fit: a round costs
      ``levels x (1 + steps)`` evaluations, for the particles and their witnesses. The number of levels follows from the survey.
    - ``RDMC.published()`` gets levels and start steps, inner chains, and inner steps scaled by about one factor, the cube
      root of what the budget allows, and importance proposals by its square.
    - Any other sampler is left as it is.

    Args:
        sampler: The sampler, which isn't changed.
        budget: Gradient evaluations per draw.
        draws: Draws of each population.
        survey: What the pilot finds on this target, for the number of levels.

    Example:
        >>> with_budget(sampler_named("mala"), 250).budget
        250
        >>> with_budget(RDMC.published(), 1000).inner.then.chains
        4
    """
    if _has_budget(sampler):
        held: Sampler[Any] = replace(sampler, budget=budget)  # type: ignore[type-var]
        return held
    if not isinstance(sampler, RDMC):
        return sampler
    if sampler == RDMC.published():
        # 100 + 16 scores, each of 16 chains with 32 steps and a beginning, and 128 proposals
        factor = (budget / (116 * (16 * 33 + DENSITY_COST * 128))) ** (1 / 3)
        levels, chains, start_steps = (max(1, round(count * factor)) for count in (100, 16, 16))
        importance = max(chains, round(128 * factor**2))
        left = budget / (levels + start_steps) - DENSITY_COST * importance
        sizes = {"levels": levels, "importance": importance, "chains": chains, "start_steps": start_steps}
        return RDMC.published(**sizes, steps=max(2, int(left / chains) - 1))
    if isinstance(sampler.inner, GuidedChains) and (survey is not None or sampler.pilot is None):
        seen = survey if survey is None or sampler.coordinates is None else survey.seen_in(sampler.coordinates)
        scores = len(sampler.schedule.plan(seen)[1])
        shards = [unit.particles for batch in sampler.batches(draws, 1) for unit in batch]
        rows = sum(size + min(sampler.inner.witnesses, size) for size in shards) / draws
        rounds = max(1, int(budget / (scores * (1 + sampler.inner.steps) * rows)))
        return replace(sampler, inner=replace(sampler.inner, rounds=rounds))
    return sampler


def _is_held(sampler: Sampler[Any]) -> bool:
    """Whether :func:`with_budget` can do anything about the cost."""
    return _has_budget(sampler) or (
        isinstance(sampler, RDMC) and (isinstance(sampler.inner, GuidedChains) or sampler == RDMC.published())
    )


def _has_budget(sampler: Sampler[Any]) -> bool:
    return is_dataclass(sampler) and "budget" in {f.name for f in fields(sampler)}


def _one_particle_a_draw(sampler: Sampler[Any], draws: int) -> bool:
    """Whether no draw comes after another: then R-hat and ESS say that the draws are independent and no more."""
    units = [unit for batch in sampler.batches(draws, 1) for unit in batch]
    return sum(unit.particles for unit in units) >= draws > 1


def _named(samplers: Sequence[str | Sampler[Any]] | Mapping[str, Sampler[Any]] | None) -> dict[str, Sampler[Any]]:
    """Samplers by distinct names."""
    if samplers is None:
        every = {name: sampler_named(name) for name in SAMPLERS}
        twice = any(every["auto"] == engine for name, engine in every.items() if name != "auto")
        return {name: engine for name, engine in every.items() if not (twice and name == "auto")}
    if isinstance(samplers, str) or not samplers:
        raise ValueError(f"`samplers` must be a list of names or sampler objects, or a mapping, got {samplers!r}")
    pairs: list[tuple[str, Any]] = []
    if isinstance(samplers, Mapping):
        pairs = [(str(name), value) for name, value in samplers.items()]
    else:
        pairs = [(value if isinstance(value, str) else type(value).__name__.lower(), value) for value in samplers]
    named: dict[str, Sampler[Any]] = {}
    for name, value in pairs:
        engine = sampler_named(value) if isinstance(value, str) else value
        if not all(callable(getattr(engine, part, None)) for part in ("batches", "prepare", "start", "advance")):
            raise ValueError(f"`samplers` must hold names ({', '.join(SAMPLERS)}) or sampler objects, got {value!r}")
        number, own = 1, name
        while own in named:
            number, own = number + 1, f"{name}-{number + 1}"
        named[own] = engine
    return named


def _survey(density: Density, engines: Mapping[str, Sampler[Any]], seed: int) -> Survey | None:
    """What the first pilot among the samplers finds: modes to tell apart, coordinates, levels; None if it fails."""
    pilots = [pilot for engine in engines.values() if (pilot := getattr(engine, "pilot", None)) is not None]
    pilot = pilots[0] if pilots else Pilot()
    try:
        found: Survey = pilot.run(density, pilot_streams(density, seed, pilot.starts))
    except (ValueError, RuntimeError):  # the samplers that need a pilot will say it better
        return None
    return found


def _notes(
    rows: Sequence[Mapping[str, Any]],
    yardstick: Yardstick,
    voters: Sequence[str],
    left: set[str],
    blind: set[str],
    budget: float,
) -> Iterator[str]:
    """What has to be known to read the table."""
    yield (
        f"Budget: {budget:g} gradient evaluations a draw. `evaluations` counts everything, pilot and warm-up too, and an "
        f"evaluation of the density alone as {DENSITY_COST:g}."
    )
    if left:
        yield f"{_list(left)}: no budget to set, so at its own cost."
    if yardstick.true_weights is not None:
        yield "Modes are the target's own."
    elif yardstick.survey is not None:
        yield "Modes are those that the pilot found; draws in one that it missed count for another."
    if voters:
        yield (
            f"`agreement` is the total variation to the median mode weights of {_list(voters)}, whose runs have no problems. "
            "Samplers can agree on a mistake, above all on a mode that all missed."
        )
    else:
        yield "No sampler without problems has mode weights that could be a consensus, so there is no `agreement`."
    yield (
        "`ksd` sees wrong shapes of modes and is blind to their weights: draws of one mode alone can pass. Read it beside "
        "`ksd_floor`, what independent draws show."
    )
    for name in sorted(blind):
        yield (
            f"{name}: every draw is a particle of its own and nothing inside is monitored, so R-hat and ESS are fine whatever "
            "the mode weights are; nothing in this sampler could have told that they are wrong."
        )
    missed: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if (
            row["sampler"] not in blind
            and row["problems"] == 0
            and (row["mode_tv"] or 0.0) > 3.0 * (row["mode_tv_floor"] or 0.0)
        ):
            missed.setdefault(row["sampler"], []).append(row)
    for name, runs in missed.items():
        yield (
            f"{name} (seed {', '.join(str(run['seed']) for run in runs)}): no problem reported, yet its mode weights are off by "
            f"{max(run['mode_tv'] for run in runs):.2g} where exact draws are by {runs[0]['mode_tv_floor']:.2g}; nothing in this "
            "sampler could have told."
        )
    if any(row["status"] in ("partial", "not run") for row in rows):
        yield "The comparison was interrupted: what is missing was not run, and what is partial is not to be trusted."


def _list(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names) if isinstance(names, set) else names)
