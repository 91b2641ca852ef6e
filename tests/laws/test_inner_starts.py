"""Warm starts, compositions and refusals of the inner samplers."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rdmc.inner import (
    Annealed,
    Chains,
    FromSurrogate,
    GuidedChains,
    Importance,
    InnerSampler,
    Recursive,
    Rejection,
    Shifted,
    Staged,
    Started,
    Warm,
)
from rdmc.inner.mixing import endpoint_rhat
from rdmc.kernels import HMC, MALA, ULA
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from tests.laws.cases import INNER, F, as_target, bimodal, generator, name_of, posterior
from tests.laws.test_inner import check_repeats, exact_moments
from tests.stats import assert_within

ALL = pytest.mark.parametrize("case", INNER, ids=name_of)
POINTS = 3  # conditioning points in `posterior`


@pytest.mark.parametrize(
    "sampler",
    [Chains(MALA(), 3, 0, 2), Chains(HMC(leapfrogs=2), 3, 1, 2), Chains(ULA(), 3, 0, 2)],
    ids=repr,
)
def test_a_warm_start_costs_no_evaluation(sampler: InnerSampler) -> None:
    q = posterior(2, 4)
    counter = q.target.counter  # type: ignore[attr-defined]
    rng = Streams.seeded(0, [q.particles])
    first = sampler.draw(q, rng, None)
    cold = counter.gradients
    later = dataclasses.replace(q, alpha=0.9, sigma=0.4)
    sampler.draw(later, rng, first.warm)
    assert counter.gradients - cold == cold - 3 * q.particles and counter.densities == 0


@pytest.mark.parametrize("given", [1, 2, 5])
@pytest.mark.parametrize("sampler", [Chains(MALA(), 3, 1, 4), Recursive(Chains(MALA(), 2, 0, 2), chains=3)])
def test_any_number_of_warm_points_will_do(sampler: InnerSampler, given: int) -> None:
    q = posterior(2, 4)
    x = torch.randn(given, q.particles, 2, generator=generator(0), dtype=F)
    drawn = sampler.draw(q, Streams.seeded(0, [q.particles]), Warm(x))
    assert drawn.chains == 3 and drawn.warm.x.shape == (3, q.particles, 2) and drawn.x_0.shape[0] % 3 == 0
    full = Chains(MALA(), given).draw(q, Streams.seeded(1, [q.particles]), None).warm
    for part, whole in zip(full.for_chains(3), full, strict=True):
        assert isinstance(part, Tensor) == isinstance(whole, Tensor)
        if isinstance(part, Tensor) and isinstance(whole, Tensor):
            assert torch.equal(part[0], whole[0]) and torch.equal(part[2], whole[2 % given])


def test_a_warm_start_is_where_the_chains_begin() -> None:
    q = posterior(2, 4)
    x = torch.full((2, q.particles, 2), 0.25, dtype=F)
    drawn = Chains(MALA(1e-12), chains=2, burn_in=0, steps=1).draw(q, Streams.seeded(0, [q.particles]), Warm(x))
    torch.testing.assert_close(drawn.warm.x, x, rtol=0.0, atol=1e-4)


def test_started_begins_from_what_the_first_found() -> None:
    q = posterior(2, 300, sigma=2.0)
    stuck = Started(Importance(400), Chains(MALA(1e-12), chains=4, burn_in=0, steps=1))
    drawn = stuck.draw(q, Streams.seeded(0, [q.particles]), None)
    check_repeats(drawn.average(drawn.x_0), exact_moments(q)[0], 0.0, "started")


def test_started_finds_what_chains_alone_do_not() -> None:
    far = bimodal(1)
    far = dataclasses.replace(far, mean=far.mean * 8.0)
    q = InnerPosterior(as_target(far), torch.zeros(600, 1, dtype=F), 0.3, 1.0)
    chains = Chains(MALA(), chains=2, burn_in=10, steps=10)
    law = far.condition(q.x_t, q.alpha, q.sigma)
    right = law.log_weight[0, 1].exp()
    found = {}
    for name, sampler in (("alone", chains), ("started", Started(Importance(128), chains, 2))):
        drawn = sampler.draw(q, Streams.seeded(0, [600]), None)
        found[name] = (drawn.draw[:, 0] > 0.0).double()
    assert_within(found["started"].mean(), right, found["started"].std() / 600**0.5, 600, label="started")
    assert abs(float(found["alone"].mean() - right)) > 0.1


def test_staged_follows_the_log_snr() -> None:
    q = posterior(1, 2)
    staged = Staged(((-2.0, Importance(7)), (0.0, Chains(MALA(), 2, 1, 3)), (2.0, Importance(9))))
    rng, warm, sizes = Streams.seeded(0, [q.particles]), None, []
    for log_snr in (-5.0, -1.0, 0.5, 1.9, 3.0, 8.0, 1.0, -3.0):
        level = dataclasses.replace(q, alpha=1.0, sigma=math.exp(-0.5 * log_snr))
        drawn = staged.draw(level, rng, warm)
        warm = drawn.warm
        sizes.append(drawn.x_0.shape[0])
    assert sizes == [7, 7, 6, 6, 9, 9, 6, 7]


def test_staged_keeps_a_tuning_to_its_stage() -> None:
    q = posterior(1, 2)
    rng = Streams.seeded(0, [q.particles])
    chains = Chains(MALA(0.3), 2, 0, 2)
    staged = Staged(((-math.inf, chains), (2.0, Chains(HMC(0.3, 2), 2, 0, 2))))
    low, high = dataclasses.replace(q, sigma=2.0), dataclasses.replace(q, sigma=0.1)
    first = staged.draw(low, rng, None).warm
    assert first.tuning is not None and first.stage == 0
    changed = first._replace(tuning=first.tuning - 3.0)
    same, crossed = staged.draw(low, rng, changed).warm.tuning, staged.draw(high, rng, changed).warm.tuning
    assert same is not None and crossed is not None
    assert torch.equal(same, changed.tuning)  # type: ignore[arg-type]
    assert torch.equal(crossed, torch.full_like(crossed, math.log(0.3)))


def test_recursive_does_not_depend_on_the_process() -> None:
    q = posterior(2, 10, alpha=0.8, sigma=0.7)
    exploding = dataclasses.replace(q, x_t=q.x_t / 0.8, alpha=1.0, sigma=0.7 / 0.8)
    sampler = Recursive(Chains(MALA(), 2, 1, 2), 1.0, 2, 2, 3)
    one, two = (sampler.draw(p, Streams.seeded(0, [30]), None).x_0 for p in (q, exploding))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Importance(0), "`n` must be an integer of at least 1, got 0"),
        (lambda: Importance(handed_on=True), "`handed_on` must be an integer of at least 1, got True"),
        (lambda: Shifted(-1.0), "`length` must be a positive float, got -1.0"),
        (lambda: Rejection(math.inf), "`log_bound` must be a finite float, got inf"),
        (lambda: Rejection(0.0, rounds=0), "`rounds` must be an integer of at least 1, got 0"),
        (lambda: Annealed(temperatures=0), "`temperatures` must be an integer of at least 1, got 0"),
        (lambda: Annealed(power=0.0), "`power` must be a positive float, got 0.0"),
        (lambda: Chains(chains=0), "`chains` must be an integer of at least 1, got 0"),
        (lambda: Chains(burn_in=-1), "`burn_in` must be an integer of at least 0, got -1"),
        (lambda: GuidedChains(rounds=0), "`rounds` must be an integer of at least 1, got 0"),
        (lambda: Recursive(log_snr_gain=0.0), "`log_snr_gain` must be a positive float, got 0.0"),
        (lambda: Recursive(steps=0), "`steps` must be an integer of at least 1, got 0"),
        (lambda: Staged(()), "`stages` must have at least one"),
        (lambda: Staged(((1.0, Chains()), (1.0, Chains()))), "`stages` must have increasing log-SNR thresholds, got"),
        (lambda: Started(Importance(), Chains(), 0), "`chains` must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        build()  # type: ignore[operator]


def test_a_missing_surrogate_is_named() -> None:
    q = dataclasses.replace(posterior(1, 1), surrogate=None)
    for sampler in (GuidedChains(), Importance(4, FromSurrogate()), Annealed(4, 2, proposal=FromSurrogate())):
        with pytest.raises(ValueError, match="needs `surrogate`, a GaussianMixture near pi, got None"):
            sampler.draw(q, Streams.seeded(0, [3]), None)


def test_guided_chains_start_warm_and_watch_themselves() -> None:
    """A warm start costs nothing, witnesses cost their share, and their presence changes neither shape nor shard's bits."""
    q = posterior(2, 6)
    counter = q.target.counter  # type: ignore[attr-defined]
    keys, sizes = [(0,), (1,)], [q.particles - 5, 5]
    sampler = GuidedChains(rounds=2, steps=3, witnesses=4)
    rng = Streams.seeded(0, sizes, keys)
    first = sampler.draw(q, rng, None)
    rows = q.particles + 8
    assert counter.gradients == rows * (2 + 2 * 4) and counter.densities == 0
    again = sampler.draw(dataclasses.replace(q, sigma=0.4), rng, first.warm)
    assert counter.gradients == rows * (2 + 2 * 4 + 2 * 4)
    assert again.continued and not first.continued and again.x_0.shape == (8, q.particles, 2)
    for shard, part in enumerate((slice(0, sizes[0]), slice(sizes[0], None))):
        own = dataclasses.replace(q, x_t=q.x_t[part])
        alone = sampler.draw(own, Streams.seeded(0, [sizes[shard]], [keys[shard]]), None)
        assert torch.equal(alone.draw, first.draw[part])


def test_rhat_of_ends_is_the_share_of_the_beginning_that_is_left() -> None:
    """Chains x' = phi x + sqrt(1 - phi^2) z forget at a known rate: R-hat = 1 / sqrt(1 - phi)."""
    begin = torch.randn(2, 20_000, 2, generator=generator(1), dtype=F)
    noise = torch.randn(2, 20_000, 2, generator=generator(2), dtype=F)
    for phi in (0.0, 0.5, 0.9):
        end = phi * begin + (1.0 - phi**2) ** 0.5 * noise
        assert float(endpoint_rhat(begin, end)) == pytest.approx((1.0 - phi) ** -0.5, rel=0.05, abs=0.02)
    assert float(endpoint_rhat(begin, begin)) == math.inf
    assert math.isnan(float(endpoint_rhat(begin[:1], begin[:1])))
