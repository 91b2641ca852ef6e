"""The training loop: the only place where the network's weights change."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rdmc.checkpoint import Checkpoint
from rdmc.inner.base import require_count
from rdmc.network.losses import Loss, Pool
from rdmc.network.module import DenoisingNetwork, seeded
from rdmc.network.noise import Levels
from rdmc.progress import Progress

__all__ = ["Fitted", "Training", "fit"]

INTERVAL = 1.0
"""Seconds between two states of the training on disk."""

_LOOKS = 8192
"""Held-out examples at one look: each held-out row is used as often as that takes, every time with the same noise."""


@dataclass(frozen=True)
class Training:
    """How the network is fitted.

    AdamW under one cycle of the learning rate, an exponential moving average of the weights, and a
    look at held-out draws now and then. The average with the least held-out loss is kept.

    Args:
        steps: Most steps, at least 2.
        batch: Examples a step, at least 1.
        learning_rate: Largest learning rate, > 0.
        weight_decay: Of AdamW, >= 0.
        average: Decay of the moving average a step, in [0, 1).
        every: Steps between two looks at the held-out draws, at least 1.
        patience: Looks without a better held-out loss after which training stops, at least 1.

    Raises:
        ValueError: If a number is out of range.
    Source: Loshchilov and Hutter (2019), arXiv:1711.05101; Smith and Topin (2018), arXiv:1708.07120, by torch.
    """

    steps: int = 4000
    batch: int = 512
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    every: int = 100
    patience: int = 10

    def __post_init__(self) -> None:
        require_count("steps", self.steps, 2)
        for name in ("batch", "every", "patience"):
            require_count(name, getattr(self, name), 1)
        if not self.learning_rate > 0.0:
            raise ValueError(f"`learning_rate` must be a positive float, got {self.learning_rate!r}")
        if not self.weight_decay >= 0.0:
            raise ValueError(f"`weight_decay` must be 0 or a positive float, got {self.weight_decay!r}")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"`average` must be in [0, 1), got {self.average!r}")


class Look(NamedTuple):
    """A row of the history: mean training loss since the last look, loss on held-out draws, learning rate."""

    step: int
    train: float
    held_out: float
    learning_rate: float


class Saved(NamedTuple):
    """Everything that the next step depends on."""

    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    generator: torch.Generator
    best: dict[str, Tensor] | None
    looks: tuple[Look, ...]


class Fitted(NamedTuple):
    """What training leaves: the best weights, the history, and whether it was interrupted."""

    weights: dict[str, Tensor]
    looks: tuple[Look, ...]
    partial: bool


class _Trainer:
    """The state of a training, and one step of it."""

    def __init__(self, network: DenoisingNetwork, plan: Training, seed: int, device: torch.device) -> None:
        self.plan, self.network = plan, network
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.average))
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, plan.learning_rate, total_steps=plan.steps + 1, pct_start=0.1
        )
        self.generator = seeded(seed, 1, device)
        self.step = 0
        self.best: dict[str, Tensor] | None = None
        self.looks: tuple[Look, ...] = ()

    def advance(self, loss: Loss, pool: Pool, levels: Levels) -> Tensor:
        """One step; ``()`` mean loss of its examples."""
        rows, n = pool.rows, len(pool.rows[0])
        index = torch.randint(n, (self.plan.batch,), generator=self.generator, device=rows[0].device)
        value = loss(self.network, tuple(row[index] for row in rows), levels, self.generator).mean()
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return value.detach()

    def averaged(self) -> dict[str, Tensor]:
        """A copy of the averaged weights."""
        return _copy(self.average.module.state_dict())

    @property
    def stale(self) -> int:
        """Looks since the best one."""
        losses = [look.held_out for look in self.looks]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    def saved(self) -> Saved:
        """Everything, as values that an archive holds."""
        schedule = {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, (int, float))}
        return Saved(
            self.step,
            dict(self.network.state_dict()),
            dict(self.average.state_dict()),
            self.optimiser.state_dict(),
            schedule,
            self.generator,
            self.best,
            self.looks,
        )

    def restore(self, saved: Saved) -> None:
        """Go on from there."""
        self.network.load_state_dict(saved.network)
        self.average.load_state_dict(saved.average)
        self.optimiser.load_state_dict(saved.optimiser)
        self.schedule.load_state_dict(saved.schedule)
        self.generator.set_state(saved.generator.get_state())
        self.step, self.best, self.looks = saved.step, saved.best, saved.looks


def fit(
    network: DenoisingNetwork,
    loss: Loss,
    plan: Training,
    levels: Levels,
    pools: tuple[Pool, Pool],
    seed: int,
    bar: Progress,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Fit the network to the first pool and judge it by the second.

    Law: the weights are a function of the arguments alone; a training that goes on from ``checkpoint`` ends with the
    bits of one that was not interrupted (same machine, same number of threads). Ctrl-C ends it with the best weights so far.

    Args:
        network: The network; its weights are changed.
        loss: What is minimised.
        plan: How.
        levels: Noise levels.
        pools: Examples to learn from, and held-out ones.
        seed: Of examples and noise.
        bar: Told of every look.
        checkpoint: Where the state is kept.
    """
    device = pools[0].rows[0].device
    trainer = _Trainer(network, plan, seed, device)
    saved = None if checkpoint is None else checkpoint.recall("training", device)
    if saved is not None:
        trainer.restore(saved)
    partial, kept, losses = False, time.monotonic(), []
    try:
        with torch.enable_grad():
            while trainer.step < plan.steps and trainer.stale < plan.patience:
                losses.append(trainer.advance(loss, pools[0], levels))
                if trainer.step % plan.every and trainer.step < plan.steps:
                    continue
                train = float(torch.stack(losses).mean())
                losses = []
                rate = float(trainer.schedule.get_last_lr()[0])
                held_out = _judged(trainer.average.module, loss, pools[1], levels, seed)
                if not (math.isfinite(train) and math.isfinite(held_out)):
                    raise ArithmeticError(
                        f"training diverged at step {trainer.step}: loss {train}, held out {held_out}; lower `learning_rate` "
                        f"({plan.learning_rate})"
                    )
                if not trainer.looks or held_out < min(look.held_out for look in trainer.looks):
                    trainer.best = trainer.averaged()
                trainer.looks = (*trainer.looks, Look(trainer.step, train, held_out, rate))
                bar.update(trainer.step, pools[0].gradients + pools[1].gradients)
                if checkpoint is not None and time.monotonic() - kept >= INTERVAL:
                    checkpoint.keep("training", trainer.saved())
                    kept = time.monotonic()
    except KeyboardInterrupt:
        partial = True
    else:
        if checkpoint is not None:
            checkpoint.keep("training", trainer.saved())
    return Fitted(trainer.averaged() if trainer.best is None else trainer.best, trainer.looks, partial)


def _judged(network: Callable[[Tensor, Tensor], Tensor], loss: Loss, pool: Pool, levels: Levels, seed: int) -> float:
    """Mean loss on held-out examples; every look uses the same noise, so that looks differ by the weights alone."""
    n = len(pool.rows[0])
    index = torch.arange(n, device="cpu").repeat(max(1, _LOOKS // n)).to(pool.rows[0].device)
    generator = seeded(seed, 2, pool.rows[0].device)
    index = index[torch.randperm(len(index), generator=generator, device=index.device)]
    with torch.no_grad():
        return float(loss(network, tuple(row[index] for row in pool.rows), levels, generator).mean())


def _copy(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
