"""The emcee adapter: every move it uses against a known law, and the same bits as emcee used directly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import targets
from rdmc.baselines import Ensemble
from rdmc.baselines.ensemble import ensemble_moves
from rdmc.baselines.snooker import snooker_move, snooker_proposal
from rdmc.density import as_density
from rdmc.journal import Journal
from rdmc.rng import Streams
from tests.baselines.cases import PILOT
from tests.laws.cases import SKEWED_MEAN, SKEWED_VARIANCE, skewed_draws
from tests.marks import slow
from tests.stats import assert_moments

emcee = pytest.importorskip("emcee")

MOVES: dict[str, Callable[[], Any]] = {
    "de": lambda: emcee.moves.DEMove(),
    "de-unit": lambda: emcee.moves.DEMove(gamma0=1.0),
    "snooker": snooker_move,
    "all": ensemble_moves,
}


def after(move: Any, dim: int, ensembles: int, walkers: int, steps: int) -> tuple[torch.Tensor, float]:
    """Walkers of many ensembles after some steps from exact draws of the skewed law: still independent, if the law is invariant."""
    x = skewed_draws((ensembles, walkers, dim), seed=dim).numpy()
    ends = []
    for i in range(ensembles):
        begin = emcee.State(x[i], random_state=np.random.RandomState(100 * dim + i).get_state())
        sampler = emcee.EnsembleSampler(walkers, dim, lambda y: (y - np.exp(y)).sum(1), moves=move, vectorize=True)
        *_, end = (state.coords.copy() for state in sampler.sample(begin, iterations=steps, store=False))
        ends.append(end)
    together = np.stack(ends)
    return torch.from_numpy(together).flatten(0, 1), float((together != x).any(-1).mean())


@pytest.mark.parametrize("dim", [3, *slow(1, 10)])
@pytest.mark.parametrize("name", ["snooker", "all", *slow("de", "de-unit")])
def test_every_move_leaves_a_skewed_law_invariant(name: str, dim: int) -> None:
    walkers = {1: 8, 3: 12, 10: 40}[dim]  # few, so that walkers that see themselves would show
    x, moved = after(MOVES[name](), dim, ensembles=1600 // walkers, walkers=walkers, steps=30)
    assert moved > 0.2
    assert_moments(x, SKEWED_MEAN, SKEWED_VARIANCE, label=f"{name} d={dim}")


def test_emcees_own_snooker_move_is_why_there_is_another() -> None:
    """The test of the moves must be able to fail: it does on the move that emcee 3.1.6 has."""
    if emcee.__version__ != "3.1.6":
        pytest.skip(f"said of emcee 3.1.6 only, this is {emcee.__version__}")
    x, _ = after(emcee.moves.DESnookerMove(), 10, ensembles=40, walkers=40, steps=30)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_moments(x, SKEWED_MEAN, SKEWED_VARIANCE)


def test_a_snooker_proposal_lies_on_the_line_and_never_on_itself() -> None:
    random = np.random.RandomState(0)
    x, others = random.randn(200, 3), random.randn(5, 3)
    proposal, log_jacobian = snooker_proposal(x, others, 1.7, random)
    for i in range(200):
        lines = [np.linalg.norm(np.cross(proposal[i] - z, x[i] - z)) for z in others]
        z = others[int(np.argmin(lines))]
        assert min(lines) < 1e-9
        assert log_jacobian[i] == pytest.approx(
            2.0 * np.log(np.linalg.norm(proposal[i] - z) / np.linalg.norm(x[i] - z))
        )
    stuck, never = snooker_proposal(others[:1].repeat(4, 0), others[:1].repeat(3, 0), 1.7, random)
    assert np.array_equal(stuck, others[:1].repeat(4, 0)) and bool(np.isneginf(never).all())


def test_the_adapter_is_emcee_to_the_bit() -> None:
    target = targets.four_modes()
    density = as_density(target)
    engine = Ensemble(budget=30, walkers=16, pilot=PILOT)
    plan = engine.prepare(density, 0, Journal(density.counter))
    rng = Streams.seeded(0, [1], [(2, 0)])
    begin = state = engine.start(density, plan, rng, 40)
    while (progress := engine.progress(plan, state)).done < progress.total:
        state = engine.advance(density, plan, state, rng)
    samples = engine.collect(density, plan, state).samples[0]

    affine = plan.found.affine

    def direct(x: Any) -> Any:
        return target.log_density(affine.to_user(torch.from_numpy(x))).numpy()

    sampler = emcee.EnsembleSampler(16, 2, direct, moves=ensemble_moves(), vectorize=True)
    sampler.run_mcmc(begin.walkers, begin.total)
    path = sampler.get_chain()  # (steps, walkers, d)
    assert path.shape[0] == begin.total == round(2 * 30 * 40 / 16) - 1
    times = [begin.warmup + (begin.total - begin.warmup) * (i + 1) // 3 - 1 for i in range(3)]
    flat = path[times].transpose(1, 0, 2).reshape(-1, 2)
    picked = flat[np.arange(40) * 48 // 40]
    assert torch.equal(affine.to_user(torch.from_numpy(picked)), samples)


def test_a_nonfinite_density_is_rejected_and_counted() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 0.5, torch.nan, (x - x.exp()).sum(-1))

    density = as_density(broken, 2)
    engine = Ensemble(budget=40, walkers=16, pilot=PILOT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = engine.prepare(density, 0, Journal(density.counter))
        rng = Streams.seeded(0, [1])
        state = engine.start(density, plan, rng, 50)
        while (progress := engine.progress(plan, state)).done < progress.total:
            state = engine.advance(density, plan, state, rng)
    block = engine.collect(density, plan, state)
    assert bool((block.samples[..., 0] <= 0.5).all()) and float(block.inner["nonfinite"][0]) > 0
