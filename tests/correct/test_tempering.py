"""Sequential Monte Carlo from a reference: unbiased evidence, its error known, and nothing that a wrong reference leaves behind."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from rdmc.correct import Ladder, Population, Reference, Tempering
from rdmc.correct.judge import forward_efficiency
from rdmc.correct.temper import Rung, Stage, next_beta
from rdmc.density import Density
from rdmc.errors import DensityError
from rdmc.mixture import GaussianMixture
from rdmc.particles import ancestral_variance, systematic
from rdmc.student import StudentMixture
from tests.correct.cases import as_target, gaussian_law, pair, streams
from tests.laws.cases import F, generator, spd
from tests.marks import slow
from tests.stats import assert_within

LOG_Z = 3.0
CHEAP = Tempering(local=1, rounds=1, last=(1, 1))


def reference(mixture: GaussianMixture, df: int) -> Reference:
    law = StudentMixture(mixture, df)
    return Reference(law, law, "test")


def gaussian(dim: int = 2) -> GaussianMixture:
    one = torch.ones(1, dtype=F)
    return GaussianMixture.from_covariance(one.expand(1, dim), spd(dim, 4)[None], one)


def shifted() -> tuple[Density, Reference]:
    """A Gaussian, and a Student law 2.5 units beside it and too narrow."""
    pi = gaussian()
    off = torch.tensor([2.0, -1.5], dtype=F)
    return as_target(pi, LOG_Z), reference(
        GaussianMixture(pi.log_weight, pi.mean + off, pi.basis, 0.4 * pi.variance), 4
    )


def lopsided() -> tuple[Density, Reference]:
    """Two modes, one of them at a weight of .05 in the reference; its widths are wrong as well."""
    pi = pair(0.5)
    weight = torch.tensor([0.95, 0.05], dtype=F)
    wrong = GaussianMixture(weight.log(), pi.mean + 0.4, pi.basis, 1.5 * pi.variance)
    return as_target(pi, LOG_Z), reference(wrong, 6)


def run(
    tempering: Tempering, target: Density, own: Reference, ladder: Ladder, n: int, *key: int
) -> tuple[Population, float, list[Stage]]:
    """One population on a ladder that is given: particles, log evidence, stages."""
    rng = streams(n, *key)
    population = tempering.begin(target, own.law, rng)
    beta, stages = 0.0, []
    for rung in ladder.rungs:
        population, _, stage = tempering.step(target, own, population, beta, rung, rng)
        beta = rung.beta
        stages.append(stage)
    return population, sum(float(stage.increment) for stage in stages), stages


@lru_cache(maxsize=2)
def many(name: str) -> tuple[Tensor, Tensor]:
    """``(400,)`` ratios of estimated and true evidence from populations of 200, and the error each thinks it has."""
    target, own = {"shifted": shifted, "lopsided": lopsided}[name]()
    ladder = CHEAP.learn(target, own, streams(1000, 0, 7)).ladder
    assert len(ladder.rungs) > 1
    runs = [run(CHEAP, target, own, ladder, 200, 1, k)[1:] for k in range(400)]
    ratio = torch.tensor([math.exp(log - LOG_Z) for log, _ in runs], dtype=F)
    return ratio, torch.stack([stages[-1].spread for _, stages in runs])


@pytest.mark.parametrize("name", ["lopsided", *slow("shifted")])
def test_evidence_on_a_fixed_ladder_is_unbiased(name: str) -> None:
    ratio, _ = many(name)
    assert_within(ratio.mean(), 1.0, ratio.std() / len(ratio) ** 0.5, len(ratio), k=4.0, label=f"{name} Z")


@pytest.mark.parametrize("name", ["shifted", "lopsided"])
def test_a_population_knows_the_variance_of_its_evidence(name: str) -> None:
    ratio, spread = many(name)
    factor = float(spread.mean() / ratio.var())
    print(f"{name}: estimated {float(spread.mean()):.4g}, found {float(ratio.var()):.4g}")
    assert 1 / 1.5 < factor < 1.5, f"{name}: estimated variance is {factor:.3f} of that found"


def test_the_variance_of_an_importance_sample_is_known_in_closed_form() -> None:
    """At the first temperature it is chi-square / N."""
    log_weight = 0.8 * torch.randn(100_000, generator=generator(0), dtype=F)  # lognormal: relative variance e^.64 - 1
    found = 1e5 * float(ancestral_variance(log_weight[None], torch.arange(100_000)[None]))
    assert found == pytest.approx(math.exp(0.64) - 1.0, rel=0.05)
    one_ancestor = torch.zeros(100_000, dtype=torch.int64)
    assert float(ancestral_variance(log_weight[None], one_ancestor[None])) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", ["shifted", *slow("lopsided")])
def test_the_error_that_a_wrong_reference_leaves_falls_as_n_to_minus_a_half(name: str) -> None:
    """Root mean square over 60 populations of the error of a probability; 16 times the particles, a quarter of it.

    The logarithm of a ratio of two such numbers has standard deviation (2 / 120)^(1/2) = .13: 5 of these are allowed.
    """
    target, own = {"shifted": shifted, "lopsided": lopsided}[name]()
    ladder = CHEAP.learn(target, own, streams(1000, 0, 8)).ladder
    errors = []
    for n in (128, 512, 2048):
        found = [
            float((run(CHEAP, target, own, ladder, n, n, k)[0].x[:, 0] < bound(name)).double().mean())
            for k in range(60)
        ]
        errors.append(float((torch.tensor(found, dtype=F) - 0.5).square().mean().sqrt()))
    print(name, errors)
    assert abs(math.log(errors[0] / errors[2]) - math.log(4.0)) < 5 * 0.13
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 6.0 * 0.5 / 2048**0.5


def bound(name: str) -> float:
    """Below which half of the mass of the first coordinate is."""
    return 1.0 if name == "shifted" else 0.0


@pytest.mark.parametrize(("name", "renewed"), [("shifted", 0.1), ("shifted", 0.5), ("lopsided", 0.3)])
def test_one_local_move_a_round_is_enough_where_jumps_renew(name: str, renewed: float) -> None:
    """A ladder says so for each temperature, by the acceptance that jumps then have there; the cost is that of its moves."""
    target, own = {"shifted": shifted, "lopsided": lopsided}[name]()
    tempering = Tempering(keep=0.7, renewed=renewed)
    trial = tempering.learn(target, own, streams(4000, 4))
    before = target.counter.gradients
    _, _, stages = run(tempering, target, own, trial.ladder, 4000, 5)
    rungs = trial.ladder.rungs
    assert target.counter.gradients - before == 4000 * (1 + sum((1 + rung.local) * rung.rounds for rung in rungs))
    for rung, stage in zip(rungs, stages, strict=True):
        jumps = float(stage.jump_acceptance)
        assert rung.local in (1, 3)
        assert (rung.local == 1) == (jumps >= renewed) or abs(jumps - renewed) < 0.04, f"{rung}: {jumps}"
    if renewed == 0.5:
        assert {rung.local for rung in rungs} == {1, 3}


def test_learning_gives_a_ladder_that_keeps_what_it_says() -> None:
    target, own = shifted()
    tempering = Tempering(keep=0.6)
    trial = tempering.learn(target, own, streams(2000, 2))
    betas = [rung.beta for rung in trial.ladder.rungs]
    assert betas == sorted(betas) and betas[-1] == 1.0 and betas[0] > 0.0
    assert abs(trial.log_evidence - LOG_Z) < 0.2
    _, _, stages = run(tempering, target, own, trial.ladder, 2000, 3)
    kept = [float(stage.ess) for stage in stages]
    assert all(abs(share - 0.6) < 0.1 for share in kept[:-1]) and kept[-1] > 0.5
    assert 0.3 < float(stages[-1].acceptance) < 0.85


def test_a_perfect_reference_needs_one_temperature() -> None:
    pi = gaussian()
    own = Reference(gaussian_law(pi.mean[0], spd(2, 4)), pi, "test")
    trial = Tempering().learn(as_target(pi, LOG_Z), own, streams(500))
    assert len(trial.ladder.rungs) == 1 and trial.log_evidence == pytest.approx(LOG_Z, abs=1e-9)
    assert min(trial.judgement) == pytest.approx(1.0, abs=1e-9)
    assert trial.ladder.rungs[0].rounds == Tempering().last[0]


def test_a_learnt_run_costs_what_the_docstring_says() -> None:
    target, own = shifted()
    tempering = Tempering(local=2, rounds=1, last=(2, 2))
    ladder = Ladder(
        tuple(Rung(beta, rounds, torch.zeros(1, 1, dtype=F), 2) for beta, rounds in ((0.3, 1), (0.6, 3), (1.0, 2)))
    )
    run(tempering, target, own, ladder, 50)
    assert target.counter.gradients == 50 * (1 + 3 * (1 + 3 + 2)) and target.counter.densities == 0


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_the_next_temperature_keeps_the_share_exactly(keep: float) -> None:
    ratio = 20.0 * torch.randn(500, generator=generator(1), dtype=F)
    then = next_beta(ratio, 0.0, keep)
    assert float(forward_efficiency(then * ratio)) == pytest.approx(keep, abs=1e-4)
    assert next_beta(0.01 * ratio, 0.2, keep) == 1.0


def test_resampling_gives_every_particle_its_share_of_copies() -> None:
    """Systematic: counts are N W rounded up or down, and right on average; in order, from anywhere."""
    n = 64
    log_weight = torch.randn(n, generator=generator(2), dtype=F)
    expected = n * torch.softmax(log_weight, 0)
    counts = []
    for k in range(2000):
        chosen = systematic(log_weight[None], streams(n, k).uniform((n,))[None, :1])[0]
        assert int((chosen.diff() < 0).sum()) <= 1
        counts.append(torch.bincount(chosen, minlength=n).double())
    table = torch.stack(counts)
    assert bool(((table - expected).abs() < 1.0).all())
    assert_within(table.mean(0), expected, table.std(0).clamp(min=1e-3) / 2000**0.5, 2000, label="copies")


@pytest.mark.parametrize(
    ("jump", "rounds"), [(0.0, 12), (0.05, 12), (0.5, 5), (0.62, 4), (0.9, 3), (1.0, 3), (math.nan, 12)]
)
def test_last_rounds_leave_few_particles_unjumped(jump: float, rounds: int) -> None:
    assert Tempering(last=(3, 12), stale=0.05).last_rounds(jump) == rounds


@pytest.mark.parametrize(
    "bad",
    [
        {"keep": 0.0},
        {"keep": 1.0},
        {"stale": 0.0},
        {"local": -1},
        {"rounds": 0},
        {"last": (0, 3)},
        {"last": (4, 3)},
        {"renewed": 0.0},
    ],
)
def test_bad_arguments_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
        Tempering(**bad)  # type: ignore[arg-type]


def test_a_reference_outside_the_support_is_refused() -> None:
    outside = Density(lambda x: torch.where(x[..., 0] > 1e6, -x.square().sum(-1), -torch.inf), 2)
    _, start = shifted()
    with pytest.raises(DensityError, match=r"finite at some of the 50 draws of the reference \(test\), got \[-inf\]"):
        CHEAP.learn(outside, start, streams(50))
