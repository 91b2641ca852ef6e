"""Parallel tempering: ladder, swaps, stepping stones, weights of separated modes, evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator

import rdmc
import targets
from rdmc.baselines import ParallelTempering
from rdmc.baselines.ladder import barrier, even_ladder, geometric_ladder, monotone_cubic
from rdmc.baselines.reference import Path, Reference
from rdmc.baselines.replicas import Tally, begin, scan
from rdmc.coordinates import Affine, InCoordinates
from rdmc.density import Density
from rdmc.kernels import HMC, MALA
from rdmc.locate.pilot import Pilot
from rdmc.rng import Streams
from tests.laws.cases import SKEWED_MEAN, SKEWED_VARIANCE, F, generator, skewed, skewed_draws
from tests.stats import assert_moments, assert_within


def standard(dim: int) -> Reference:
    return Reference(Affine.identity(dim), torch.ones(dim, dtype=F))


def test_interpolation_is_monotone_cubic_column_by_column() -> None:
    x = torch.rand(9, 3, generator=generator(0), dtype=F).cumsum(0)
    y = torch.rand(9, 3, generator=generator(1), dtype=F).pow(4).cumsum(0)
    at = x[:1] + (x[-1:] - x[:1]) * torch.linspace(0.0, 1.0, 50, dtype=F)[:, None]
    wanted = [PchipInterpolator(x[:, i].numpy(), y[:, i].numpy())(at[:, i].numpy()) for i in range(3)]
    torch.testing.assert_close(monotone_cubic(x, y, at), torch.from_numpy(np.array(wanted).T), rtol=1e-9, atol=1e-12)


def test_the_even_ladder_inverts_a_known_barrier() -> None:
    beta = geometric_ladder(40, 1e-3, torch.zeros((), dtype=F))[:, None]
    height = beta.sqrt() * 3.0  # Lambda(beta) = 3 sqrt(beta), so even steps are at beta = (i / n)^2
    new = even_ladder(beta, height.diff(dim=0), 7)
    torch.testing.assert_close(new[:, 0], (torch.arange(7, dtype=F) / 6.0) ** 2, rtol=2e-3, atol=1e-4)
    assert float(new[0]) == 0.0 and float(new[-1]) == 1.0
    flat = even_ladder(new, torch.zeros(6, 1, dtype=F), 4)
    assert bool((flat.diff(dim=0) > 0.0).all())
    assert float(barrier(torch.full((3, 1), 0.2, dtype=F))[-1]) == pytest.approx(0.6)


def test_path_states_go_back_and_forth_without_evaluations() -> None:
    f, reference = skewed(3), standard(3)
    u = skewed_draws((2, 4, 3), seed=0)
    path = Path(f, reference, torch.tensor([[0.01], [0.7]], dtype=F).expand(2, 4))
    value, grad = path.value_and_grad(u)
    ratio, slope = f(u) - reference.log_prob(u), f.value_and_grad(u)[1] + u
    counted = f.counter.gradients
    state = path.state(u, ratio, slope)
    for a, b in zip((*state[1:], *path.ratio(state)), (value, grad, ratio, slope), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path(u), value)
    assert f.counter.gradients == counted


@pytest.mark.parametrize("kernel", [MALA(0.3), HMC(0.4, 2)], ids=["mala", "hmc"])
@pytest.mark.parametrize("dim", [1, 3, 10])
def test_exact_replicas_stay_exact(dim: int, kernel: MALA | HMC) -> None:
    """Three replicas on pi itself, started exactly, and the reference: swaps and moves must leave all four laws as they are."""
    particles, rungs = 2000, 4
    f, reference, rng = skewed(dim), standard(dim), Streams.seeded(dim, [particles])
    u = torch.cat([reference.draw(rng, (1,)), skewed_draws((rungs - 1, particles, dim), seed=dim)])
    beta = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=F)[:, None].expand(-1, particles)
    ensemble, tally = begin(f, u, beta, kernel, reference, rng), Tally.empty(beta)
    for _ in range(20):
        ensemble, tally = scan(f, reference, kernel, 1, ensemble, tally, rng, 0.0)
    assert_moments(ensemble.u[0], 0.0, 1.0, label=f"reference d={dim}")
    for rung in range(1, rungs):
        assert_moments(ensemble.u[rung], SKEWED_MEAN, SKEWED_VARIANCE, label=f"rung {rung} d={dim}")
    assert tally.scans == (10, 10)


def test_a_ladder_of_gaussians_has_the_right_laws_rejection_and_evidence() -> None:
    r"""pi = 5 N(1, 0.25): every rung is Gaussian, log Z = log 5 and rejection rates are known by quadrature."""
    particles, s2, m = 2000, 0.25, 1.0
    f = Density(lambda x: math.log(5.0) - 0.5 * math.log(2.0 * math.pi * s2) - 0.5 * ((x - m) ** 2).sum(-1) / s2, 1)
    reference, rng, kernel = standard(1), Streams.seeded(0, [particles]), MALA(0.5)
    b = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=F)
    precision = 1.0 - b + b / s2
    mean = (b * m / s2) / precision
    beta = b[:, None].expand(-1, particles)
    u = mean[:, None, None] + precision.rsqrt()[:, None, None] * rng.normal((4, particles, 1))
    ensemble, tally = begin(f, u, beta, kernel, reference, rng), Tally.empty(beta)
    for _ in range(24):
        ensemble, tally = scan(f, reference, kernel, 1, ensemble, tally, rng, 0.0)
    for rung in range(4):
        assert_moments(ensemble.u[rung], float(mean[rung]), float(1.0 / precision[rung]), label=f"rung {rung}")
    grid = torch.linspace(-8.0, 8.0, 2001, dtype=F)
    ratio = f(grid[:, None]) - reference.log_prob(grid[:, None])
    law = torch.softmax(-0.5 * precision[:, None] * (grid - mean[:, None]) ** 2, 1)
    for i in range(3):
        accept = ((b[i + 1] - b[i]) * (ratio[:, None] - ratio[None, :])).clamp(max=0.0).exp()
        truth = 1.0 - float(law[i] @ accept @ law[i + 1])
        found = tally.rejection()[i]
        assert_within(found.mean(), truth, found.std() / particles**0.5, particles, label=f"rejection {i}")
    z = (tally.log_evidence() - math.log(5.0)).exp()
    # the log of a ratio of means of 24 correlated terms is biased by about half its variance
    logs = z.log()
    assert_within(
        logs.mean(), 0.0, logs.std() / particles**0.5, particles, allowance=float(logs.var()), label="log evidence"
    )


def test_a_replica_outside_the_support_comes_in() -> None:
    f = Density(lambda x: torch.where((x > 0.0).all(-1), -x.sum(-1), -torch.inf), 2)
    reference, rng, kernel = standard(2), Streams.seeded(0, [500]), MALA(0.3)
    beta = torch.tensor([0.0, 0.3, 1.0], dtype=F)[:, None].expand(-1, 500)
    ensemble, tally = begin(f, rng.normal((3, 500, 2)), beta, kernel, reference, rng), Tally.empty(beta)
    for k in range(300):
        if k == 150:
            tally = Tally.empty(beta)
        ensemble, tally = scan(f, reference, kernel, 1, ensemble, tally, rng, 0.1 if k < 150 else 0.0)
    assert_moments(ensemble.u[-1], 1.0, 1.0, label="exponential")
    logs = tally.log_evidence()
    assert_within(logs.mean(), 0.0, logs.std() / 500**0.5, 500, allowance=float(logs.var()), label="log evidence")
    assert float(tally.trips.sum()) > 0.0 and float(tally.nonfinite.sum()) == 0.0


def test_scans_run_on_meta() -> None:
    meta = torch.device("meta")
    f = Density(lambda x: -x.square().sum(-1), 3, device=meta)
    reference = Reference(Affine.identity(3, device=meta), torch.ones(3, dtype=F, device=meta))
    rng, beta = Streams.seeded(0, [5], device=meta), torch.zeros(4, 5, dtype=F, device=meta)
    ensemble, tally = begin(f, reference.draw(rng, (4,)), beta, MALA(), reference, rng), Tally.empty(beta)
    for _ in range(2):
        ensemble, tally = scan(f, reference, MALA(), 2, ensemble, tally, rng, 0.1)
    assert ensemble.u.shape == (4, 5, 3) and even_ladder(beta, tally.rejection(), 6).shape == (6, 5)


def weights(result: rdmc.Result, target: targets.Target) -> torch.Tensor:
    """``(chains, K)``."""
    mode = target.mode_of(result.samples.flatten(0, 1)).view(result.chains, result.draws)
    assert target.mode_weights is not None
    return torch.nn.functional.one_hot(mode, len(target.mode_weights)).double().mean(1)


def test_two_modes_have_their_weights_and_evidence() -> None:
    target = targets.two_modes(8)
    result = rdmc.sample(target, draws=100, chains=32, seed=3, sampler=ParallelTempering(budget=100), progressbar=False)
    w = weights(result, target)[:, 0]
    assert_within(w.mean(), 2.0 / 3.0, w.std() / 32**0.5, k=3.0, label="weight")
    assert_within(result.log_evidence or 0.0, 0.0, result.log_evidence_mcse or 0.0, k=3.0, label="log evidence")
    assert set(result.inner) == {"beta", "acceptance", "rejection", "barrier", "round_trips", "nonfinite"}
    assert float(result.inner["round_trips"].min()) > 20.0
    # equal rejection, to the noise of a few hundred scans
    assert float(np.nanmax(result.inner["rejection"].mean(0)) - np.nanmin(result.inner["rejection"].mean(0))) < 0.1
    assert result.inner["beta"].shape[1] == math.ceil(2.0 * float(result.inner["barrier"][:, -1].mean())) + 1


EVIDENCE = {
    "two_modes": lambda: targets.two_modes(8),
    "gaussian": lambda: targets.gaussian(),
    "four_modes": lambda: targets.four_modes(),
    "double_wells": lambda: targets.double_wells(dim=5, wells=2, tilt=0.3),
    "student_mixture": lambda: targets.student_mixture(),
    "disguised": lambda: targets.disguise(targets.four_modes(), seed=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVIDENCE)
def test_evidence_and_weights_on_targets(name: str) -> None:
    target = EVIDENCE[name]()
    result = rdmc.sample(target, draws=200, chains=32, seed=7, sampler=ParallelTempering(budget=200), progressbar=False)
    print(name, result.log_evidence, result.log_evidence_mcse, target.log_z)
    assert_within(
        result.log_evidence or 0.0,
        target.log_z or 0.0,
        result.log_evidence_mcse or 0.0,
        k=3.0,
        label=f"{name} log evidence",
    )
    if target.has_modes and len(target.mode_weights) < 10:  # type: ignore[arg-type]
        w = weights(result, target)
        error = w.std(0) / 32**0.5
        seen = error > 0.0
        assert_within(w.mean(0)[seen], target.mode_weights[seen], error[seen], k=4.0, label=f"{name} weights") if bool(
            seen.any()
        ) else None


def test_the_reference_is_the_pilots_gaussian() -> None:
    target = targets.disguise(targets.four_modes(), seed=0)
    f = rdmc.Density(target.log_density, 2, target.value_and_grad)
    survey = Pilot().run(f, Streams.seeded(0, [64]))
    reference = Reference.of(survey, 2.0)
    mean, covariance = survey.surrogate.affine(torch.zeros(2, dtype=F), survey.affine.factor).moments()
    torch.testing.assert_close(
        reference.affine.factor @ reference.affine.factor.T, 4.0 * covariance, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(reference.affine.centre, mean + survey.affine.centre, rtol=1e-8, atol=1e-8)
    width = reference.width(torch.tensor([0.0, 1.0], dtype=F))
    torch.testing.assert_close(width[0], torch.ones(2, dtype=F))
    back = reference.affine.factor * width[1]  # an average mode's axes in the user's coordinates
    torch.testing.assert_close(back @ back.T, survey.affine.factor @ survey.affine.factor.T, rtol=1e-8, atol=1e-8)
    assert isinstance(InCoordinates(f, reference.affine).dim, int)
