"""The sampler as a whole: batches, bits, resuming, devices, costs and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rdmc
import rdmc.journal
import targets
from rdmc.archive import pack, unpack
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.errors import NonFiniteDensityError
from rdmc.inner import FromSurrogate, GuidedChains, Importance
from rdmc.journal import Journal
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.path import Controlled, Marginal, NoisedMixture, NormalStart, ReverseKernel
from rdmc.path_smc import PathSMC, _Setting
from rdmc.process import EDM
from rdmc.refit import Refit
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.sampler import Plan
from tests.laws.cases import as_target, bimodal
from tests.marks import slow
from tests.path.runs import KERNELS, blocks, heavy, short
from tests.stats import assert_within

F = torch.float64
META = torch.device("meta")


def moved(mixture: GaussianMixture, device: torch.device) -> GaussianMixture:
    """The mixture elsewhere."""
    parts = (mixture.log_weight, mixture.mean, mixture.basis, mixture.variance)
    return GaussianMixture(*(part.to(device) for part in parts))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("inner", [Importance(3, FromSurrogate(), gradients=True), GuidedChains(1, 2, witnesses=1)])
def test_a_level_never_waits_for_the_device(inner: Any, name: str) -> None:
    mixture = moved(bimodal(2), META)
    potential = Marginal() if isinstance(inner, Importance) else NoisedMixture()
    sampler = PathSMC(inner=inner, kernel=KERNELS[name], potential=potential, pilot=Known(mixture), refit=None)
    setting = _Setting(Affine.identity(2, device=META), mixture, EDM(4.0), (4.0, 2.0, 1.0, 0.0))
    rng = Streams.seeded(0, [6, 6], [(0,), (1,)], device=META)
    plan = Plan(None, setting)
    density = as_target(mixture)
    state = sampler.start(density, plan, rng, 6)
    while sampler.progress(plan, state).done < 4:
        state = sampler.advance(density, plan, state, rng)
    assert state.x_0.shape == (12, 2) and state.x_0.device == META
    assert state.log_evidence.shape == state.variance.shape == (2,)
    assert all(part.shape == (2,) for part in (*state.ess, *state.resampled))


def test_batches_are_of_equal_populations() -> None:
    sampler = PathSMC(particles=256)
    assert [[unit.particles for unit in batch] for batch in sampler.batches(100, 6)] == [[256] * 4, [256] * 2]
    assert {unit.particles for batch in sampler.batches(5000, 2) for unit in batch} == {2500}
    assert len(sampler.batches(5000, 2)) == 4


def test_a_population_does_not_depend_on_its_batch() -> None:
    sampler = short(6, Controlled())
    together, alone = blocks(sampler, heavy(), 32, 3), blocks(replace(sampler, particles=1500), heavy(), 32, 1)
    assert len(together) == 3 and len(alone) == 1
    first = blocks(sampler, heavy(), 32, 1)[0]
    torch.testing.assert_close(first.samples, together[0].samples, rtol=1e-9, atol=1e-9)
    assert not torch.equal(together[0].samples, together[1].samples)
    assert not torch.allclose(first.samples, blocks(sampler, heavy(), 32, 1, seed=1)[0].samples)


@pytest.mark.parametrize("warm", [False, True])
def test_a_state_survives_the_archive(warm: bool) -> None:
    sampler = short(5, Controlled())
    if warm:
        sampler = replace(sampler, inner=GuidedChains(1, 1, witnesses=4), potential=NoisedMixture(), threshold=1.0)
    density = heavy()
    plan = sampler.prepare(density, 0, Journal(density.counter))
    rng = Streams.seeded(0, [16, 16], [(0,), (1,)])
    state = sampler.start(density, plan, rng, 10)
    for _ in range(3):
        state = sampler.advance(density, plan, state, rng)
    later_rng, later = unpack(pack((rng, state)))
    while sampler.progress(plan, state).done < sampler.progress(plan, state).total:
        state, later = sampler.advance(density, plan, state, rng), sampler.advance(density, plan, later, later_rng)
    assert torch.equal(state.x_0, later.x_0) and torch.equal(state.log_evidence, later.log_evidence)


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdmc.journal, "INTERVAL", 0.0)

    class Stop(BaseException):
        pass

    calls = 0

    def log_density(x: torch.Tensor, last: int | None = None) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if last is not None and calls > last:
            raise Stop
        return (x - x.exp()).sum(-1)

    options: dict[str, Any] = {"dim": 2, "draws": 40, "chains": 2, "seed": 3, "progressbar": False, "compile": False}
    small = replace(short(8, Controlled()), refit=Refit(particles=48, rounds=2, explorer=RDMC(pilot=None)))
    wanted = rdmc.sample(log_density, sampler=small, **options)
    whole, path = calls, tmp_path / "run"
    for last in (whole // 2, whole // 4):
        calls = 0
        with pytest.raises(Stop):
            rdmc.sample(lambda x, last=last: log_density(x, last), sampler=small, checkpoint=path, **options)
    calls = 0
    got = rdmc.sample(log_density, sampler=small, checkpoint=path, **options)
    assert 0 < calls < whole
    assert torch.equal(got.samples, wanted.samples) and got.log_evidence == wanted.log_evidence
    assert got.gradient_evaluations == wanted.gradient_evaluations


def test_default_on_modes_of_unequal_weight() -> None:
    target = targets.four_modes(shift=(30.0, -20.0), scale=4.0)
    result = rdmc.sample(target, draws=500, chains=4, sampler="rdmc-smc", seed=2, progressbar=False)
    assert result.sampler == "rdmc-smc"
    assert result.log_evidence is not None and result.log_evidence_mcse is not None and target.log_z is not None
    assert_within(result.log_evidence, target.log_z, result.log_evidence_mcse, label="log evidence")
    assert target.mode_weights is not None
    label = target.mode_of(result.samples.flatten(0, 1)).view(4, -1)
    for mode, weight in enumerate(target.mode_weights.tolist()):
        share = (label == mode).double().mean(1)
        # a population of 512 has at most that many independent draws
        assert_within(share.mean(), weight, math.sqrt(weight * (1 - weight) / 4 / 500) * 1.5, label=f"mode {mode}")
    assert float(result.inner["path_ess"].min()) > 0.2
    levels = result.inner["evaluations"].shape[1]
    assert set(result.stages["name"]) == {"before", "explorers", "both"}
    assert result.gradient_evaluations > 16 * (levels - 1) * 4 * 512


@pytest.mark.parametrize("seed", [1, *slow(2, 3)])
def test_refit_finds_what_the_optimum_does_not_show(seed: int) -> None:
    """In the logarithm of the width across the bend, at least half of what the pilot lacks (or, in some searches, has too much)."""
    target = targets.banana(2)
    density = rdmc.Density(target.log_density, 2, target.value_and_grad)
    survey = rdmc.Pilot().run(density, Streams.seeded(seed, [rdmc.Pilot().starts], [(9,)]))
    refitted = Refit().run(density, survey, seed, 5)
    rows = {row["name"]: row["agreement"] for row in refitted.tried}
    print(rows)
    assert max(rows["both"], rows["explorers"]) > rows["before"] + 0.1
    before, after = (
        (found.affine.factor @ found.surrogate.moments()[1] @ found.affine.factor.T)[1, 1].sqrt()
        for found in (survey, refitted.survey)
    )
    exact = target.sample(4000, torch.Generator().manual_seed(0))[:, 1].std()
    print(f"deviation across the bend: pilot {before:.3g}, refit {after:.3g}, truth {exact:.3g}")
    assert abs((after / exact).log()) < 0.5 * abs((before / exact).log())


def test_refit_keeps_a_pilot_that_is_right() -> None:
    density = as_target(bimodal(2))
    survey = Known(bimodal(2)).run(density, Streams.seeded(0, [1], [(0,)]))
    refitted = Refit(explorer=RDMC(pilot=None)).run(density, survey, 0, 5)
    assert refitted.survey.surrogate.components == 2


def test_a_population_whose_density_is_no_number_ends_with_an_error() -> None:
    def log_density(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > -0.8, -0.5 * x.square().sum(-1), torch.nan)

    with pytest.raises(NonFiniteDensityError, match="sigma"):
        blocks(short(4, Controlled()), Density(log_density, 2), 16, 1)


def test_support_with_an_edge() -> None:
    def log_density(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 0.0, -0.5 * x.square().sum(-1), -torch.inf)

    logs = torch.cat([b.log_evidence for b in blocks(short(12, Controlled(), 8), Density(log_density, 2), 32, 100)])  # type: ignore[misc]
    ratio = (logs - math.log(math.pi)).exp()
    assert_within(ratio.mean(), 1.0, ratio.std() / 10.0, 100, label="evidence of a half plane")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PathSMC(threshold=1.5), "`threshold` must be in"),
        (lambda: PathSMC(particles=1), "`particles` must be an integer of at least 2"),
        (lambda: Marginal(0.0), "`power` must be in"),
        (lambda: NormalStart(sd=-1.0), "`sd` must be a positive float"),
        (lambda: Refit(particles=3), "`particles` must be an integer of at least 16"),
        (lambda: Refit(share=1.0), "`share` must be in"),
        (lambda: rdmc.path.Isotropic(prior=0.0), "`prior` must be a positive float"),
    ],
)
def test_arguments_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("kernel", "inner", "potential", "match"),
    [
        (Controlled(), Importance(4, FromSurrogate()), Marginal(), "gradients of log q"),
        (Controlled(), GuidedChains(1, 1), Marginal(), "weighted draws"),
    ],
)
def test_parts_that_do_not_fit_say_so(kernel: ReverseKernel, inner: Any, potential: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        blocks(replace(short(3, kernel), inner=inner, potential=potential), heavy(), 8, 1)
