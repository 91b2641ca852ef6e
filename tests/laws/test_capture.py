"""Frequencies of modes along the noise levels: exact draws keep the weights, and modes are decided where theory says."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import rdmc
import targets
from rdmc.baselines import AnnealedLangevin
from rdmc.capture import Modes, edges, mode_columns, places
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.diagnostics import Capture
from rdmc.diagnostics.trace import trace_table
from rdmc.grid import LogSNRGrid
from rdmc.inner import Chains, Draws, FromSurrogate, Importance, Warm
from rdmc.kernels import MALA
from rdmc.locate.survey import Known, Survey
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.process import EDM
from rdmc.reverse import RDMC
from rdmc.rng import Streams
from rdmc.schedule import Fixed
from rdmc.score import Tweedie
from rdmc.steps import Bridge, Exponential, Step
from tests.stats import assert_within

F = torch.float64
# a factor of 8 in the signal-to-noise ratio: levels are a factor of 2.5 apart, and a draw that the bridge uses begins to bind
# the particle before p_t has two modes
MARGIN = math.log(8.0)
M, S, WEIGHT = 4.0, 0.8, 0.7
PAIR = GaussianMixture.isotropic(
    torch.tensor([[-M, 1.0], [M, 1.0]], dtype=F),
    torch.tensor([S, S], dtype=F),
    torch.tensor([WEIGHT, 1 - WEIGHT], dtype=F),
)
SCHEDULE = Fixed(EDM(40.0), LogSNRGrid(10, 0.4))
IDENTITY = Affine.identity(2)


def density_of(mixture: GaussianMixture) -> Density:
    return Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)


def captured(sampler: object, draws: int = 2000, mixture: GaussianMixture = PAIR) -> tuple[rdmc.Result, Capture]:
    result = rdmc.sample(density_of(mixture), draws=draws, chains=2, sampler=sampler, progressbar=False)  # type: ignore[arg-type]
    return result, result.capture()


def test_edges_are_those_of_two_round_modes() -> None:
    """Closed form for S = s^2 I, and by the curvature of both densities for one that is not round."""
    low, high = edges(torch.tensor([M, 0.0], dtype=F), S**2 * torch.eye(2, dtype=F))
    assert low == pytest.approx(-math.log(M**2 - S**2), abs=1e-9)
    assert high == pytest.approx(math.log((M**2 - S**2) / S**4), abs=1e-9)
    assert edges(torch.tensor([0.7], dtype=F), torch.eye(1, dtype=F)) == (math.inf, -math.inf)

    half, covariance = torch.tensor([1.5, 0.7], dtype=F), torch.tensor([[0.6, 0.2], [0.2, 0.3]], dtype=F)
    low, high = edges(half, covariance)
    precision = torch.linalg.inv(covariance)
    slope = precision @ half

    def curvature(precision: torch.Tensor, slope: torch.Tensor) -> float:  # least of -log of the pair, at its middle
        return float(torch.linalg.eigvalsh(precision - torch.outer(slope, slope))[0])

    for shift, sign in ((-0.01, 1.0), (0.01, -1.0)):  # p_t / alpha has covariance S + I / snr
        noised = torch.linalg.inv(covariance + math.exp(-low - shift) * torch.eye(2, dtype=F))
        assert sign * curvature(noised, noised @ half) > 0.0
        assert sign * curvature(precision + math.exp(high + shift) * torch.eye(2, dtype=F), slope) < 0.0


@pytest.mark.parametrize("step", [Bridge(), Exponential()], ids=lambda step: type(step).__name__)
def test_exact_draws_keep_the_weights_at_every_level(step: Step) -> None:
    """The diffusion path: the frequency is the weight, before, in and after the window. The exponential step needs a fine grid."""
    schedule = SCHEDULE if isinstance(step, Bridge) else Fixed(EDM(40.0), LogSNRGrid(60, 0.4))
    sampler = RDMC(schedule, Importance(24, FromSurrogate()), step, Tweedie(), pilot=Known(PAIR), coordinates=IDENTITY)
    result, found = captured(sampler, 2000 if isinstance(step, Bridge) else 1000)
    n = result.chains * result.draws
    bias = (
        0.0 if isinstance(step, Bridge) else 0.02
    )  # of first order in the step: .010 in total variation at 100 levels, so about this at 60
    for share in found.table["mode 0"]:
        assert_within(share, WEIGHT, (WEIGHT * (1 - WEIGHT) / n) ** 0.5, allowance=bias, label="frequency")
    assert found.settled == 0
    low, high = found.window
    assert low == pytest.approx(-math.log(M**2 - S**2)) and high == pytest.approx(math.log((M**2 - S**2) / S**4))
    decided = found.table["log_snr"][found.decided or 0]
    assert low - MARGIN < decided < high, (decided, found.window)
    told = found.table["told"]
    # before the window nothing is told, at its end everything
    assert told[0] < 0.1 and told[np.searchsorted(found.table["log_snr"], high) - 1] > 0.99, told
    assert 0.0 < found.table["kept"][0] < 1.0 and found.table["kept"][-1] == 1.0


@dataclass(frozen=True)
class Local:
    """Local chains from wherever they are: first from the likelihood, then from the level before, or anew at x_t at every level."""

    anew: bool

    def draw(self, q: InnerPosterior, rng: Streams, start: Warm | None) -> Draws:
        begin = None if start is None else Warm((q.x_t / q.alpha)[None]) if self.anew else start
        return Chains(MALA(0.3), chains=1, burn_in=4, steps=4).draw(q, rng, begin)


def test_local_chains_decide_inside_the_window_and_wrongly() -> None:
    """Chains that begin at x_t at every level find the nearer mode: decided by the window, and not by the weights."""
    sampler = RDMC(SCHEDULE, Local(anew=True), pilot=Known(PAIR), coordinates=IDENTITY)
    _, found = captured(sampler)
    low, high = found.window
    print(found)
    assert found.decided is not None and low - MARGIN < found.table["log_snr"][found.decided] < high
    final = found.table["mode 0"][-1]
    assert abs(final - WEIGHT) > 0.1  # none of the errors of 4000 draws: the frequency is that of the nearer mode


def test_tempering_decides_on_its_way_and_moves_the_weights() -> None:
    """A wide and a narrow mode of equal mass: pi^beta gives the wide one more, until the way between them closes."""
    pair = GaussianMixture.isotropic(
        torch.tensor([[-2.0], [2.0]], dtype=F), torch.tensor([1.0, 0.35], dtype=F), torch.tensor([0.5, 0.5], dtype=F)
    )
    _, found = captured(AnnealedLangevin(budget=600, levels=24), mixture=pair)
    low, high = found.window
    at = np.array(found.table["log_snr"])
    print(found)
    assert found.settled > 0 and max(found.table["moved"]) > 0.05
    assert low - MARGIN < at[found.decided or 0] < high + MARGIN
    assert at[-1] == math.inf and found.table["sigma"][-1] == 0.0  # the last temperature is 1


def test_chains_that_never_move_are_told_apart_from_the_law() -> None:
    """Frozen chains keep their frequencies too: the sentence must not take that for the diffusion's."""
    sampler = RDMC(SCHEDULE, Local(anew=False), pilot=Known(PAIR), coordinates=IDENTITY)
    _, found = captured(sampler, 500)
    assert found.decided == 0 and "began" in found.sentence
    exact = RDMC(SCHEDULE, Importance(4, FromSurrogate()), estimator=Tweedie(), pilot=Known(PAIR), coordinates=IDENTITY)
    assert "the same at all levels" in captured(exact, 500)[1].sentence


def test_labels_count_each_particle_once() -> None:
    """Frequencies add to 1 with the unrecorded modes left out; components of one mode are one; a NaN is in no mode."""
    mean = torch.tensor([[0.0, 0.0], [0.5, 0.0], [9.0, 0.0]], dtype=F)
    mixture = GaussianMixture.isotropic(mean, torch.ones(3, dtype=F), torch.tensor([0.2, 0.2, 0.6], dtype=F))
    survey = Survey(IDENTITY, mixture, torch.zeros(3), torch.ones(3), 0.0)
    modes = Modes.of(survey)
    assert modes.count == 2 and modes.mode.tolist() == [1, 1, 0]
    points = torch.tensor([[0.1, 0.0], [0.6, 0.0], [8.0, 1.0], [math.nan, 0.0]], dtype=F)
    assert modes.label(points).tolist() == [1, 1, 0, -1]
    columns = modes.columns([modes.label(points)], modes.label(points.roll(1, 0)))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "mode 0": [0.25],
        "mode 1": [0.5],
        "kept": [0.25],
    }
    table = places(survey)
    assert table["location"] == [[9.0, 0.0], [0.0, 0.0]] and table["weight"] == pytest.approx([0.6, 0.4])
    many = GaussianMixture.isotropic(
        20.0 * torch.arange(1, 41, dtype=F)[:, None] ** 1.5,
        torch.ones(40, dtype=F),
        torch.linspace(2.0, 1.0, 40, dtype=F),
    )
    crowd = Modes.of(Survey(Affine.identity(1), many, torch.zeros(40), torch.ones(40), 0.0))
    assert crowd.count == 32 and crowd.label(many.mean)[31:].tolist() == [31] + 8 * [32]


def test_windows_of_several_modes_come_from_nearest_and_farthest_pairs() -> None:
    mean = torch.tensor([[0.0], [6.0], [30.0]], dtype=F)
    mixture = GaussianMixture.isotropic(mean, torch.ones(3, dtype=F), torch.tensor([0.5, 0.3, 0.2], dtype=F))
    table = places(Survey(Affine.identity(1), mixture, torch.zeros(3), torch.ones(3), 0.0))
    assert table["low"] == pytest.approx([-math.log(8.0), -math.log(8.0), -math.log(143.0)])
    assert table["high"] == pytest.approx([math.log(8.0), math.log(8.0), math.log(143.0)])
    assert table["first"] == pytest.approx([-math.log(224.0), -math.log(143.0), -math.log(224.0)])
    one = places(
        Survey(
            Affine.identity(1),
            GaussianMixture.isotropic(mean[:1], torch.ones(1, dtype=F), torch.ones(1, dtype=F)),
            torch.zeros(1),
            torch.ones(1),
            0.0,
        )
    )
    assert math.isnan(one["low"][0]) and math.isnan(one["first"][0])


def test_the_record_survives_files_and_exports(tmp_path: Path) -> None:
    result, found = captured(RDMC(), 300)
    again = rdmc.load(result.save(tmp_path / "run.npz")).capture()
    assert again.table == found.table and again.places == found.places and again.sentence == found.sentence
    names = mode_columns(result.inner)
    assert len(names) == 2 and not set(names) & set(trace_table(result.inner).columns)
    total = sum(np.asarray(result.inner[name]) for name in names)
    np.testing.assert_allclose(total, 1.0)


@pytest.mark.parametrize("sampler", ["mala", RDMC.published(levels=3, importance=4, chains=2, steps=2, start_steps=1)])
def test_runs_without_a_record_say_so(sampler: object) -> None:
    result = rdmc.sample(targets.two_modes(2), draws=20, chains=2, sampler=sampler, progressbar=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frequencies of modes"):
        result.capture()
    with pytest.raises(ValueError, match="frequencies of modes"):
        dataclasses.replace(captured(RDMC(), 50)[0], inner={}).capture()


def test_one_mode_has_nothing_to_decide() -> None:
    one = GaussianMixture.isotropic(torch.zeros(1, 2, dtype=F), torch.ones(1, dtype=F), torch.ones(1, dtype=F))
    found = captured(RDMC(), 60, one)[1]
    assert found.decided is None and "nothing to decide" in found.sentence and math.isnan(found.window[0])


def test_arviz_has_the_frequencies_as_one_variable() -> None:
    pytest.importorskip("arviz")
    result = captured(RDMC(), 50)[0]
    inner = result.to_arviz()["inner"]
    share = inner["mode_share"]
    assert share.dims == ("chain", "level", "mode") and "mode 0" not in inner
    np.testing.assert_array_equal(share.values[..., 1], result.inner["mode 1"])


def test_the_picture_has_the_window_and_the_frequencies() -> None:
    pytest.importorskip("matplotlib")
    from rdmc.plot_levels import capture_figure

    found = captured(RDMC(SCHEDULE, Importance(4, FromSurrogate()), estimator=Tweedie(), pilot=Known(PAIR)), 100)[1]
    left, right = capture_figure(found).axes
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), found.table["mode 0"])
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), found.table["told"])
    box = left.patches[0].get_extents().transformed(left.transData.inverted())
    np.testing.assert_allclose([box.x0, box.x1], found.window, atol=1e-6)
