"""Training depends on its arguments alone, can be gone on with, stops before it learns by heart, and refuses bad draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.errors import CheckpointError
from rdmc.network import (
    Architecture,
    DenoisingLoss,
    Guide,
    ImplicitLoss,
    LogNormal,
    Loss,
    ScoreNetwork,
    ScoreRegression,
    TargetScoreLoss,
    Training,
    training,
)
from rdmc.progress import Progress
from rdmc.result import Result

F = torch.float64
SMALL = Architecture(width=16, depth=1, frequencies=4)
SHORT = Training(steps=40, batch=32, every=10)


def normal(x: Tensor) -> Tensor:
    return -0.5 * (x - 1.0).square().sum(-1)


def draws(n: int = 200, d: int = 2, seed: int = 0) -> Tensor:
    return 1.0 + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F)


def fit(x: Tensor | Result | None = None, **options: object) -> ScoreNetwork:
    known = {"architecture": SMALL, "training": SHORT, "progressbar": False, **options}
    return rdmc.distill(draws() if x is None else x, **known)  # type: ignore[arg-type]


def same(a: ScoreNetwork, b: ScoreNetwork) -> bool:
    one, other = a.module.state_dict(), b.module.state_dict()
    return a.history == b.history and all(torch.equal(one[name], other[name]) for name in one)


LOSSES = [DenoisingLoss(), ImplicitLoss(), ScoreRegression(normal, repeats=2, levels=4), TargetScoreLoss(normal)]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_same_seed_same_bits(loss: Loss) -> None:
    first = fit(loss=loss, seed=3)
    assert same(first, fit(loss=loss, seed=3))
    assert not same(first, fit(loss=loss, seed=4))
    assert torch.equal(first.sample(5, seed=1), first.sample(5, seed=1))
    assert not torch.equal(first.sample(5, seed=1), first.sample(5, seed=2))


def test_nothing_global_is_touched() -> None:
    torch.manual_seed(12)
    before, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    known = fit(loss=ScoreRegression(normal, repeats=2, levels=4))
    known.weights(normal, 20, guide=Guide(normal))
    known.independence(normal, 5)
    known.log_density(draws(3), trace="hutchinson")
    assert torch.equal(torch.get_rng_state(), before)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert torch.is_grad_enabled()


def test_the_callers_settings_change_nothing() -> None:
    reference = fit(noise=LogNormal())
    torch.set_default_dtype(F)
    try:
        with torch.no_grad():
            other = fit(noise=LogNormal())
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(reference, other)
    assert reference.sample(2).dtype == F and next(reference.module.parameters()).dtype == torch.float32


class Stop(Progress):
    """A bar that interrupts the training at its second look."""

    looks = 0

    def update(self, done: int, evaluations: int, *, total: int | None = None) -> None:
        type(self).looks += 1
        if type(self).looks == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_interrupted_and_gone_on_with_to_the_bit(loss: Loss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, path = fit(loss=loss), tmp_path / "training"
    monkeypatch.setattr(training, "INTERVAL", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("rdmc.network.distilling.Progress", Stop)
        Stop.looks = 0
        part = fit(loss=loss, checkpoint=path)
    assert part.partial and "partial" in repr(part) and len(part.history) == 3 and not whole.partial
    assert bool(part.sample(5).isfinite().all())
    steps = []
    advance = training._Trainer.advance
    monkeypatch.setattr(training._Trainer, "advance", lambda self, *a: steps.append(1) or advance(self, *a))
    again = fit(loss=loss, checkpoint=path)
    assert same(again, whole) and again.gradient_evaluations == whole.gradient_evaluations
    assert len(steps) == 20  # from the second look on: the third was shown, but not kept
    assert same(fit(loss=loss, checkpoint=path), whole) and len(steps) == 20  # a finished training is recalled


def test_a_checkpoint_belongs_to_one_training(tmp_path: Path) -> None:
    loss = TargetScoreLoss(normal)
    for number, (x, options, what) in enumerate(
        (
            (draws(), {"seed": 1}, "seed"),
            (draws(seed=1), {}, "draws"),
            (draws(), {"loss": TargetScoreLoss(lambda x: 2.0 * normal(x))}, "loss"),
            (draws(), {"training": Training(steps=50)}, "training"),
        )
    ):
        path = tmp_path / str(number)
        fit(checkpoint=path, loss=loss)
        with pytest.raises(CheckpointError, match=what):
            fit(x, **{"loss": loss, "checkpoint": path, **options})


def test_few_draws_are_learnt_by_heart_and_stopping_sees_it() -> None:
    plan = Training(steps=400, batch=64, learning_rate=1e-2, every=20, average=0.9, patience=1000)
    wide, generator = Architecture(width=96, depth=2), torch.Generator().manual_seed(0)
    noise = torch.randn(45, 6, generator=generator, dtype=F)
    x = 0.3 * noise + torch.where(torch.rand(45, 1, generator=generator) < 0.3, -1.0, 1.0)
    whole = fit(x, training=plan, architecture=wide, sigma_range=(0.1, 5.0))
    held_out, train = whole.history["held_out"], whole.history["train"]
    best = held_out.index(min(held_out))
    print(f"best look {best} of {len(held_out)}; train {train[best]:.2f} to {train[-1]:.2f}", end="; ")
    print(f"held out {held_out[best]:.2f} to {held_out[-1]:.2f}")
    assert best < len(held_out) / 2
    assert held_out[-1] > 1.1 * held_out[best] and train[-1] < 0.9 * train[best]
    stopped = fit(x, training=Training(**{**vars(plan), "patience": 4}), architecture=wide, sigma_range=(0.1, 5.0))
    assert len(stopped.history) == best + 5 and stopped.history["held_out"] == held_out[: best + 5]
    one, other = whole.module.state_dict(), stopped.module.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)  # both keep the best weights


def test_losses_of_the_history_are_of_the_kept_weights() -> None:
    known = fit(training=Training(steps=30, batch=32, every=10))
    assert known.history["step"] == [10, 20, 30]
    assert known.history["learning_rate"][0] > known.history["learning_rate"][-1] > 0.0
    assert min(known.history["held_out"]) < 3.0  # two dimensions: F = 0 has 2 on a normal law


def test_results_and_chains_are_accepted() -> None:
    result = rdmc.sample(normal, dim=1, draws=60, chains=3, progressbar=False)
    known = fit(result)
    assert known.dim == 1 and known.log_evidence == result.log_evidence
    assert known.weights(normal, 50).known == (result.log_evidence, result.log_evidence_mcse)
    x = result.samples
    assert same(known, fit(x)) and same(known, fit(x.flatten(0, 1)))
    last = fit(x, held_out="chain")
    assert not same(known, last)
    torch.testing.assert_close(last.affine.centre, x.mean((0, 1)))
    moved = fit(5.0 + 1000.0 * x)  # whitened, the draws are the same
    torch.testing.assert_close(moved.sample(5), 5.0 + 1000.0 * known.sample(5), rtol=1e-3, atol=1.0)


def test_bad_draws_and_arguments_are_named() -> None:
    good = draws()
    hole = good.clone()
    hole[3, 1] = torch.nan
    flat = good.clone()
    flat[:, 1] = 2.0
    line = torch.cat([good, good.sum(-1, keepdim=True)], -1)
    for x, message in (
        (hole, "`draws` must be finite, got 1 with"),
        (flat, r"`draws` must vary in every coordinate, got \[1\] constant"),
        (line, "`draws` must vary in every direction"),
        (good[:30], "`draws` must be at least 40 in 2 dimensions, got 30"),
        (draws(50, 12), "`draws` must be at least 65 in 12 dimensions, got 50"),
        (good[:, 0], "`draws` must be a Result or a real tensor"),
        (good.long(), "`draws` must be a Result or a real tensor"),
        ([1.0], "`draws` must be a Result or a real tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(x)  # type: ignore[arg-type]
    for options, name in (
        ({"held_out": 0.0}, "held_out"),
        ({"held_out": 0.9}, "held_out"),
        ({"held_out": "chain"}, "held_out"),
        ({"held_out": "some"}, "held_out"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"sigma_range": (1.0, 0.1)}, "sigma_range"),
        ({"loss": TargetScoreLoss(lambda x: x[:, 0] * torch.nan)}, "log_density"),
        ({"loss": ScoreRegression(lambda x: x[:, 0] * torch.nan)}, "log_density"),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            fit(**options)  # type: ignore[arg-type]
    for make in (lambda: Architecture(width=0), lambda: Training(steps=1), lambda: LogNormal(sd=0.0)):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(ArithmeticError, match="learning_rate"):
        fit(training=Training(steps=200, batch=32, every=200, learning_rate=1e12, weight_decay=0.0))
