"""The default sampler's contract: bits, shards, few draws, edges, dtype, and the record it keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
import targets
from rdmc.auto import Auto, AutoState, Prepared
from rdmc.coordinates import Affine
from rdmc.correct.refine import STAGE_COLUMNS, Refined, Refinement
from rdmc.density import Density
from rdmc.locate.folding import Folding
from rdmc.locate.survey import Survey
from rdmc.particles import evenly
from rdmc.rng import SHARD_SIZE
from rdmc.sampler import Plan
from rdmc.table import Table
from tests.correct.cases import pair, streams
from tests.correct.test_tempering import CHEAP, LOG_Z, lopsided
from tests.laws.cases import F
from tests.marks import slow
from tests.quick import QUICK
from tests.stats import assert_within


def run(log_density: object, **options: object) -> rdmc.Result:
    return rdmc.sample(log_density, **{"draws": 40, "progressbar": False, **options})  # type: ignore[arg-type]


def test_a_chain_does_not_depend_on_the_others() -> None:
    target = targets.two_modes(3)
    one, three = (run(target, chains=chains, seed=2) for chains in (1, 3))
    assert torch.equal(three.samples[0], one.samples[0])
    assert not torch.equal(three.samples[1], three.samples[0])
    assert torch.equal(run(target, chains=3, seed=2).samples, three.samples)
    assert not torch.equal(run(target, chains=3, seed=3).samples, three.samples)


@pytest.mark.parametrize("draws", [1, 255, 256, 257, SHARD_SIZE, SHARD_SIZE + 1, 3 * SHARD_SIZE + 5])
def test_shards_of_a_population_are_equal_and_enough(draws: int) -> None:
    batches = Auto().batches(draws, 2)
    for chain in range(2):
        sizes = [unit.particles for (unit,) in batches if unit.chain == chain]
        assert len(set(sizes)) == 1 and 256 <= sizes[0] <= SHARD_SIZE
        assert max(draws, 256) <= sum(sizes) < max(draws, 256) + len(sizes)
    assert len({(unit.chain, unit.shard) for (unit,) in batches}) == len(batches)


@pytest.mark.parametrize(("particles", "draws"), [(256, 1), (256, 2), (256, 7), (300, 299), (64, 64), (64, 100)])
def test_the_first_draws_are_spread_over_all_particles(particles: int, draws: int) -> None:
    order = evenly(particles, draws, torch.device("cpu"))
    assert order.sort().values.tolist() == list(range(particles))
    picked = torch.cat([torch.tensor([0]), order[: min(draws, particles)], torch.tensor([particles - 1])])
    assert int(picked.diff().abs().max()) <= math.ceil(2 * particles / draws)


def planned(auto: Auto) -> tuple[Density, Plan]:
    """A plan around the lopsided reference: a mode of half the mass has .05 of its draws."""
    target, reference = lopsided()
    trial = auto.refinement.tempering.learn(target, reference, streams(1000, 0, 8))
    survey = Survey(Affine.identity(2), pair(0.5), torch.zeros(2, dtype=F), torch.ones(2, dtype=torch.int64), 0.0)
    return target, Plan(survey, Prepared(Refined(survey, reference, trial, Table({})), Folding(survey.affine, None)))


def population(auto: Auto, density: Density, plan: Plan, draws: int, key: int) -> AutoState:
    rng = streams(256, 5, key)
    state = auto.start(density, plan, rng, draws)
    while (progress := auto.progress(plan, state)).done < progress.total:
        state = auto.advance(density, plan, state, rng)
    return state


@pytest.mark.parametrize("draws", [2, *slow(1, 16)])
def test_few_draws_of_a_population_have_the_law_of_all(draws: int) -> None:
    """Resampled particles stand in the order of their ancestors; the first and last of them must be like any other."""
    auto = Auto(refinement=Refinement(tempering=CHEAP))
    density, plan = planned(auto)
    share, evidence = [], []
    for key in range(400):
        block = auto.collect(density, plan, population(auto, density, plan, draws, key))
        assert block.log_evidence is not None
        share.append((block.samples[:draws, 0, 0] < 0.0).double().mean())
        evidence.append((block.log_evidence - LOG_Z).exp())
    for label, values, truth in (("mode weight", share, 0.5), ("evidence", evidence, 1.0)):
        found = torch.stack(values).flatten()
        # a population of 256 and its weights: bias of the mode weight O(1/256)
        assert_within(found.mean(), truth, found.std() / 400**0.5, 400, allowance=0.01, label=f"{draws}: {label}")


def test_many_small_runs_have_the_right_mean() -> None:
    target = targets.two_modes(2)
    result = run(target, draws=3, chains=120, seed=4)
    assert result.samples.shape == (120, 3, 2)
    assert target.mode_weights is not None
    first = (target.mode_of(result.samples.flatten(0, 1)) == 0).double().view(120, 3).mean(1)
    assert_within(first.mean(), target.mode_weights[0], first.std() / 120**0.5, 120, label="mode weight")


def test_in_single_precision_the_law_is_the_same() -> None:
    target = targets.two_modes(8)
    result = run(target, draws=500, dtype=torch.float32)
    assert result.samples.dtype == result.log_density.dtype == torch.float32
    assert result.log_evidence is not None and result.log_evidence_mcse is not None and target.log_z is not None
    assert_within(result.log_evidence, target.log_z, result.log_evidence_mcse, allowance=0.01, label="evidence")
    x = result.samples.flatten(0, 1).double()
    exact = target.sample(100_000, torch.Generator().manual_seed(0))
    assert_within(x.mean(0), exact.mean(0), x.std(0) / 1500**0.5, label="mean")


def half_normal(x: Tensor) -> Tensor:
    """x > 0 exponential of mean 1; 0 < y < 2 of density y."""
    x, y = x.unbind(-1)
    inside = (x > 0.0) & (y > 0.0) & (y < 2.0)
    return torch.where(inside, -x + torch.where(inside, y, 1.0).log(), -torch.inf)


def box(x: Tensor) -> Tensor:
    """Uniform on (0, 4) x (-1, 1): flat, with four edges."""
    inside = (x[..., 0] > 0.0) & (x[..., 0] < 4.0) & (x[..., 1].abs() < 1.0)
    return torch.where(inside, 0.0 * x.sum(-1), -torch.inf)


@pytest.mark.parametrize(
    ("f", "mean", "variance", "log_z"),
    [
        (half_normal, (1.0, 4.0 / 3.0), (1.0, 2.0 / 9.0), math.log(2.0)),
        (box, (2.0, 0.0), (16.0 / 12.0, 4.0 / 12.0), math.log(8.0)),
    ],
    ids=["corner", "box"],
)
def test_hard_edges_are_kept(f: object, mean: tuple[float, ...], variance: tuple[float, ...], log_z: float) -> None:
    result = run(f, dim=2, draws=500)
    assert bool((result.log_density > -torch.inf).all())
    x, n = result.samples.flatten(0, 1), 1000.0  # of 2000 draws: resampling leaves some copies
    assert_within(x.mean(0), torch.tensor(mean), x.std(0) / n**0.5, label="mean")
    square = (x - torch.tensor(mean, dtype=F)).square()
    assert_within(square.mean(0), torch.tensor(variance), square.std(0) / n**0.5, label="variance")
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert_within(result.log_evidence, log_z, result.log_evidence_mcse, allowance=0.02, label="evidence")


def test_cauchy_tails_are_reached() -> None:
    """Of ten independent Cauchy laws: without references of such tails the evidence was 10 standard errors off."""
    result = rdmc.sample(lambda x: -torch.log1p(x.square()).sum(-1), dim=10, draws=250, seed=0, progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert_within(result.log_evidence, 10.0 * math.log(math.pi), result.log_evidence_mcse, allowance=0.02)
    away = result.samples.flatten(0, 1).abs()
    for far in (1.0, 10.0, 100.0):
        beyond = 1.0 - 2.0 / math.pi * math.atan(far)
        se = (beyond * (1.0 - beyond) / 700.0 / 10.0) ** 0.5  # of 1000 draws: resampling leaves some copies
        assert_within((away > far).double().mean(), beyond, se, label=f"beyond {far}")


def test_the_record_accounts_for_every_gradient() -> None:
    """The stages of the search (the first with the probes), and the rungs of the populations with their first draws."""
    result = run(targets.student_mixture(5), draws=300, chains=2)
    stages = result.stages
    assert tuple(stages.columns) == (*STAGE_COLUMNS, "symmetries", "support")
    assert stages["stage"][0] == "locate" and set(stages["stage"][1:]) == {"temper"}
    assert stages["temperatures"][0] == 0 and all(count > 0 for count in stages["temperatures"][1:])
    populations = float(np.nansum(result.inner["evaluations"]))
    assert sum(stages["gradients"]) + populations == result.gradient_evaluations
    assert sum(stages["densities"]) < result.density_evaluations
    assert sum(stages["seconds"]) + float(np.nansum(result.inner["seconds"])) <= result.seconds
    assert bool((result.inner["beta"][:, -1] == 1.0).all()) and bool((np.diff(result.inner["beta"]) > 0.0).all())


def test_an_interrupted_run_keeps_finished_populations() -> None:
    calls, limit = [0], [10**9]

    def f(x: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == limit[0]:
            raise KeyboardInterrupt
        return -0.5 * x.square().sum(-1)

    whole = run(f, dim=2, chains=4, seed=1)
    limit[0], calls[0] = calls[0] - 8, 0
    part = run(f, dim=2, chains=4, seed=1)
    assert part.partial and not whole.partial and 0 < part.chains <= 4
    assert torch.equal(part.samples[:-1], whole.samples[: part.chains - 1])


@pytest.mark.parametrize("bad", [{"particles": 15}, {"rounds": 0}, {"goal": 0.0}, {"goal": 1.0}])
def test_bad_arguments_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
        Refinement(**bad)  # type: ignore[arg-type]


def test_effort_buys_particles_and_moves() -> None:
    results = [run(targets.two_modes(8), sampler=Auto(effort=effort), seed=1) for effort in (1.0, 4.0)]
    costs = [result.gradient_evaluations for result in results]
    errors = [result.log_evidence_mcse for result in results]
    assert costs[1] > 4 * costs[0]
    assert errors[0] is not None and errors[1] is not None and errors[1] < 0.7 * errors[0]
    with pytest.raises(ValueError, match=r"`effort` must be a positive float, got 0.0"):
        Auto(effort=0.0)


def test_a_tolerance_is_kept_and_changes_no_number_of_draws() -> None:
    """Over 12 seeds the errors have the size that was asked for, and so does what is reported of them."""
    tolerance = 0.01
    quick = replace(QUICK, tolerance=tolerance)
    results = [run(targets.two_modes(8), sampler=quick, seed=seed) for seed in range(12)]
    assert {tuple(result.samples.shape) for result in results} == {(4, 40, 8)}
    reported = [result.log_evidence_mcse or math.nan for result in results]
    assert_within(sum(reported) / 12, tolerance, 0.06 * tolerance, label="reported error")
    # 12 squares of normal errors are a chi-square of 12: between 1.1 and 41 but for 1 in 10,000
    square = sum((float(result.log_evidence or math.nan) / tolerance) ** 2 for result in results)
    assert 1.1 < square < 41.0, f"12 errors of {tolerance} have a sum of squares of {square:.3g} tolerances"
    with pytest.raises(ValueError, match=r"`tolerance` must be None or a positive float, got -0.1"):
        Auto(tolerance=-0.1)


def test_a_tolerance_has_the_streams_of_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a population needs more than one shard, each has the same size, and each its own evidence."""
    monkeypatch.setattr("rdmc.auto._MOST", 20_000)
    result = run(targets.two_modes(8), sampler=Auto(tolerance=1e-5), chains=2)
    assert result.samples.shape == (2, 40, 8)
    assert_within(
        float(result.log_evidence or math.nan), 0.0, float(result.log_evidence_mcse or math.nan), label="log evidence"
    )
    assert 8_000 < result.gradient_evaluations / 17 < 60_000
