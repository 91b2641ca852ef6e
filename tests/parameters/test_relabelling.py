"""Laws of relabelling: scrambled draws come back, what belongs together stays together, and nothing else changes."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.parameters import Parameter, Parameters
from rdmc.relabelling import KullbackLeibler, SquaredDistance, relabel
from targets import label_switching

F = torch.float64
CHAINS, DRAWS, K = 3, 200, 4


def mixture(seed: int = 0, spread: float = 0.3) -> tuple[dict[str, Tensor], Tensor]:
    """Labelled draws of a mixture in the plane, ascending in the first mean, and allocation probabilities of 50 points."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return spread * torch.randn(CHAINS, DRAWS, *shape, generator=generator, dtype=F)

    centre = torch.tensor([[0.0, 5.0], [2.0, -4.0], [4.0, 1.0], [6.0, 4.0]], dtype=F)
    draws = {
        "mean": centre + noise(K, 2),
        "sd": (torch.tensor([0.0, 0.5, -0.5, 0.2], dtype=F) + 0.3 * noise(K)).exp(),
        "weight": torch.softmax(torch.tensor([0.0, 1.0, 0.5, -0.5], dtype=F) + noise(K), -1),
    }
    y = centre[torch.randint(K, (50,), generator=generator)] + torch.randn(50, 2, generator=generator, dtype=F)
    return draws, allocation(draws, y)


def allocation(draws: dict[str, Tensor], y: Tensor) -> Tensor:
    """``(chain, draw, n, K)`` probabilities."""
    mean, sd, weight = (draws[name].unsqueeze(2) for name in ("mean", "sd", "weight"))
    square = (y[:, None] - mean).square().sum(-1)
    return torch.softmax(weight.log() - 2.0 * sd.log() - 0.5 * square / sd.square(), -1)


def scramble(draws: dict[str, Tensor], p: Tensor, seed: int = 1) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Every draw with its components in random order; and these orders."""
    order = torch.rand(CHAINS, DRAWS, K, generator=torch.Generator().manual_seed(seed), dtype=F).argsort(-1)
    moved = {
        name: value.take_along_dim(order.reshape(*order.shape, *(1,) * (value.ndim - 3)), 2)
        for name, value in draws.items()
    }
    return moved, p.take_along_dim(order[:, :, None], 3), order


BOTH = pytest.mark.parametrize("by_allocation", [True, False], ids=["allocation", "pivot"])


@BOTH
def test_scrambled_draws_come_back(by_allocation: bool) -> None:
    draws, p = mixture()
    moved, q, order = scramble(draws, p)
    assert not torch.equal(moved["mean"], draws["mean"])
    found = relabel(moved, q if by_allocation else None)
    for name, value in draws.items():
        assert torch.equal(found.draws[name], value)
    assert torch.equal(order.gather(-1, found.permutation), torch.arange(K).expand(CHAINS, DRAWS, K))
    assert torch.equal(found.permute(q, (1,)), p)


@BOTH
def test_components_keep_their_means_sds_and_weights_together(by_allocation: bool) -> None:
    draws, p = mixture(seed=3, spread=2.0)  # components overlap, so that the labelling is anybody's guess
    found = relabel(draws, p if by_allocation else None)
    rows = torch.cat([draws["mean"], draws["sd"][..., None], draws["weight"][..., None]], -1)
    after = torch.cat([found.draws["mean"], found.draws["sd"][..., None], found.draws["weight"][..., None]], -1)
    assert not torch.equal(after, rows)
    assert torch.equal(after.sort(2)[0].sum(2), rows.sort(2)[0].sum(2))
    for c, d in ((0, 0), (1, 7), (2, 199)):
        wanted = {tuple(row) for row in rows[c, d].tolist()}
        assert {tuple(row) for row in after[c, d].tolist()} == wanted and len(wanted) == K


@BOTH
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_a_second_time_changes_nothing(by_allocation: bool, spread: float) -> None:
    draws, p = mixture(seed=4, spread=spread)
    moved, q, _ = scramble(draws, p)
    once = relabel(moved, q if by_allocation else None)
    twice = relabel(once.draws, once.permute(q, (1,)) if by_allocation else None)
    assert torch.equal(twice.permutation, torch.arange(K).expand(CHAINS, DRAWS, K))
    assert twice.loss == pytest.approx(once.loss, rel=1e-10)


@BOTH
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_the_order_of_components_given_does_not_matter(by_allocation: bool, spread: float) -> None:
    draws, p = mixture(seed=5, spread=spread)
    one, other = (scramble(draws, p, seed) for seed in (6, 7))
    first, second = (relabel(moved, q if by_allocation else None) for moved, q, _ in (one, other))
    for name in draws:
        assert torch.equal(first.draws[name], second.draws[name])


@BOTH
def test_the_loss_is_what_was_stated_and_at_a_minimum(by_allocation: bool) -> None:
    draws, p = mixture(seed=8, spread=1.0)
    found = relabel(draws, p if by_allocation else None)
    if by_allocation:
        after = found.permute(p, (1,)).flatten(0, 1)
        q = after.mean(0)
        turned = [after[..., list(order)] for order in permutations(range(K))]
        every = [torch.special.xlogy(one, one / q).sum((1, 2)) for one in turned]
    else:
        raw = {name: value.flatten(0, 2).reshape(CHAINS * DRAWS * K, -1) for name, value in draws.items()}
        scale = {name: value.std(0, correction=0) for name, value in raw.items()}
        after = torch.cat([(found.draws[name].reshape(CHAINS * DRAWS, K, -1) / scale[name]) for name in draws], -1)
        every = [(after[:, list(o)] - after.mean(0)).square().sum((1, 2)) for o in permutations(range(K))]
    assert float(every[0].mean()) == pytest.approx(found.loss, rel=1e-10)
    assert bool((every[0] <= torch.stack(every).amin(0) + 1e-9).all())


def test_more_pivots_are_never_worse() -> None:
    draws, p = mixture(seed=9, spread=2.0)
    losses = [relabel(draws, p, starts=starts).loss for starts in (1, 30)]
    assert losses[1] < losses[0] - 1e-6


def test_divergences_are_those_of_their_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    f = torch.softmax(torch.randn(5, 7, 3, generator=generator, dtype=F), -1).mT
    f[0, 0] = 0.0  # no observation is ever given to this component
    centre = f.mean(0)
    square = (f[:, :, None] - centre).square().sum(-1)
    kl = torch.special.xlogy(f[:, :, None], f[:, :, None] / centre).sum(-1)
    for divergence, wanted in ((SquaredDistance(), square), (KullbackLeibler(), kl)):
        torch.testing.assert_close(divergence.own(f)[..., None] + divergence.cross(f, centre), wanted)
    zero = centre.clone()
    zero[1] = 0.0
    assert bool(torch.isfinite(KullbackLeibler().cross(f, zero)).all())


def test_matrices_between_components_and_shared_values() -> None:
    draws, p = mixture()
    generator = torch.Generator().manual_seed(2)
    transition = torch.rand(CHAINS, DRAWS, K, K, generator=generator, dtype=F)
    tau = torch.rand(CHAINS, DRAWS, generator=generator, dtype=F)
    moved, _, order = scramble(draws, p)
    both = transition.take_along_dim(order[..., None], 2).take_along_dim(order[:, :, None], 3)
    found = relabel({**moved, "transition": both, "tau": tau}, axes={"transition": (0, 1), "tau": ()})
    assert torch.equal(found.draws["transition"], transition) and torch.equal(found.draws["tau"], tau)


def test_arrays_give_arrays_and_draws_may_be_flat() -> None:
    draws, p = mixture()
    moved, q, _ = scramble(draws, p)
    flat = {name: value.flatten(0, 1).float().numpy() for name, value in moved.items()}
    flat["mean"].setflags(write=False)
    found = relabel(flat, q.flatten(0, 1).numpy(), sample_dims=1)
    assert found.permutation.shape == (CHAINS * DRAWS, K)
    for name, value in draws.items():
        assert isinstance(found.draws[name], np.ndarray) and found.draws[name].dtype == np.float32
        np.testing.assert_array_equal(found.draws[name], value.flatten(0, 1).float().numpy())


def test_one_draw_and_one_component() -> None:
    one = relabel({"mean": torch.tensor([[[3.0, 1.0, 2.0]]])})
    assert one.draws["mean"].tolist() == [[[1.0, 2.0, 3.0]]] and one.loss == pytest.approx(0.0, abs=1e-12)
    assert relabel({"mean": torch.ones(2, 5, 1)}).permutation.unique().tolist() == [0]


def test_the_modes_of_label_switching_become_one() -> None:
    target = label_switching()
    parameters = Parameters(mu=Parameter(3))
    result = rdmc.sample(parameters.density(lambda mu: target.log_density(mu)), draws=500, progressbar=False)
    mu = parameters.constrain(result.samples)["mu"]
    means = mu.mean((0, 1))
    assert float(means.max() - means.min()) < 0.5  # each label visits all three
    p = torch.softmax(-0.5 * (target.data[:, None] - mu[:, :, None]).square(), -1)
    assert target.modes is not None
    peak = target.modes[0].sort()[0]
    for found in (relabel({"mu": mu}), relabel({"mu": mu}, p)):
        after = found.draws["mu"]
        assert torch.equal(after.sort(-1)[0], mu.sort(-1)[0])
        torch.testing.assert_close(after.mean((0, 1)), peak, rtol=0.0, atol=0.15)
        assert float((after == mu.sort(-1)[0]).all(-1).double().mean()) > 0.99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, p: relabel({}), "`draws` must share"),
        (lambda d, p: relabel(d, starts=0), "`starts` must be at least 1, got 0"),
        (lambda d, p: relabel(d, axes={"men": (0,)}), r"`axes` must be of variables in `draws`, .*, got \['men'\]"),
        (lambda d, p: relabel(d, axes={"sd": (1,)}), r"distinct and in 0..0 for 'sd', which has shape \(3, 200, 4\)"),
        (lambda d, p: relabel(d, axes={"mean": (1,)}), r"one number of components along `axes`, got \{'mean': \[2\]"),
        (lambda d, p: relabel(d | {"sd": d["sd"][:2]}), r"must share their 2 sample axes, .*'sd': \(2, 200\)"),
        (lambda d, p: relabel(d | {"sd": d["sd"] * torch.nan}), "`draws` must be finite, but 'sd' is not"),
        (lambda d, p: relabel({"t": torch.ones(2, 3, 4, 4)}, axes={"t": (0, 1)}), "a variable with one axis"),
        (lambda d, p: relabel({"t": torch.ones(2, 3)}, axes={"t": ()}), "along `axes`, got {}"),
        (lambda d, p: relabel(d, p.mT), r"`allocation` must have shape \(3, 200, 'n', 4\), got \(3, 200, 4, 50\)"),
        (lambda d, p: relabel(d, 2.0 * p), "`allocation` must be of probabilities .* sums off by up to 1.0"),
        (lambda d, p: relabel(d, p * torch.nan), "`allocation` must be of probabilities"),
        (lambda d, p: relabel(d, 4.0 * p - 0.75), "got a least one of -0.7"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*mixture())
