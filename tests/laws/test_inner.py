"""Laws of inner samplers: mean and spread of q in closed form, cost, reproducibility, honesty about failure."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.errors import RejectionBoundError
from rdmc.inner import (
    Annealed,
    Draws,
    FromSurrogate,
    Importance,
    InnerSampler,
    Rejection,
    Shifted,
    Warm,
)
from rdmc.inner.base import resample
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from tests.laws.cases import BOUND, INNER, F, InnerCase, bimodal, generator, name_of, posterior
from tests.stats import assert_within

ALL = pytest.mark.parametrize("case", INNER, ids=name_of)
POINTS = 3  # conditioning points in `posterior`


def exact_moments(q: InnerPosterior) -> tuple[Tensor, Tensor]:
    """``(B, d)`` mean and second moment of q, in closed form."""
    law = bimodal(q.dim).condition(q.x_t, q.alpha, q.sigma)
    weight = law.log_weight.exp()
    within = torch.einsum("kij,kj,kij->ki", law.basis, law.variance, law.basis)
    return torch.einsum("bk,bki->bi", weight, law.mean), torch.einsum("bk,bki->bi", weight, law.mean.square() + within)


def check_repeats(values: Tensor, truth: Tensor, allowance: float, label: str) -> None:
    """Compare the average over repeats with the truth, for each of the conditioning points."""
    grouped = values.view(POINTS, -1, values.shape[-1])
    n = grouped.shape[1]
    assert_within(
        grouped.mean(1), truth.view(POINTS, n, -1)[:, 0], grouped.std(1) / n**0.5, n, allowance=allowance, label=label
    )


@pytest.mark.parametrize(("dim", "sigma"), [(1, 0.7), (2, 0.5)])
@ALL
def test_mean_spread_and_draw_are_those_of_q(case: InnerCase, dim: int, sigma: float) -> None:
    repeats = 600 if dim == 1 and "recursive" in case.name else 150  # the allowance hides bugs unless noise is low
    q = posterior(dim, repeats, sigma=sigma)
    drawn = case.sampler.draw(q, Streams.seeded(3, [q.particles]), None)
    mean, second = exact_moments(q)
    check_repeats(drawn.average(drawn.x_0), mean, case.allowance, f"{case.name} mean")
    check_repeats(drawn.average(drawn.x_0.square()), second, case.allowance, f"{case.name} second moment")
    check_repeats(drawn.draw, mean, case.allowance, f"{case.name} draw")
    check_repeats(drawn.draw.square(), second, case.allowance, f"{case.name} draw squared")
    warm = drawn.warm.x.mean(0)
    check_repeats(warm, mean, case.allowance, f"{case.name} warm start")


@ALL
def test_gradients_are_those_of_q(case: InnerCase) -> None:
    q = posterior(2, 2)
    drawn = case.sampler.draw(q, Streams.seeded(3, [q.particles]), None)
    if drawn.grad is not None:
        torch.testing.assert_close(drawn.grad, q.value_and_grad(drawn.x_0)[1], rtol=1e-9, atol=1e-9)
    if drawn.warm.value is not None:
        value, grad = q.target.value_and_grad(drawn.warm.x)
        torch.testing.assert_close((drawn.warm.value, drawn.warm.grad), (value, grad), rtol=1e-9, atol=1e-9)


@ALL
def test_the_cost_is_the_stated_one(case: InnerCase) -> None:
    q = posterior(2, 2)
    case.sampler.draw(q, Streams.seeded(0, [q.particles]), None)
    counter = q.target.counter  # type: ignore[attr-defined]
    assert (counter.gradients, counter.densities) == (case.gradients * q.particles, case.densities * q.particles)


@ALL
def test_shards_together_equal_each_alone_bit_for_bit(case: InnerCase) -> None:
    sizes, keys = [3, 6], [(0, 7), (1, 2)]
    q = posterior(2, 3)
    together = case.sampler.draw(q, Streams.seeded(5, sizes, keys), None)
    together = case.sampler.draw(q, Streams.seeded(6, sizes, keys), together.warm)
    begin = 0
    for size, key in zip(sizes, keys, strict=True):
        part = slice(begin, begin + size)
        mine = dataclasses.replace(q, x_t=q.x_t[part])
        alone = case.sampler.draw(mine, Streams.seeded(5, [size], [key]), None)
        alone = case.sampler.draw(mine, Streams.seeded(6, [size], [key]), alone.warm)
        assert torch.equal(together.draw[part], alone.draw)
        assert torch.equal(together.x_0[:, part], alone.x_0)
        assert torch.equal(together.average(together.x_0)[part], alone.average(alone.x_0))
        begin += size


@ALL
def test_a_seed_fixes_the_bits_and_nothing_else_is_touched(case: InnerCase) -> None:
    q, before = posterior(2, 2), torch.get_rng_state()
    given = q.x_t.clone()
    first, again, other = (case.sampler.draw(q, Streams.seeded(s, [q.particles]), None) for s in (4, 4, 5))
    assert torch.equal(first.draw, again.draw) and not torch.equal(first.draw, other.draw)
    copies = [part.clone() if isinstance(part, Tensor) else part for part in first.warm]
    case.sampler.draw(q, Streams.seeded(1, [q.particles]), first.warm)
    for copy, part in zip(copies, first.warm, strict=True):
        assert not isinstance(copy, Tensor) or torch.equal(copy, part)  # type: ignore[arg-type]
    assert torch.equal(q.x_t, given) and torch.equal(torch.get_rng_state(), before)


def with_hole(value_there: float) -> Density:
    """bimodal(2), but ``value_there`` where x_1 > 0.4."""
    mixture = bimodal(2)

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = mixture.value_and_grad(x)
        hole = x[:, 0] > 0.4
        return torch.where(hole, value_there, value), torch.where(hole[:, None], torch.nan, grad)

    return Density(lambda x: value_and_grad(x)[0], 2, value_and_grad)


HONEST = [case for case in INNER if case.name not in ("rejection", "recursive-twice")]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("case", HONEST, ids=name_of)
def test_nonfinite_is_refused_and_counted(case: InnerCase, bad: float) -> None:
    q = dataclasses.replace(posterior(2, 5), target=with_hole(bad))
    drawn = case.sampler.draw(q, Streams.seeded(0, [q.particles]), None)
    assert 0.0 < float(drawn.nonfinite) < 1.0
    for part in (drawn.x_0, drawn.draw, drawn.weight, drawn.average(drawn.x_0)):
        assert bool(torch.isfinite(part).all())
    if drawn.chains == 0:
        assert bool((drawn.weight[drawn.x_0[..., 0] > 0.4] == 0.0).all()) and bool((drawn.draw[..., 0] <= 0.4).all())
        assert drawn.grad is None or bool(torch.isfinite(drawn.average(drawn.grad)).all())


@pytest.mark.parametrize("case", HONEST, ids=name_of)
def test_outside_the_support_is_legal(case: InnerCase) -> None:
    q = dataclasses.replace(posterior(2, 5), target=with_hole(-torch.inf))
    drawn = case.sampler.draw(q, Streams.seeded(0, [q.particles]), None)
    assert float(drawn.nonfinite) == 0.0 and bool(torch.isfinite(drawn.average(drawn.x_0)).all())


@pytest.mark.parametrize("sampler", [Importance(50), Importance(50, gradients=True), Annealed(20, 3)], ids=name_of)
@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_particle_without_weight_says_so(sampler: InnerSampler, bad: float) -> None:
    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(x[:, 0] > -5.0, -x.square().sum(-1), bad), -2.0 * x

    target = Density(lambda x: value_and_grad(x)[0], 2, value_and_grad)
    q = InnerPosterior(target, torch.tensor([[-90.0, 0.0], [0.5, 0.5]], dtype=F), 1.0, 0.3)
    drawn = sampler.draw(q, Streams.seeded(0, [2]), None)
    assert float(drawn.ess[0]) == 0.0 and float(drawn.ess[1]) > 5.0
    assert bool(torch.isfinite(drawn.draw).all()) and bool(torch.isfinite(drawn.average(drawn.x_0)).all())
    error = drawn.average_variance(drawn.x_0)
    assert bool((error[0] == torch.inf).all()) and bool(torch.isfinite(error[1]).all())
    assert (float(drawn.nonfinite) > 0.4) == math.isnan(bad)


def weighted(log_weight: list[float]) -> Draws:
    """Draws 0, 1, 2, ... of one particle with given weights."""
    x = torch.arange(float(len(log_weight)), dtype=F)[:, None, None]
    return Draws(x, x[0], None, torch.tensor(log_weight, dtype=F)[:, None], 0, None, None, x.new_zeros(()), Warm(x))


def test_resampling_follows_the_weights_and_never_picks_a_weight_of_zero() -> None:
    weight = [0.0, 0.1, 0.0, 0.6, 0.3, 0.0]
    drawn = weighted([math.log(w) if w > 0.0 else -math.inf for w in weight])
    picked = resample(drawn, Streams.seeded(0, [1]), 20_000)[:, 0, 0]
    share = torch.stack([(picked == i).double().mean() for i in range(6)])
    truth = torch.tensor(weight, dtype=F)
    assert_within(share[[1, 3, 4]], truth[[1, 3, 4]], (truth * (1 - truth) / 20_000).sqrt()[[1, 3, 4]], 20_000)
    assert float(share[[0, 2, 5]].sum()) == 0.0
    assert float(drawn.ess) == pytest.approx(1.0 / (0.01 + 0.36 + 0.09))


def test_the_variance_of_an_average_is_known_or_infinite() -> None:
    assert float(weighted([0.0]).average_variance(weighted([0.0]).x_0)) == math.inf
    alone = weighted([-math.inf, 0.0, -math.inf])
    assert float(alone.average_variance(alone.x_0)) == math.inf and float(alone.ess) == 1.0
    equal = weighted([2.0] * 5)
    assert float(equal.average_variance(equal.x_0)) == pytest.approx(2.5 / 5.0)  # sample variance / n


@pytest.mark.parametrize(("chains", "kept"), [(1, 1), (1, 9), (4, 3), (6, 1)])
def test_the_variance_of_the_average_of_chains_is_that_of_their_means(chains: int, kept: int) -> None:
    x = torch.randn(chains * kept, 7, 3, generator=generator(2), dtype=F)
    drawn = dataclasses.replace(weighted([0.0]), x_0=x, log_weight=None, chains=chains)
    if chains == kept == 1:
        assert bool((drawn.average_variance(x) == math.inf).all())
        return
    groups = x.view(chains, kept, 7, 3) if chains > 1 else x[-2 * (kept // 2) :].view(2, kept // 2, 7, 3)
    wanted = groups.mean(1).numpy().var(0, ddof=1) / len(groups)
    assert drawn.average_variance(x).numpy() == pytest.approx(wanted, rel=1e-12)
    spread = x.numpy().var(0).sum(-1)
    assert drawn.ess.numpy() == pytest.approx((spread / wanted.sum(-1)).clip(max=chains * kept), rel=1e-12)
    alone = dataclasses.replace(drawn, x_0=x[:, 4:5])
    assert torch.equal(alone.ess, drawn.ess[4:5])  # whatever particles are beside it, to the bit


def test_importance_errors_are_calibrated() -> None:
    q = posterior(1, 500)
    drawn = Importance(200, FromSurrogate()).draw(q, Streams.seeded(1, [q.particles]), None)
    z = (drawn.average(drawn.x_0) - exact_moments(q)[0]) / drawn.average_variance(drawn.x_0).sqrt()
    assert 0.9 < float(z.std()) < 1.15


def test_a_good_surrogate_has_nearly_full_ess() -> None:
    q = posterior(2, 20)
    right = dataclasses.replace(q, surrogate=bimodal(2))
    drawn = Importance(100, FromSurrogate()).draw(right, Streams.seeded(1, [q.particles]), None)
    torch.testing.assert_close(drawn.ess, torch.full_like(drawn.ess, 100.0))
    unit = Density(lambda x: -0.5 * ((x - 3.0) / 0.4).square().sum(-1), 2)
    shifted = Importance(100, Shifted(0.4)).draw(
        dataclasses.replace(q, target=unit), Streams.seeded(1, [q.particles]), None
    )
    torch.testing.assert_close(shifted.ess, torch.full_like(shifted.ess, 100.0))


def test_rejection_raises_where_nothing_is_accepted() -> None:
    q = dataclasses.replace(posterior(2, 2), x_t=torch.tensor([[0.1, 0.0], [60.0, 0.0], [0.0, -70.0]], dtype=F))
    with pytest.raises(
        RejectionBoundError, match=r"none of 200 proposals for 2 of 3 particles at log-SNR 0\.267"
    ) as caught:
        Rejection(BOUND, proposals=100, rounds=2).draw(q, Streams.seeded(0, [3]), None)
    assert caught.value.particles is not None and caught.value.particles.tolist() == [1, 2]


def test_rejection_raises_where_its_bound_is_broken() -> None:
    q = posterior(2, 20)
    with pytest.raises(
        RejectionBoundError, match=r"-3 is not a bound: log_density exceeds it by 2\.\d+ for 60 of 60"
    ) as caught:
        Rejection(-3.0).draw(q, Streams.seeded(0, [60]), None)
    assert caught.value.particles is not None and len(caught.value.particles) == 60


def test_rejection_accepts_at_the_rate_of_its_bound() -> None:
    q = posterior(1, 50)
    loose, tight = (
        Rejection(bound, 200, 3, keep=5).draw(q, Streams.seeded(0, [150]), None).acceptance
        for bound in (BOUND + math.log(4.0), BOUND)
    )
    assert loose is not None and tight is not None
    assert float(tight.mean() / loose.mean()) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_rejection_refuses_and_counts_nonfinite(bad: float) -> None:
    q = dataclasses.replace(posterior(2, 5), target=with_hole(bad))
    drawn = Rejection(BOUND, 400).draw(q, Streams.seeded(0, [15]), None)
    assert float(drawn.nonfinite) > 0.0 and bool((drawn.draw[:, 0] <= 0.4).all())
