"""The path from a reference to the target: its laws, and that the moves of every temperature leave them as they are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rdmc.correct import Law, Population, Reference, Tempered, Tempering
from rdmc.correct.temper import Rung
from rdmc.density import Density
from rdmc.student import StudentMixture
from tests.correct.cases import LAWS, OnLine, as_target, core, gaussian_law, reference, streams
from tests.laws.cases import F, bimodal, generator, skewed, spd
from tests.stats import assert_within

BETAS = pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
EACH = pytest.mark.parametrize("name", LAWS)


def population(target: Density, x: Tensor) -> Population:
    value, grad = target.value_and_grad(x)
    return Population(x, value, grad, torch.arange(len(x)))


def rung(beta: float, rounds: int, step: float = 0.4, components: int = 3) -> Rung:
    tuning = torch.linspace(math.log(step), math.log(2.0 * step), components, dtype=F)[None]
    return Rung(beta, rounds, tuning, 3)


@BETAS
@EACH
def test_the_path_is_the_geometric_one(name: str, beta: float) -> None:
    target, law = skewed(2), LAWS[name](2)
    tempered = Tempered(target, law, beta)
    x = torch.randn(6, 5, 2, generator=generator(0), dtype=F)
    exact = beta * target(x) + (1.0 - beta) * law.log_prob(x)
    torch.testing.assert_close(tempered(x), exact)
    leaf = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad((beta * target.log_density(leaf) + (1.0 - beta) * law.log_prob(leaf)).sum(), leaf)
    before = target.counter.gradients
    value, slope = tempered.value_and_grad(x)
    assert target.counter.gradients - before == 30 and tempered.dim == 2
    torch.testing.assert_close(value, exact)
    torch.testing.assert_close(slope, grad)


@BETAS
@EACH
def test_the_target_comes_back_from_a_state_at_no_evaluation(name: str, beta: float) -> None:
    target = skewed(2)
    x = torch.randn(6, 2, generator=generator(0), dtype=F)
    value, grad = target.value_and_grad(x)
    tempered = Tempered(target, LAWS[name](2), beta)
    back = tempered.target_part(tempered.state(x, value, grad))
    assert target.counter.gradients == 6 and target.counter.densities == 0
    for got, wanted in zip(back, (value, grad), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@BETAS
@pytest.mark.parametrize("local", [0, 3])
@EACH
def test_moves_keep_the_law_of_their_temperature(name: str, local: int, beta: float) -> None:
    """On the line, from exact draws of g^(1-beta) pi^beta for a skewed pi; every particle moves on its own."""
    target, law = skewed(1), LAWS[name](1)
    line = OnLine(lambda x: beta * target.log_density(x) + (1.0 - beta) * law.log_prob(x))
    x = line.draw(6000, 3)
    line.assert_law_of(x[:, 0], "start")
    start = population(target, x)
    end, _, stage = Tempering(local=local).step(target, reference(law), start, beta, rung(beta, 2), streams(6000))
    assert torch.equal(end.origin.sort().values, start.origin) and float(stage.increment) == pytest.approx(
        0.0, abs=1e-12
    )
    changed = float((end.x != x).double().mean())
    assert changed > 0.2
    line.assert_law_of(end.x[:, 0], f"{name} at {beta}")


@BETAS
def test_moves_keep_a_tempered_gaussian_with_its_correlations(beta: float) -> None:
    """N(m, S) from N(c, C): the path is Gaussian, of precision beta S^-1 + (1 - beta) C^-1."""
    m, s, c, cc = torch.tensor([1.0, -0.5, 0.3], dtype=F), spd(3, 1), torch.zeros(3, dtype=F), 1.5 * spd(3, 2)
    precision = torch.linalg.inv(s)
    target = Density(lambda x: -0.5 * ((x - m) @ precision * (x - m)).sum(-1), 3)
    between = beta * precision + (1.0 - beta) * torch.linalg.inv(cc)
    covariance = torch.linalg.inv(between)
    mean = covariance @ (beta * precision @ m + (1.0 - beta) * torch.linalg.solve(cc, c))
    root, n = torch.linalg.cholesky(covariance), 8000
    x = mean + torch.randn(n, 3, generator=generator(4), dtype=F) @ root.T
    own = reference(gaussian_law(c, cc))
    end, _, stage = Tempering(local=2).step(target, own, population(target, x), beta, rung(beta, 3), streams(n))
    assert 0.2 < float(stage.acceptance) < 0.98 and 0.05 < float(stage.jump_acceptance) <= 1.0
    white = torch.linalg.solve_triangular(root, (end.x - mean).T, upper=False).T
    normal = OnLine(lambda z: -0.5 * z[..., 0].square())
    for axis in (*torch.eye(3, dtype=F), torch.full((3,), 3**-0.5, dtype=F)):
        normal.assert_law_of(white @ axis, f"{axis.tolist()}")


@pytest.mark.parametrize(("beta", "then"), [(0.0, 0.3), (0.2, 0.7), (0.6, 1.0)])
@EACH
def test_a_step_brings_the_law_to_the_next_temperature(name: str, beta: float, then: float) -> None:
    """Exact draws at one beta, weighed, resampled and moved once, have the moments of the next."""
    target, law, n = skewed(1), LAWS[name](1), 20_000

    def at(b: float) -> OnLine:
        return OnLine(lambda x: b * target.log_density(x) + (1.0 - b) * law.log_prob(x))

    start = population(target, at(beta).draw(n, 5))
    end, _, stage = Tempering(local=1).step(target, reference(law), start, beta, rung(then, 1), streams(n))
    u = at(then).cdf(end.x[:, 0])
    ess = n * float(stage.ess)
    assert_within(u.mean(), 0.5, (1 / 12 / ess) ** 0.5, ess, label="mean of transforms")
    assert_within(u.square().mean(), 1 / 3, (4 / 45 / ess) ** 0.5, ess, label="mean square of transforms")
    step = math.log(at(then).mass / at(beta).mass)  # type: ignore[attr-defined]
    error = math.sqrt((1.0 / float(stage.ess) - 1.0) / n)
    assert_within(float(stage.increment), step, error, ess, label="increment")
    torch.testing.assert_close(end.value, target(end.x))
    torch.testing.assert_close(end.grad, target.value_and_grad(end.x)[1], rtol=1e-9, atol=1e-9)


def test_a_label_needs_its_term_in_the_ratio() -> None:
    """The guide's components differ in scale by ten and overlap: without r(k|x')/r(k|x) the law would drift."""
    pi = bimodal(1)
    line = OnLine(pi.log_prob)
    wide = core(1)
    guide = StudentMixture(
        type(wide)(wide.log_weight, wide.mean, wide.basis, torch.tensor([[0.02], [2.0], [0.3]], dtype=F)), 4
    )
    law: Law = LAWS["student"](1)
    start = population(as_target(pi), line.draw(6000, 6))
    end, _, _ = Tempering(local=20).step(
        as_target(pi), Reference(law, guide, "test"), start, 1.0, rung(1.0, 1, 0.7), streams(6000)
    )
    line.assert_law_of(end.x[:, 0])


def test_outside_the_support_a_weight_is_none_and_nothing_stays_there() -> None:
    target = Density(lambda x: torch.where(x[..., 0] > 0.5, -x[..., 0], -torch.inf), 1)
    own, n = reference(LAWS["student"](1)), 4000
    start = Tempering().begin(target, own.law, streams(n, 1))
    inside = float((start.value > -torch.inf).double().mean())
    assert 0.1 < inside < 0.9
    end, _, stage = Tempering().step(target, own, start, 0.0, rung(1.0, 3), streams(n))
    assert bool((end.x > 0.5).all()) and float(stage.nonfinite) == 0.0
    ess = n * float(stage.ess)
    assert_within(end.x.mean(), 1.5, ess**-0.5, ess, label="mean of 1/2 + Exp(1)")
