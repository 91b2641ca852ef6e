"""Simulation-based calibration of the default sampler on two hierarchical models.

    python -m benchmarks.sbc [--seeds N] [--models a,b] [--readme] [--smoke] [--out DIR]

Parameters are drawn from the prior and data from the model; each parameter's rank among 99 posterior draws is then uniform on 0
to 99 if the sampler is exact (Talts et al. 2018, arXiv:1804.06788). A chi-squared test on 20 bins per parameter tells. Draws: 4
populations x 250 at the defaults, thinned evenly to 99. Records go to ``sbc.jsonl`` one by one, so the run can stop and go on;
``--seeds 0`` measures nothing and makes the table of what is there.
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

import rdmc
from benchmarks.quality import README
from benchmarks.quality_report import insert
from benchmarks.store import Store, environment, mean_and_error

RANKS = 99
BINS = 20


class Model(ABC):
    """A hierarchical model with its prior; parameters are unconstrained, the scale as its logarithm."""

    names: tuple[str, ...]

    @abstractmethod
    def prior(self, generator: torch.Generator) -> Tensor:
        """``(d,)`` a draw of the prior."""

    @abstractmethod
    def data(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Data of the model at ``x``."""

    @abstractmethod
    def log_density(self, x: Tensor, data: Tensor) -> Tensor:
        """``(M,)`` log joint density at ``(M, d)`` points."""


@dataclass(frozen=True)
class Normal(Model):
    r"""mu ~ N(0, 5), tau ~ half-N(5), theta_j = mu + tau eta_j, eta_j ~ N(0, 1), y_j ~ N(theta_j, s_j), eight groups."""

    names: tuple[str, ...] = ("mu", "log_tau", *(f"eta_{j}" for j in range(8)))

    @property
    def error(self) -> Tensor:
        """``(8,)`` standard errors of the groups: those of the eight schools, a third."""
        return torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64) / 3.0

    def prior(self, generator: torch.Generator) -> Tensor:
        """Ten normal draws, two of them scaled."""
        z = torch.randn(10, generator=generator, dtype=torch.float64)
        return torch.cat([5.0 * z[:1], (5.0 * z[1:2].abs()).log(), z[2:]])

    def data(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """``(8,)`` observed effects."""
        noise = torch.randn(8, generator=generator, dtype=torch.float64)
        return x[0] + x[1].exp() * x[2:] + self.error * noise

    def log_density(self, x: Tensor, data: Tensor) -> Tensor:
        """Prior, Jacobian of the logarithm, and likelihood."""
        mu, log_tau, eta = x[:, 0], x[:, 1], x[:, 2:]
        tau = log_tau.exp()
        prior = -0.5 * ((mu / 5.0).square() + (tau / 5.0).square() + eta.square().sum(-1)) + log_tau
        theta = mu[:, None] + tau[:, None] * eta
        return prior - 0.5 * ((data - theta) / self.error.to(x)).square().sum(-1)


@dataclass(frozen=True)
class Logistic(Model):
    r"""b ~ N(0, 2), tau ~ half-N(1), a_j = b + tau eta_j, eta_j ~ N(0, 1), y_j ~ Binomial(n_j, logit^-1 a_j), six groups."""

    names: tuple[str, ...] = ("b", "log_tau", *(f"eta_{j}" for j in range(6)))

    @property
    def trials(self) -> Tensor:
        """``(6,)`` trials of the groups."""
        return torch.tensor([3.0, 5.0, 8.0, 12.0, 20.0, 40.0], dtype=torch.float64)

    def prior(self, generator: torch.Generator) -> Tensor:
        """Eight normal draws, two of them scaled."""
        z = torch.randn(8, generator=generator, dtype=torch.float64)
        return torch.cat([2.0 * z[:1], z[1:2].abs().log(), z[2:]])

    def data(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """``(6,)`` successes."""
        return torch.binomial(self.trials, (x[0] + x[1].exp() * x[2:]).sigmoid(), generator=generator)

    def log_density(self, x: Tensor, data: Tensor) -> Tensor:
        """Prior, Jacobian of the logarithm, and likelihood."""
        b, log_tau, eta = x[:, 0], x[:, 1], x[:, 2:]
        tau = log_tau.exp()
        prior = -0.5 * ((b / 2.0).square() + tau.square() + eta.square().sum(-1)) + log_tau
        a = b[:, None] + tau[:, None] * eta
        return prior + (data * a - self.trials.to(x) * torch.nn.functional.softplus(a)).sum(-1)


MODELS: dict[str, Model] = {"normal": Normal(), "logistic": Logistic()}


def run(model: Model, seed: int, draws: int = 250, chains: int = 4) -> dict[str, Any]:
    """The ranks of one draw of the prior among posterior draws."""
    generator = torch.Generator().manual_seed(900_000 + seed)
    truth = model.prior(generator)
    data = model.data(truth, generator)
    record: dict[str, Any] = {"seed": seed, "versions": f"rdmc {rdmc.__version__}, {environment()}"}
    try:
        result = rdmc.sample(
            lambda x: model.log_density(x, data), len(model.names), draws, chains, seed=seed, progressbar=False
        )
    except Exception as error:  # whatever the sampler raises is a finding
        return record | {"failed": f"{type(error).__name__}: {error}"[:160]}
    x = result.samples.flatten(0, 1)
    kept = x[torch.linspace(0, len(x) - 1, RANKS).round().long()]
    return record | {"ranks": (kept < truth).sum(0).tolist(), "warned": bool(result.check())}


def test_of_uniformity(ranks: Sequence[int]) -> float:
    """p-value of the chi-squared test on equal bins of the ranks 0 to 99."""
    counts = torch.bincount(torch.tensor(ranks) * BINS // (RANKS + 1), minlength=BINS)
    return float(stats.chisquare(counts.numpy()).pvalue)


def report(records: Sequence[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    rows = [
        "| model | runs | warned | failed | least p of its parameters | the same, Bonferroni | mean rank / 99 |",
        "|---" * 7 + "|",
    ]
    for name, model in MODELS.items():
        own = [r for r in records if r["key"].startswith(f"{name}/")]
        good = [r for r in own if "failed" not in r]
        if not good:
            continue
        by_name = {n: [r["ranks"][i] for r in good] for i, n in enumerate(model.names)}
        p = {n: test_of_uniformity(ranks) for n, ranks in by_name.items()}
        worst = min(p, key=lambda n: p[n])
        means = torch.tensor([r["ranks"] for r in good], dtype=torch.float64).mean(1) / RANKS
        mean, error = mean_and_error(means.tolist())
        rows.append(
            f"| {name}, d = {len(model.names)} | {len(own)} | {sum(r['warned'] for r in good)} | {len(own) - len(good)} "
            f"| {p[worst]:.3f} ({worst}) | {min(1.0, p[worst] * len(p)):.2f} | {mean:.3f} ± {error:.3f} |"
        )
    return f"{len(records)} runs; {'; '.join(sorted({r['versions'] for r in records}))}.\n\n" + "\n".join(rows)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    names, seeds, draws = (["logistic"], 1, 30) if a.smoke else (a.models.split(","), a.seeds, 250)
    store = Store(None if a.smoke else a.out / "sbc.jsonl")
    clock = time.perf_counter()
    for seed in range(seeds):
        for name in names:
            key = f"{name}/{seed}"
            if key not in store.records:
                store.get(key, lambda name=name, seed=seed: run(MODELS[name], seed, draws))
                print(f"{time.perf_counter() - clock:.0f} s  {key}", flush=True)
    text = report(list(store.records.values()))
    print(f"\n{text}")
    if a.readme and not a.smoke:
        insert(README, "sbc", text)


if __name__ == "__main__":
    main()
