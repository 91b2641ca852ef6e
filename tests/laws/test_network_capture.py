"""Frequencies of modes along the draws of a network: the weights at every level for an exact one, in the end those of its draws."""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdmc.capture import edges
from rdmc.coordinates import Affine
from rdmc.density import Density
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.network import NetworkGuide, ScoreNetwork
from rdmc.network.module import DenoisingNetwork
from tests.laws.test_capture import MARGIN, PAIR, WEIGHT, M, S
from tests.laws.test_network import F, gaussian
from tests.stats import assert_within


class Exact(nn.Module):
    """The exact denoiser of a mixture, or with ``pulled`` one that takes every point for the left mode's at high noise."""

    def __init__(self, mixture: GaussianMixture, pulled: bool = False) -> None:
        super().__init__()
        self.mixture, self.pulled = mixture, pulled

    def forward(self, z: Tensor, sigma: Tensor) -> Tensor:
        given = self.mixture.condition(z, 1.0, float(sigma[0]))
        mean = (given.log_weight.exp()[..., None] * given.mean).sum(-2)
        return self.mixture.mean[0].expand_as(mean) if self.pulled and float(sigma[0]) > 6.0 else mean


def pair(pulled: bool = False) -> ScoreNetwork:
    """A network that knows the pair of modes exactly, in whitened coordinates that are not the user's."""
    centre, covariance = PAIR.moments()
    module = cast("DenoisingNetwork", Exact(PAIR, pulled))
    return dataclasses.replace(gaussian(2, 40.0), module=module, spread=Affine.from_covariance(centre, covariance))


def target(known: ScoreNetwork) -> tuple[Density, Known]:
    """The pair in the user's coordinates."""
    back = -torch.linalg.solve(known.affine.factor, known.affine.centre)
    mixture = PAIR.affine(back, known.affine.factor)
    return Density(mixture.log_prob, 2, mixture.value_and_grad), Known(mixture)


@pytest.mark.parametrize("method", ["heun", "exponential"])
def test_an_exact_network_keeps_the_weights_at_every_level(method: str) -> None:
    known, n = pair(), 1500
    density, pilot = target(known)
    found = known.capture(density, n, pilot=pilot, seed=1, steps=40, method=method)
    for share in found.table["mode 0"]:  # .02: of first order in the step, as that of the exponential step there
        assert_within(share, WEIGHT, (WEIGHT * (1 - WEIGHT) / n) ** 0.5, n, allowance=0.02, label="frequency")
    low, high = found.window  # sigma is that of the whitened coordinates, in which the pair has width S
    assert low == pytest.approx(-math.log(M**2 - S**2)) and high == pytest.approx(math.log((M**2 - S**2) / S**4))
    assert (low, high) == pytest.approx(edges(torch.tensor([M, 0.0], dtype=F), S**2 * torch.eye(2, dtype=F)))
    told, log_snr = np.array(found.table["told"]), np.array(found.table["log_snr"])
    print(found.sentence, told)
    assert found.decided is not None and low - MARGIN < log_snr[found.decided] < high
    assert told[0] < 0.1 and told[log_snr > high].min() > 0.99 and found.table["kept"][-1] == 1.0
    assert log_snr[0] == pytest.approx(-2 * math.log(40.0)) and found.particles == n


def test_the_end_is_that_of_the_draws() -> None:
    known, n = pair(), 400
    density, pilot = target(known)
    found = known.capture(density, n, pilot=pilot, seed=3, steps=12)
    x = known.affine.to_white(known.sample(n, seed=3, steps=12))
    left = float((x[:, 0] < 0).to(F).mean())
    assert found.table["mode 0"][-1] == pytest.approx(left)


def test_a_network_that_is_wrong_at_high_noise_has_wrong_weights_from_the_first_level_on() -> None:
    """Noise is pulled to the left mode until sigma = 6: all later draws of x_0, from any level, have too much of it."""
    known, n = pair(pulled=True), 1000
    density, pilot = target(known)
    found = known.capture(density, n, pilot=pilot, seed=1, steps=40)
    print(found)
    assert np.mean(found.table["mode 0"]) > WEIGHT + 0.05  # an exact network is within .02
    assert min(found.table["mode 0"]) > WEIGHT + 0.02


def test_guided_draws_are_captured_too() -> None:
    """Guided by a network of the left mode alone, with g = -1: all of it is the left mode."""
    known = pair()
    one = GaussianMixture.isotropic(PAIR.mean[:1], torch.tensor([S], dtype=F), torch.ones(1, dtype=F))
    left = dataclasses.replace(known, module=cast("DenoisingNetwork", Exact(one)))
    density, pilot = target(known)
    found = known.capture(density, 300, pilot=pilot, guide=NetworkGuide(left, -1.0))
    assert found.table["mode 0"][-1] == 1.0 and found.decided is None


def test_the_picture_is_that_of_a_run() -> None:
    pytest.importorskip("matplotlib")
    from rdmc.plot_levels import capture_figure

    known = pair()
    density, pilot = target(known)
    found = known.capture(density, 100, pilot=pilot)
    left, right = capture_figure(found).axes
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), found.table["mode 0"])
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), found.table["told"])
    box = left.patches[0].get_extents().transformed(left.transData.inverted())
    np.testing.assert_allclose([box.x0, box.x1], found.window, atol=1e-6)
