"""The default sampler on densities that are -inf outside a box, as they are under priors between limits and of positive numbers.

    python -m benchmarks.bounded [--seeds N] [--readme] [--smoke] [--out DIR]

4 populations x 250 draws, everything at its default; nothing is said of the bounds. Records go to ``bounded.jsonl`` one by one,
so the run can stop and go on; a run that raises is a record too. ``--seeds 0`` makes the table of what is there.
"""

from __future__ import annotations

import argparse
import datetime
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.special import log_ndtr, ndtr, ndtri

import rdmc
from benchmarks.auto import WRONG_KS, plain, wrong
from benchmarks.measures import measure
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment
from rdmc.errors import DensityError
from targets.base import Target

F = torch.float64
Record = dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Bounded(Target):
    """A density in a box, with exact draws.

    Attributes:
        lower: ``(d,)`` lower bounds.
        upper: ``(d,)`` upper bounds, infinite where there are none.
        inside: Log density of points in the box.
        draws: So many exact draws.
    """

    lower: Tensor
    upper: Tensor
    inside: Callable[[Tensor], Tensor]
    draws: Callable[[int, Generator], Tensor]
    source: str = "this benchmark"
    log_z: float | None = 0.0

    def log_density(self, x: Tensor) -> Tensor:
        """-inf outside."""
        within = (x > self.lower) & (x < self.upper)
        somewhere = torch.where(torch.isfinite(self.upper), 0.5 * (self.lower + self.upper), self.lower + 1.0)
        return torch.where(within.all(-1), self.inside(torch.where(within, x, somewhere)), -torch.inf)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By autograd."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = self.log_density(leaf)
            return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Exact draws."""
        return self.draws(n, generator)


def uniform(dim: int) -> Bounded:
    """Between -3 and 50 in every coordinate."""
    low, high = torch.full((dim,), -3.0, dtype=F), torch.full((dim,), 50.0, dtype=F)
    return Bounded(
        name="uniform",
        dim=dim,
        lower=low,
        upper=high,
        inside=lambda x: 0.0 * x.sum(-1) - dim * math.log(53.0),
        draws=lambda n, g: low + 53.0 * torch.rand(n, dim, generator=g, dtype=F),
    )


def exponentials(dim: int) -> Bounded:
    """Of means from 1/1000 to 1000."""
    scale = torch.logspace(-3, 3, dim, dtype=F)
    return Bounded(
        name="exponentials",
        dim=dim,
        lower=torch.zeros(dim, dtype=F),
        upper=torch.full((dim,), math.inf, dtype=F),
        inside=lambda x: -(x / scale + scale.log()).sum(-1),
        draws=lambda n, g: scale * torch.empty(n, dim, dtype=F).exponential_(generator=g),
    )


def lognormals(dim: int, sd: float) -> Bounded:
    """With a long tail and next to nothing at the bound."""
    return Bounded(
        name="log-normals",
        dim=dim,
        lower=torch.zeros(dim, dtype=F),
        upper=torch.full((dim,), math.inf, dtype=F),
        inside=lambda x: (-0.5 * (x.log() / sd).square() - x.log() - math.log(sd * math.sqrt(2 * math.pi))).sum(-1),
        draws=lambda n, g: (sd * torch.randn(n, dim, generator=g, dtype=F)).exp(),
    )


def gammas() -> Bounded:
    """Two components of shapes from .6, which has a pole at 0, to 40, and scales from .01 to 10."""
    shape = torch.tensor([[2.0, 30.0, 0.6], [40.0, 3.0, 5.0]], dtype=F)
    scale = torch.tensor([[1.0, 0.1, 3.0], [0.5, 10.0, 0.01]], dtype=F)
    weight = torch.tensor([0.3, 0.7], dtype=F)

    def inside(x: Tensor) -> Tensor:
        x = x[:, None]
        each = (shape - 1.0) * x.log() - x / scale - torch.lgamma(shape) - shape * scale.log()
        return torch.logsumexp(each.sum(-1) + weight.log(), -1)

    def draws(n: int, g: Generator) -> Tensor:
        k = torch.multinomial(weight, n, replacement=True, generator=g)
        return scale[k] * torch._standard_gamma(shape[k], generator=g)

    zero = torch.zeros(3, dtype=F)
    return Bounded(name="two gammas", dim=3, lower=zero, upper=zero + math.inf, inside=inside, draws=draws)


def cut_mixture(dim: int, problem: int = 0) -> Bounded:
    """Five normal laws cut by the unit cube, centres in its middle 80 %, widths log-uniform from 1/100 to .32, unequal weights."""
    g = torch.Generator().manual_seed(100 * dim + problem)
    mean = 0.1 + 0.8 * torch.rand(5, dim, generator=g, dtype=F)
    sd = 10.0 ** (-2.0 + 1.5 * torch.rand(5, 1, generator=g, dtype=F))
    weight = torch._standard_gamma(torch.full((5,), 2.0, dtype=F), generator=g)
    weight = weight / weight.sum()
    low, high = -mean / sd, (1.0 - mean) / sd
    kept = (log_ndtr(high) + torch.log1p(-(log_ndtr(low) - log_ndtr(high)).exp())).sum(-1)

    def inside(x: Tensor) -> Tensor:
        each = -0.5 * ((x[:, None] - mean) / sd).square() - sd.log() - 0.5 * math.log(2.0 * math.pi)
        return torch.logsumexp(each.sum(-1) - kept + weight.log(), -1)

    def draws(n: int, g: Generator) -> Tensor:
        k = torch.multinomial(weight, n, replacement=True, generator=g)
        u = torch.rand(n, dim, generator=g, dtype=F)
        return mean[k] + sd[k] * ndtri(ndtr(low)[k] * (1.0 - u) + ndtr(high)[k] * u)

    zero = torch.zeros(dim, dtype=F)
    return Bounded(name="cut mixture", dim=dim, lower=zero, upper=zero + 1.0, inside=inside, draws=draws)


PROBLEMS: dict[str, Callable[[], Bounded]] = {
    "uniform, d = 5": partial(uniform, 5),
    "uniform, d = 20": partial(uniform, 20),
    "exponentials, d = 8": partial(exponentials, 8),
    "log-normals, sd 2, d = 3": partial(lognormals, 3, 2.0),
    "two gamma laws with a pole, d = 3": gammas,
    **{f"mixture cut by a cube, d = {d}, {i}": partial(cut_mixture, d, i) for d in (2, 5, 10) for i in range(3)},
}


def run(name: str, seed: int, draws: int) -> Record:
    """One run, one record."""
    target = PROBLEMS[name]()
    head = {"date": datetime.date.today().isoformat(), "versions": f"rdmc {rdmc.__version__}, {environment()}"}
    head |= {"problem": name, "seed": seed}
    begin = time.perf_counter()
    try:
        result = rdmc.sample(target, draws=draws, seed=seed, progressbar=False)
    except DensityError as error:
        return head | {"error": type(error).__name__, "seconds": time.perf_counter() - begin}
    n = result.chains * result.draws
    costs = {"gradients": result.gradient_evaluations / n, "densities": result.density_evaluations / n}
    found = measure(target, result) | costs | {"support": result.stages[0]["support"]}
    return head | {key: plain(value) for key, value in found.items()}


def line(name: str, records: Sequence[Record]) -> str:
    """A row of the table."""
    done = [r for r in records if "error" not in r]
    if not done:
        return f"| {name} | {len(records)} | " + " | ".join("-" * 6) + f" | {len(records)} |"
    bad = [r for r in done if wrong(r) or r["ks_ratio"] > WRONG_KS]
    ratios = [r["ks_ratio"] for r in done]
    error = math.sqrt(statistics.mean(r["evidence_error"] ** 2 for r in done))
    cells = (
        name,
        len(records),
        f"{statistics.mean(ratios):.2f}, {max(ratios):.2f}",
        f"{error:.3f} ({statistics.mean(r['evidence_mcse'] for r in done):.3f})",
        f"{statistics.median(r['gradients'] for r in done):.0f}",
        f"{statistics.median(r['densities'] for r in done):.0f}",
        f"{len(bad)} ({sum(bool(r['warnings']) for r in bad)})",
        sum(bool(r["warnings"]) for r in done) - sum(bool(r["warnings"]) for r in bad),
        len(records) - len(done),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def report(records: Sequence[Record]) -> str:
    """The table, in Markdown."""
    if not records:
        return "Nothing measured yet."
    rows = [
        "| problem | runs | KS / exact draws: mean, largest | log evidence, rms error (reported se) | gradients a draw "
        "| densities a draw | wrong (of them warned) | right and warned | failed |",
        "|---" * 9 + "|",
    ]
    names = [name for name in PROBLEMS if any(r["problem"] == name for r in records)]
    rows += [line(name, [r for r in records if r["problem"] == name]) for name in names]
    versions = "; ".join(sorted({r["versions"] for r in records}))
    return f"{len(records)} runs, {max(r['date'] for r in records)}. {versions}.\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, seeds, draws = (list(PROBLEMS)[:1], 1, 40) if a.smoke else (list(PROBLEMS), a.seeds, 250)
    store = Store(None if a.smoke else a.out / "bounded.jsonl")
    clock = time.perf_counter()
    for seed in range(seeds):
        for name in names:
            key = f"{name}/{seed}"
            if key not in store.records:
                record = store.get(key, lambda name=name, seed=seed: run(name, seed, draws))
                shown = {k: record.get(k) for k in ("ks_ratio", "evidence_error", "gradients", "support", "error")}
                print(f"{time.perf_counter() - clock:.0f} s  {key}: {shown}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "bounded", text)


if __name__ == "__main__":
    main()
