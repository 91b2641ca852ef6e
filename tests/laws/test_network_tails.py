"""Heavier noise at the beginning of the flow: its density is known, weights stay unbiased, and long tails are reached."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.network import Tails
from rdmc.network.starting import Start
from rdmc.rng import Streams
from tests.laws.test_network import F, gaussian, line, network
from tests.stats import assert_within


def rng(n: int, seed: int = 0) -> Streams:
    return Streams.seeded(seed, [n], [(7,)])


@pytest.mark.parametrize("tails", [None, Tails(), Tails(share=0.4, df=2, scale=2.0)], ids=str)
def test_draws_have_the_density_of_the_noise(tails: Tails | None) -> None:
    """The density integrates to 1, and quantiles of it are those of the draws, in the tail too."""
    n, start = 40_000, Start(Affine(torch.tensor([2.0], dtype=F), torch.tensor([[3.0]], dtype=F)), tails)
    x = torch.linspace(-3000.0, 3000.0, 1_200_001, dtype=F)
    p = start.log_prob(x[:, None]).exp() * float(x[1] - x[0])
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-5)
    z = start.draw(rng(n))[:, 0]
    for edge in (-7.0, 0.0, 2.0, 5.0, 11.0, 20.0):
        truth = float(p[x > edge].sum())
        assert_within((z > edge).to(F).mean(), truth, (truth * (1 - truth) / n) ** 0.5 + 1e-5, n, label=f"above {edge}")


def test_noise_of_borrowed_coordinates_has_the_moments_of_the_draws() -> None:
    spread = Affine(torch.tensor([1.0, -2.0], dtype=F), torch.tensor([[0.5, 0.0], [0.2, 0.3]], dtype=F))
    start = Start.noised(spread, spread.centre, 0.7, None)
    covariance = spread.factor @ spread.factor.T + 0.49 * torch.eye(2, dtype=F)
    law = torch.distributions.MultivariateNormal(spread.centre, covariance)
    z = start.draw(rng(50))
    torch.testing.assert_close(start.log_prob(z), law.log_prob(z))


def heavy(scale: float) -> tuple[torch.distributions.StudentT, float]:
    return torch.distributions.StudentT(torch.tensor(3.0, dtype=F), 1.0, scale), 4.0


def test_weights_of_a_long_tail_are_bounded() -> None:
    """An exact network of a normal law, and a Student target: no variance without the heavier noise, bounded weights with it."""
    known, n = gaussian(1), 4000
    law, height = heavy(float(known.affine.factor))

    def target(x: Tensor) -> Tensor:
        return law.log_prob(x[:, 0]) + height

    bare, found = (known.weights(target, n, seed=4, tails=tails) for tails in (None, Tails(share=0.2, scale=1.0)))
    weight = (found.log_weight - height).exp()
    print(f"k {bare.pareto_k:.2f} and {found.pareto_k:.2f}, largest weight {float(weight.max()):.2f}")
    assert bare.pareto_k > 0.7 and found.pareto_k < 0.5 and found.check() == []
    assert (
        float(weight.max()) < 1.2 / 0.2
    )  # the flow of a normal law is a dilation, so t / (share t), but for its few steps
    assert_within(weight.mean(), 1.0, weight.std() / n**0.5, found.ess, label="evidence")
    second = (weight * (found.x[:, 0] - 1.0).abs()).mean()
    truth = float(known.affine.factor) * 2.0 * math.sqrt(3.0) / math.pi  # E|t_3|
    error = (weight * (found.x[:, 0] - 1.0).abs()).std() / n**0.5
    assert_within(second, truth, error, found.ess, label="mean distance")


@pytest.mark.parametrize("tails", [Tails(), Tails(share=0.5, df=1, scale=2.0)], ids=str)
def test_evidence_is_unbiased_whatever_the_tails(tails: Tails) -> None:
    found = network("line").weights(line(), 10_000, seed=3, steps=10, tails=tails)
    weight = found.log_weight.exp()
    assert_within(weight.mean(), 1.0, weight.std() / 10_000**0.5, found.ess, label="evidence")
    assert found.folded == 0.0


def test_without_tails_the_weighted_draws_are_those_of_sample() -> None:
    known = network("line")
    bare, found = (known.weights(line(), 500, seed=6, tails=tails) for tails in (None, Tails()))
    torch.testing.assert_close(bare.x, known.sample(500, seed=6), rtol=1e-5, atol=1e-5)
    same = ((bare.x - found.x).abs() < 1e-9).to(F).mean()
    assert_within(same, 0.9, (0.09 / 500) ** 0.5, 500, label="share of normal noise")


def test_bad_tails_are_named() -> None:
    for arguments, name in (({"share": 1.0}, "share"), ({"df": 0}, "df"), ({"scale": -1.0}, "scale")):
        with pytest.raises(ValueError, match=f"`{name}`"):
            Tails(**arguments)  # type: ignore[arg-type]
