"""The evidence is unbiased for any kernel, grid, potential and noise; weights repair a wrong start; and bugs are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import rdmc.path_smc
from rdmc.density import Density
from rdmc.grid import LogSNRGrid
from rdmc.inner import GuidedChains
from rdmc.journal import Journal
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.particles import effective_share, log_mean, systematic
from rdmc.path import Controlled, Marginal, NoisedMixture, NoisedStart, NormalStart, ReverseLaw
from rdmc.path.weights import noised, positive
from rdmc.path_smc import PathSMC
from rdmc.process import EDM, OU, ForwardProcess
from rdmc.rng import Streams
from rdmc.schedule import Fixed
from tests.laws.cases import SKEWED_MEAN, as_target, spd
from tests.path.runs import KERNELS, LOG_Z, blocks, evidences, heavy, short, without_resampling
from tests.stats import assert_within

F = torch.float64
CHAINS = 200


def z_score(sampler: PathSMC, label: str) -> float:
    """How many standard errors the mean of Z-hat / Z is from 1."""
    ratio = (evidences(sampler, heavy(), 32, CHAINS) - LOG_Z).exp()
    error = float(ratio.std()) / CHAINS**0.5
    score = (float(ratio.mean()) - 1.0) / error
    print(f"{label}: mean {float(ratio.mean()):.4f}, truth 1, mcse {error:.4f}: {score:.2f} standard errors, at most 3")
    return score


@pytest.mark.parametrize("levels", [5, 20, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KERNELS)
def test_evidence_is_unbiased(name: str, levels: int) -> None:
    assert abs(z_score(short(levels, KERNELS[name]), f"{name}, K = {levels}")) <= 3.0


OTHERS = {
    "one draw": short(5, KERNELS["first"], draws=2),
    "no resampling": without_resampling(short(5, Controlled())),
    "always resampling": replace(short(8, Controlled()), threshold=1.0),
    "unbiased potential": replace(short(8, Controlled()), potential=Marginal(1.0)),
    # chains that go on along the ancestry, with step sizes that are tuned to the whole population
    "warm chains": replace(
        short(8, Controlled(), draws=2), inner=GuidedChains(2, 2, witnesses=3, gain=0.5), potential=NoisedMixture()
    ),
    "wrong start": replace(short(8, Controlled()), start_at=NormalStart(1.0, 7.0)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_evidence_is_unbiased_in_other_compositions(name: str) -> None:
    assert abs(z_score(OTHERS[name], name)) <= 3.0


def _without_det(self: ReverseLaw, noise: Tensor) -> tuple[Tensor, Tensor]:
    x, log_q = DRAW(self, noise)
    return x, log_q + 0.02 * noise.shape[-1]


def _shifted(process: ForwardProcess, x_t: Tensor, x_s: Tensor, t: float, s: float) -> Tensor:
    return TRANSITION(process, x_t, x_s + 0.02 * (x_t - x_s), t, s)


def _greedy(log_weight: Tensor, u: Tensor) -> Tensor:
    return SYSTEMATIC(1.5 * log_weight, u)


DRAW, TRANSITION, SYSTEMATIC = ReverseLaw.draw, rdmc.path_smc.log_transition, systematic
BUGS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "density of the kernel": (ReverseLaw, "draw", _without_det),
    "forward transition": (rdmc.path_smc, "log_transition", _shifted),
    "resampling": (rdmc.path_smc, "systematic", _greedy),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong = BUGS[name]
    monkeypatch.setattr(owner, attribute, wrong)
    assert abs(z_score(replace(short(20, Controlled()), threshold=0.9), f"planted, {name}")) > 5.0


def test_plain_paths_and_resampled_ones_agree() -> None:
    sampler = replace(short(8, Controlled(), draws=8), threshold=0.8, particles=256)
    logs, means = [], []
    for one in (sampler, without_resampling(sampler)):
        done = blocks(one, heavy(), 256, 40, seed=3)
        logs.append(torch.cat([block.log_evidence for block in done if block.log_evidence is not None]).exp())
        means.append(torch.stack([block.samples.mean((0, 1)) for block in done]))
    assert sum(float(block.inner["resampled"][:-1].sum()) for block in done) == 0.0
    for label, (a, b) in {"evidence": logs, "mean": means}.items():
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert_within(a.mean(0), b.mean(0), error, len(a), label=f"{label}, SMC against plain")
        truth = 3.0 if label == "evidence" else SKEWED_MEAN
        # one population's mean is off by O(1/N) of a standard deviation
        assert_within(a.mean(0), truth, a.std(0) / len(a) ** 0.5, len(a), allowance=0.01, label=f"{label}, SMC")


def unweighed(sampler: PathSMC, density: Density, particles: int, seed: int) -> Tensor:
    """Particles at t = 0 as they come, in the user's coordinates."""
    rng = Streams.seeded(seed, [particles], [(0,)])
    plan = sampler.prepare(density, seed, Journal(density.counter))
    state = sampler.start(density, plan, rng, particles)
    while sampler.progress(plan, state).done + 1 < sampler.progress(plan, state).total:
        state = sampler.advance(density, plan, state, rng)
    x_0: Tensor = plan.detail.affine.to_user(state.x_t)
    return x_0


def test_weights_repair_a_wrong_start() -> None:
    grid = Fixed(OU(0.6), LogSNRGrid(6, 0.2))
    sampler = replace(short(5, Controlled(), draws=16), schedule=grid, start_at=NormalStart(1.2))
    raw = unweighed(without_resampling(sampler), heavy(), 4096, 11)
    wrong = (raw.mean(0) - SKEWED_MEAN) / (raw.std(0) / len(raw) ** 0.5)
    print(f"unweighted mean {raw.mean(0).tolist()}, truth {SKEWED_MEAN}: {wrong.tolist()} standard errors")
    assert float(wrong.abs().min()) > 5.0
    many = replace(without_resampling(sampler), particles=1024)
    means = torch.stack([block.samples.mean((0, 1)) for block in blocks(many, heavy(), 1024, 20, seed=12)])
    assert_within(means.mean(0), SKEWED_MEAN, means.std(0) / 20**0.5, 20, label="weighted mean")


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("levels", [2, 5, 23])
def test_all_weights_are_equal_on_a_gaussian(levels: int, fitted: bool) -> None:
    dim = 5
    pi = GaussianMixture.from_covariance(torch.arange(5.0, dtype=F)[None], spd(dim, 3)[None], torch.ones(1, dtype=F))
    sampler = replace(
        short(levels, Controlled(fitted=fitted), draws=3, dim=dim),
        schedule=Fixed(EDM(9.0), LogSNRGrid(levels - 1, 0.8)),
        pilot=Known(pi),
        start_at=NoisedStart(),
    )
    for block in blocks(sampler, as_target(pi), 64, 2):
        assert block.log_evidence is not None
        share = torch.from_numpy(block.inner["path_ess"])
        assert len(share) == levels + 1
        torch.testing.assert_close(share, torch.ones_like(share), rtol=0, atol=1e-9)
        torch.testing.assert_close(block.log_evidence, torch.zeros(1, dtype=F), rtol=0, atol=1e-9)


def test_noised_mixture_is_the_law_of_noised_draws() -> None:
    pi = GaussianMixture.from_covariance(torch.ones(1, 2, dtype=F), spd(2, 1)[None], torch.ones(1, dtype=F))
    mean, covariance = noised(pi, 0.7, 0.4).moments()
    torch.testing.assert_close(mean, 0.7 * pi.mean[0])
    torch.testing.assert_close(covariance, 0.49 * spd(2, 1) + 0.16 * torch.eye(2, dtype=F))


def test_systematic_resampling_keeps_expectations() -> None:
    n, repeats = 16, 4000
    log_weight = torch.linspace(-3.0, 1.0, n, dtype=F).roll(5).expand(repeats, n)
    u = torch.rand(repeats, 1, generator=torch.Generator().manual_seed(0), dtype=F)
    index = systematic(log_weight, u)
    counts = torch.nn.functional.one_hot(index, n).to(F).sum(1)
    expected = n * torch.softmax(log_weight[0], 0)
    assert float((counts - expected).abs().max()) < 1.0  # each is rounded down or up
    spread = counts.std(0).clamp(min=1e-12)
    assert_within(counts.mean(0), expected, spread / repeats**0.5, repeats, label="copies of each particle")


def test_populations_without_weight_stay_as_they_are() -> None:
    lost = torch.full((1, 4), -torch.inf, dtype=F)
    assert systematic(lost, torch.tensor([[0.3]], dtype=F)).tolist() == [[0, 1, 2, 3]]
    assert effective_share(lost).tolist() == [0.0]
    assert log_mean(lost).tolist() == [-torch.inf]
    partly = torch.tensor([[2.0, -torch.inf, 1.0, torch.nan]], dtype=F)
    assert positive(partly).tolist() == [[2.0, 1.0, 1.0, 1.0]]
    assert positive(lost).tolist() == [[0.0] * 4]
