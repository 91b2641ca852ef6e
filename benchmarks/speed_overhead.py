"""Time of a run over the time of its gradients alone, in pairs within one process so that the machine's noise cancels.

Times on the CPU are those of the process (one thread, so wall time on a machine with nothing else to do); on a device, wall time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import rdmc
import targets
from rdmc.baselines import LongChains
from rdmc.kernels import HMC, MALA
from rdmc.kernels.base import State, metropolis
from rdmc.rng import SHARD_SIZE, Streams
from targets.base import Target
from targets.regression import LogisticRegression

__all__ = ["CHAINS", "DRAWS", "SAMPLERS", "TARGETS", "Counted", "Timed", "clock_of", "measure"]

CHAINS = 16_000  # of the samplers whose particles are chains
DRAWS = 4_000  # of those whose particles are draws: one batch, as they never run more than 4096 particles in one


def logistic(rows: int = 1000, dim: int = 31, seed: int = 0) -> LogisticRegression:
    """A logistic regression on made-up data, closed form."""
    generator = torch.Generator().manual_seed(seed)
    design = torch.randn(rows, dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)
    design[:, 0] = 1.0
    odds = torch.sigmoid(design @ torch.randn(dim, generator=generator, dtype=torch.float64))
    sign = torch.where(torch.rand(rows, generator=generator, dtype=torch.float64) < odds, 1.0, -1.0)
    sds = torch.full((dim,), 2.5, dtype=torch.float64)
    return LogisticRegression(
        name="logistic", dim=dim, source="synthetic", signed_design=sign[:, None] * design, prior_sds=sds
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "logistic regression, d = 31, 1000 rows": logistic,
    "10 Gaussians, d = 50": partial(targets.random_mixture, 50, 10),
    "GMM-40, d = 2": targets.gmm40,
}
SAMPLERS = ("auto", "mala", "hmc", "rdmc")
KERNELS = {"mala": MALA(), "hmc": HMC()}


class Counted:
    """A target's closed form that remembers the sizes of the batches it was asked for."""

    def __init__(self, target: Target) -> None:
        self.dim, self._target = target.dim, target
        self.sizes: Counter[int] = Counter()

    @property
    def points(self) -> int:
        """Gradients evaluated, over all batches."""
        return sum(size * times for size, times in self.sizes.items())

    def log_density(self, x: Tensor) -> Tensor:
        """Log density."""
        return self._target.log_density(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient, counted."""
        self.sizes[len(x)] += 1
        return self._target.value_and_grad(x)


class Timed:
    """A sampler that is prepared once, for all runs to come, and whose stages are timed."""

    def __init__(self, engine: Any, counted: Counted, clock: Callable[[], float]) -> None:
        self.engine, self.counted, self.clock = engine, counted, clock
        self.plan: Any = None
        self.pilot, self.stages, self.points = 0.0, 0.0, 0
        self.pilot_sizes: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def prepare(self, *args: Any, **keywords: Any) -> Any:
        """What the first run learnt."""
        if self.plan is None:
            before, began = self.counted.sizes.copy(), self.clock()
            self.plan = self.engine.prepare(*args, **keywords)
            self.pilot, self.pilot_sizes = self.clock() - began, self.counted.sizes - before
        return self.plan

    def advance(self, *args: Any, **keywords: Any) -> Any:
        """A stage."""
        before, began = self.counted.points, self.clock()
        state = self.engine.advance(*args, **keywords)
        self.stages += self.clock() - began
        self.points += self.counted.points - before
        return state


def engine(name: str, steps: int) -> tuple[Any, int, int]:
    """A sampler with its draws and chains; kernels run ``steps`` gradient evaluations a chain."""
    if name in KERNELS:
        return LongChains(KERNELS[name], budget=steps), 1, CHAINS
    return {"auto": rdmc.Auto, "rdmc": rdmc.RDMC}[name](), DRAWS, 1


def clock_of(device: str) -> Callable[[], float]:
    """A clock that is right for work on that device: it waits for the device before it is read."""
    if not device.startswith("cuda"):
        return time.process_time

    def read() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return read


def replay(target: Target, sizes: Counter[int], points: Tensor, clock: Callable[[], float]) -> float:
    """Seconds that the same batches of gradients take alone."""
    began = clock()
    with torch.no_grad():
        for size, times in sizes.items():
            for _ in range(times):
                target.value_and_grad(points[:size])
    return clock() - began


def beside(points: Tensor, clock: Callable[[], float]) -> float:
    """Seconds of what a transition of all chains does beside its gradients however it is written: its noise, and accept or stay."""
    x, y = points[:CHAINS], points[CHAINS : 2 * CHAINS]
    sizes = [min(SHARD_SIZE, CHAINS - first) for first in range(0, CHAINS, SHARD_SIZE)]
    rng = Streams.seeded(0, sizes, [(i,) for i in range(len(sizes))], dtype=x.dtype, device=x.device)
    state, proposal = State(x, x[:, 0], x), State(y, y[:, 0], y)
    log_ratio = (y - x)[:, 0]
    began = clock()
    rng.normal(x.shape)
    metropolis(state, proposal, log_ratio, rng.log_uniform(log_ratio.shape))
    return clock() - began


def measure(target: Target, name: str, repeats: int, steps: int, device: str) -> dict[str, Any]:
    """Medians over pairs of a run and its gradients: the whole run, its stages alone; and the pilot, once."""
    clock = clock_of(device)
    moved = target.to(device=device)
    counted = Counted(moved)
    chosen, draws, chains = engine(name, steps)
    timed = Timed(chosen, counted, clock)
    run = partial(rdmc.sample, counted, None, draws, chains, timed, 0, device=device, progressbar=False)
    first = run()  # prepares, and warms up
    points = first.samples.flatten(0, 1)
    points = points.repeat(-(-2 * max(CHAINS, DRAWS) // len(points)), 1)
    pilot = replay(moved, timed.pilot_sizes, points, clock)
    whole, stages, alone, floor = [], [], [], []
    for _ in range(repeats):
        counted.sizes.clear()
        timed.stages, timed.points = 0.0, 0
        began = clock()
        run()
        whole.append(clock() - began)
        stages.append(timed.stages)
        alone.append(replay(moved, counted.sizes, points, clock))
        if name in KERNELS:
            transitions = steps / KERNELS[name].gradients
            floor.append(1.0 + transitions * beside(points, clock) / alone[-1])
    share = timed.points / counted.points  # of the gradients that are evaluated in stages
    return {
        "sampler": name,
        "gradients": counted.points,
        "batch": max(counted.sizes),
        "seconds": round(statistics.median(whole), 4),
        "alone": round(statistics.median(alone), 4),
        "whole_over_gradients": round(statistics.median(a / b for a, b in zip(whole, alone, strict=True)), 3),
        "stages_over_gradients": round(statistics.median(a / b for a, b in zip(stages, alone, strict=True)) / share, 3),
        "least": round(statistics.median(floor), 3) if floor else None,
        "with_pilot": round(
            statistics.median((a + timed.pilot) / (b + pilot) for a, b in zip(whole, alone, strict=True)), 3
        ),
        "pilot_seconds": round(timed.pilot, 3),
        "pilot_alone": round(pilot, 3),
    }
