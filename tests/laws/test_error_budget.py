"""The terms of the error budget against their exact values on Gaussian targets, and what the budget refuses to say."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.budget.follow import MOST_COORDINATES
from rdmc.budget.step_law import law_of
from rdmc.grid import LogSNRGrid
from rdmc.process import OU
from rdmc.reverse import RDMC
from rdmc.schedule import Fixed
from rdmc.start import LangevinStart
from rdmc.steps import Ancestral, Bridge, EulerMaruyama, Exponential, Step
from tests.exact.gaussian import Gaussian, push
from tests.laws.budget_cases import (
    FACTOR,
    F,
    Noisy,
    Off,
    between_paths,
    close,
    divergence,
    mixture_of,
    run,
    target_of,
    widened,
)
from tests.marks import slow

FIRST_ORDER: tuple[Step, ...] = (EulerMaruyama(), Exponential(), Ancestral())


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("step", FIRST_ORDER, ids=lambda step: type(step).__name__)
def test_coarse_grid_on_a_gaussian(step: Step, d: int) -> None:
    """The sum over levels is that of the paths, and what is left is the divergence of the draws, by the exact recursion."""
    target = target_of(d)
    result, process, times = run(mixture_of(target), step, 8)
    budget = result.error_budget()
    close(budget.discretisation, between_paths(step, process, times, target), 1.1, "paths")
    law = push(step, process, times, target)
    measured = divergence(target.marginal(process, times[-1]), law)
    close(budget.left[1], measured, 1.5, "draws")
    assert budget.largest == "discretisation" and budget.total > measured
    assert budget.left[0] + budget.left[2] < 0.02 * budget.left[1]  # neither of the others is taken for it


def test_coarse_grid_far_from_the_origin() -> None:
    """There the mean of the Euler-Maruyama step is off too, and not its variance alone."""
    step = EulerMaruyama()
    target = Gaussian(torch.tensor([30.0, -20.0], dtype=F), 0.3 * torch.eye(2, dtype=F))
    result, process, times = run(mixture_of(target), step, 30, draws=300)
    at_origin = between_paths(step, process, times, Gaussian(torch.zeros(2, dtype=F), target.cov))
    paths = between_paths(step, process, times, target)
    assert paths > 1.5 * at_origin, (paths, at_origin)
    budget = result.error_budget()
    close(budget.discretisation, paths, 1.1, "paths")
    measured = divergence(target.marginal(process, times[-1]), push(step, process, times, target))
    close(budget.left[1], measured, 1.5, "draws")


@pytest.mark.parametrize("d", [1, 2, 5])
def test_bad_start_on_a_gaussian(d: int) -> None:
    """A short horizon with the standard normal, and a start whose law only its particles show; the bridge adds nothing."""
    target = target_of(d)
    mixture = mixture_of(target)
    result, process, times = run(mixture, Bridge(), 6, horizon=0.5, pilot=False)
    budget = result.error_budget()
    wrong = Gaussian(torch.zeros(d, dtype=F), torch.eye(d, dtype=F))
    p_T, p_end = target.marginal(process, times[0]), target.marginal(process, times[-1])
    close(budget.start, divergence(p_T, wrong), 1.5, "paths")
    close(budget.left[0], divergence(p_end, push(Bridge(), process, times, target, wrong)), 1.5, "draws")
    assert budget.largest == "start" and budget.discretisation == 0.0
    assert budget.table["start"][0] == budget.start and not any(budget.table["start"][1:])

    result, process, times = run(mixture, Bridge(), 6, horizon=0.5, start=Off())
    budget = result.error_budget()
    p_T = target.marginal(process, times[0])
    off = Gaussian(0.4 + 1.3 * p_T.mean, 1.3**2 * p_T.cov)
    close(budget.start, divergence(p_T, off), 1.5, "paths, from particles")
    close(budget.left[0], divergence(p_end, push(Bridge(), process, times, target, off)), 1.5, "draws, from particles")
    assert any("lower bound" in note for note in budget.notes)


@pytest.mark.parametrize("d", [2, *slow(1, 5)])
def test_noisy_score_on_a_gaussian(d: int) -> None:
    target, sd, step = target_of(d), 1.5, Exponential()
    mixture = mixture_of(target)
    result, process, times = run(mixture, step, 60, estimator=Noisy(mixture, sd), draws=400)
    budget = result.error_budget()
    p_end = target.marginal(process, times[-1])
    laws = [law_of(step, process, t, s) for t, s in pairwise(times)]
    delta = [(law.on_mean * sd / law.sd) ** 2 for law in laws if law is not None]
    close(math.fsum(budget.table["score_bound"]), 0.5 * d * math.fsum(delta), 1.01, "Girsanov")
    exact = 0.5 * d * math.fsum(math.log1p(part) - part / (1.0 + part) for part in delta)
    close(budget.score, exact, 1.1, "paths")
    measured = divergence(p_end, widened(step, process, times, target, sd))
    without = divergence(p_end, push(step, process, times, target))
    assert without < 0.2 * measured, "the noise is not what matters here"
    close(budget.left[2], measured, FACTOR, "draws")
    assert budget.largest == "score"


@pytest.mark.parametrize(
    ("levels", "horizon", "sd", "worst"),
    [(30, 0.4, 0.05, "start"), (4, 2.0, 0.05, "discretisation"), (40, 2.0, 2.0, "score")],
)
def test_ranking_in_mixed_cases(levels: int, horizon: float, sd: float, worst: str) -> None:
    """All three are wrong at once; each alone is known by the exact recursion, and the run must tell each and name the worst."""
    target, step = target_of(2), Exponential()
    mixture = mixture_of(target)
    result, process, times = run(mixture, step, levels, horizon, Noisy(mixture, sd), pilot=False)
    p_end, normal = target.marginal(process, times[-1]), Gaussian(torch.zeros(2, dtype=F), torch.eye(2, dtype=F))
    fine = Fixed(OU(horizon), LogSNRGrid(400, 0.02)).plan(None)[1]
    exact = push(step, process, times, target)
    noisy = widened(step, process, times, target, sd)
    measured = {
        "start": divergence(p_end, push(step, process, fine, target, normal)),
        "discretisation": divergence(p_end, exact),
        "score": divergence(p_end, Gaussian(p_end.mean, p_end.cov + noisy.cov - exact.cov)),
    }
    budget = result.error_budget()
    print(measured, budget.by_term, budget.sentence)
    assert max(measured, key=lambda term: measured[term]) == worst == budget.largest
    for term, value in measured.items():
        close(budget.by_term[term], value, FACTOR, term)


@dataclass(frozen=True)
class Halved:
    """The exponential step without its factor 2, as several printed versions have it."""

    order: ClassVar[float] = 1
    estimates: ClassVar[int] = 1

    def __call__(self, process: Any, denoise: Any, x_t: Tensor, t: float, s: float, noise: Tensor, memory: Any) -> Any:
        r, _ = process.transition(t, s)
        score = denoise(x_t, t).score
        return x_t / r + 0.5 * process.score_gain(t, s) * score + process.reverse_noise(t, s) * noise, None


def test_a_lost_factor_is_an_error_that_no_grid_removes() -> None:
    """The planted bug: the right step's error falls by half when the levels are doubled, the wrong step's does not."""
    found = {}
    for step in (Exponential(), Halved()):
        found[step] = [run(mixture_of(target_of(2)), step, levels, draws=300)[0].error_budget() for levels in (20, 40)]
    right, wrong = ([budget.discretisation for budget in found[step]] for step in found)
    assert right[1] < 0.6 * right[0], right
    assert wrong[1] > 0.9 * wrong[0] and wrong[1] > 5 * right[1], (wrong, right)
    assert found[Halved()][1].left[1] > 10 * found[Exponential()][1].left[1]


def test_many_coordinates_have_the_sums_alone() -> None:
    d = MOST_COORDINATES + 1
    mixture = mixture_of(Gaussian(torch.zeros(d, dtype=F), torch.eye(d, dtype=F)))
    budget = run(mixture, Exponential(), 4, draws=100)[0].error_budget()
    assert all(math.isnan(value) for value in budget.left) and budget.largest == "discretisation"


def test_fewer_draws_than_coordinates_tell_nothing_of_the_start() -> None:
    budget = run(mixture_of(target_of(5)), Exponential(), 4, draws=5)[0].error_budget()
    assert math.isnan(budget.start) and math.isnan(budget.total) and math.isnan(budget.left[1])
    assert any("more draws than there are coordinates" in note for note in budget.notes)
    assert budget.largest == "discretisation" and "Not known: start" in budget.sentence


def test_the_published_algorithm_has_a_budget_that_says_what_it_leaves_out() -> None:
    sampler = RDMC.published(levels=6, importance=16, chains=4, steps=8, start_steps=2)
    assert isinstance(sampler.start_at, LangevinStart)
    result = rdmc.sample(lambda x: -0.5 * (x / 0.6).square().sum(-1), 2, 200, 2, sampler, progressbar=False)
    budget = result.error_budget()
    text = budget.to_markdown()
    assert "lower bound" in text and "all inner chains share" in text and "the target noised" in text
    assert budget.total > 0.0 and budget.sentence in text


def test_results_without_the_terms_are_refused(tmp_path: Path) -> None:
    result = run(mixture_of(target_of(1)), Exponential(), 4, draws=50)[0]
    kept = rdmc.load(result.save(tmp_path / "new.npz"))
    assert kept.error_budget().table == result.error_budget().table
    inner = {
        name: values for name, values in result.inner.items() if name in ("t", "sigma", "log_snr", "rhat", "memory")
    }
    old = rdmc.load(dataclasses.replace(result, inner=inner).save(tmp_path / "old.npz"))
    for without in (old, dataclasses.replace(result, inner={})):
        with pytest.raises(ValueError, match="error budget needs"):
            without.error_budget()
    chains = rdmc.sample(lambda x: -0.5 * x.square().sum(-1), 2, 20, 2, "mala", progressbar=False)
    with pytest.raises(ValueError, match="no reverse diffusion"):
        chains.error_budget()


def test_shards_are_averaged() -> None:
    """Two populations of two shards each: terms of the pooled budget lie between those of the populations."""
    result = run(mixture_of(target_of(1)), Exponential(), 4, draws=4200)[0]
    pooled = np.array(result.error_budget().table["discretisation"])
    own = result.inner["discretisation"]
    assert (own.min(0) <= pooled + 1e-12).all() and (pooled <= own.max(0) + 1e-12).all() and np.isfinite(pooled).all()


def test_the_picture_has_the_numbers_of_the_budget() -> None:
    pytest.importorskip("matplotlib")
    from rdmc.plot_levels import budget_figure

    budget = run(mixture_of(target_of(1)), Exponential(), 5, draws=60)[0].error_budget()
    left, right = budget_figure(budget).axes
    lines = {line.get_label(): line for line in left.get_lines()}
    np.testing.assert_allclose(lines["discretisation"].get_xdata(), budget.table["log_snr"])
    np.testing.assert_allclose(lines["discretisation"].get_ydata(), budget.table["discretisation"])
    heights = [bar.get_height() for bar in right.patches]
    assert budget.discretisation in heights and budget.left[1] in heights
