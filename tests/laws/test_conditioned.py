"""A mixture conditioned without a copy for each particle is the conditioned mixture: density, regions, draws, chains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rdmc.conditioned import Conditioned
from rdmc.kernels import IndependenceJump, Isotropic, MixtureMALA
from rdmc.look import pick
from rdmc.mixture import GaussianMixture
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from tests.laws.cases import F, generator, near_skewed, spd

B, K = 400, 4
LEVELS = [(0.9, 0.3), (0.3, 1.5), (1.0, 20.0), (1.0, 0.01)]


def mixture(dim: int) -> GaussianMixture:
    """Asymmetric, with components of unlike widths and directions."""
    mean = 2.0 * torch.randn(K, dim, generator=generator(0), dtype=F)
    covariance = torch.stack([spd(dim, k) * (0.3 + k) for k in range(K)])
    return GaussianMixture.from_covariance(mean, covariance, torch.tensor([1.0, 0.2, 3.0, 0.7], dtype=F))


def both(dim: int, alpha: float, sigma: float) -> tuple[Conditioned, GaussianMixture, Tensor]:
    """The same law in both forms, and ``(2, B, dim)`` points where it has mass."""
    g = mixture(dim)
    x_0 = g.draw(Streams.seeded(1, [B]))[0]
    x_t = alpha * x_0 + sigma * torch.randn(B, dim, generator=generator(2), dtype=F)
    near = sigma / (alpha**2 + sigma**2) ** 0.5
    points = x_0 + near * torch.randn(2, B, dim, generator=generator(3), dtype=F)
    return Conditioned(g, x_t, alpha, sigma), g.condition(x_t, alpha, sigma), points


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("dim", [1, 2, 9])
def test_it_is_the_conditioned_mixture(dim: int, alpha: float, sigma: float) -> None:
    lazy, dense, x = both(dim, alpha, sigma)
    for name in ("log_prob", "share"):
        got, exact = getattr(lazy.look(x), name), getattr(dense.look(x), name)
        torch.testing.assert_close(got, exact, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(lazy.log_prob(x), dense.log_prob(x), rtol=1e-9, atol=1e-9)
    label = torch.arange(2 * B).view(2, B) % K
    for name in ("colour", "colour_transpose"):
        torch.testing.assert_close(
            getattr(lazy, name)(x, label), getattr(dense, name)(x, label), rtol=1e-12, atol=1e-12
        )
    torch.testing.assert_close(lazy.centre(label), dense.centre(label), rtol=1e-9, atol=1e-9)
    assert lazy.components == dense.components == K


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("dim", [1, 2, 9])
def test_it_draws_the_same_from_the_same_numbers(dim: int, alpha: float, sigma: float) -> None:
    lazy, dense, _ = both(dim, alpha, sigma)
    for lead in ((), (1,), (3,)):
        (x, label), (exact, wanted) = (law.draw(Streams.seeded(4, [B]), lead) for law in (lazy, dense))
        assert torch.equal(label, wanted) and len(label.unique()) > 1
        torch.testing.assert_close(x, exact, rtol=1e-8, atol=1e-8)


def test_chains_take_the_same_way() -> None:
    lazy, dense, x = both(2, 0.8, 1.0)
    q = InnerPosterior(mixture(2).widened(1.3), lazy.x_t, 0.8, 1.0, mixture(2))
    ends = []
    for law in (lazy, dense):
        rng, metric = Streams.seeded(5, [B]), Isotropic(1.0)
        jump, local = IndependenceJump(law), MixtureMALA(law)
        state = jump.init(q, x[:1])
        tuning = local.tuning(state, rng)
        for kernel in (jump, local, local, jump, local):
            state, info = kernel.step(q, state, rng, tuning, metric)
            assert info.moved is not None and 0.1 < float(info.moved.double().mean()) < 1.0
            tuning = kernel.adapt(tuning, info, 0.3)
        ends.append(state.x)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-9)


def test_a_guide_is_conditioned_by_itself_where_it_is_no_mixture() -> None:
    class Halves:
        def condition(self, x_t: Tensor, alpha: float, sigma: float) -> GaussianMixture:
            return near_skewed(2).condition(x_t, 2.0 * alpha, sigma)

    x_t = torch.ones(3, 2, dtype=F)
    q = InnerPosterior(near_skewed(2), x_t, 0.5, 1.0, Halves())  # type: ignore[arg-type]
    torch.testing.assert_close(q.guide().log_prob(x_t), near_skewed(2).condition(x_t, 1.0, 1.0).log_prob(x_t))
    assert isinstance(InnerPosterior(near_skewed(2), x_t, 0.5, 1.0, near_skewed(2)).guide(), Conditioned)


@pytest.mark.parametrize("lead", [(), (5,)])
def test_pick_follows_the_weights(lead: tuple[int, ...]) -> None:
    weight = torch.tensor([[0.5, 0.0, 1.5], [0.0, 0.2, 0.2]], dtype=F)
    u = torch.tensor([0.2, 0.8], dtype=F).expand(*lead, 2)
    assert pick(weight, u).tolist() == torch.tensor([0, 2]).expand(*lead, 2).tolist()
    assert pick(weight[0], torch.tensor([0.2, 0.26, 1.0 - 1e-16], dtype=F)).tolist() == [0, 2, 2]
