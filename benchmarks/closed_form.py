"""Laws that hold in closed form, measured: the score's Monte Carlo rate, the steps' orders, the bridge without a grid error.

python -m benchmarks.closed_form [--smoke]
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise

import torch
from torch import Tensor

import rdmc
import targets
from benchmarks.store import environment, pm
from rdmc.diagnostics import mode_weight_tv
from rdmc.grid import LogSNRGrid
from rdmc.inner import FromSurrogate, Importance
from rdmc.posterior import InnerPosterior, score_from_mean
from rdmc.process import EDM, OU, ForwardProcess
from rdmc.score import Tweedie
from rdmc.steps import Ancestral, Bridge, EulerMaruyama, Exponential, Heun, Memory, Multistep, Step
from rdmc.steps.base import Estimate
from targets.mixture import GaussianMixture as Mixture
from tests.exact.gaussian import Gaussian, distance, push

STEPS: tuple[Step, ...] = (EulerMaruyama(), Exponential(), Ancestral(), Heun(), Multistep(), Bridge())


def exact(target: Mixture) -> rdmc.GaussianMixture:
    """The target as a surrogate: conditioned on x_t it is q_t itself, and importance sampling from it draws exactly."""
    covariance = target.factors @ target.factors.mT
    return rdmc.GaussianMixture.from_covariance(target.means, covariance, target.weights)


def score_rate(counts: tuple[int, ...], particles: int) -> list[str]:
    """Root mean square error of the score from n exact draws; the product with sqrt(n) stays."""
    target = targets.four_modes()
    mixture = exact(target)
    density = rdmc.Density(target.log_density, target.dim, target.value_and_grad)
    rng = rdmc.Streams.seeded(0, [particles])
    process, t = OU(5.0), 1.5
    alpha, sigma = process.alpha(t), process.sigma(t)
    x_0, _ = mixture.draw(rng)
    x_t = alpha * x_0 + sigma * rng.normal(x_0.shape)
    q = InnerPosterior(density, x_t, alpha, sigma, mixture)
    given = mixture.condition(x_t, alpha, sigma)
    truth = score_from_mean(torch.einsum("bk,bki->bi", given.log_weight.exp(), given.mean), x_t, alpha, sigma)
    rows = ["| exact draws n | error of the score | x sqrt(n) |", "|---|---|---|"]
    for n in counts:
        estimate = Tweedie()(q, Importance(n, FromSurrogate()).draw(q, rng, None))
        error = float((estimate.score - truth).square().sum(-1).mean().sqrt())
        rows.append(f"| {n} | {error:.5f} | {error * math.sqrt(n):.3f} |")
    return rows


def step_orders(levels: tuple[int, ...]) -> list[str]:
    """Exact error of mean and covariance on N(m, S), no Monte Carlo, and the order it falls with."""
    target = Gaussian(torch.tensor([1.5, -0.5]).double(), torch.tensor([[0.3, 0.1], [0.1, 0.6]]).double())
    rows = ["| step | declared order | " + " | ".join(f"K = {k}" for k in levels) + " | measured order |"]
    rows.append("|---" * (len(levels) + 3) + "|")
    process = OU(5.0)
    for step in STEPS:
        errors = []
        for k in levels:
            times = LogSNRGrid(k, 1e-3).times(process)
            errors.append(distance(push(step, process, times, target), target.marginal(process, times[-1])))
        measured = f"{math.log2(errors[-2] / errors[-1]):.2f}" if step.order < math.inf else "no error"
        cells = " | ".join(f"{error:.1e}" for error in errors)
        rows.append(f"| {type(step).__name__} | {step.order:g} | {cells} | {measured} |")
    return rows


def reverse(
    mixture: rdmc.GaussianMixture, process: ForwardProcess, levels: int, step: Step, rng: rdmc.Streams
) -> Tensor:
    """``(B, d)`` the reverse diffusion with exact means and exact draws, from p_T to one last posterior draw."""

    def denoise(x_t: Tensor, t: float) -> Estimate:
        alpha, sigma = process.alpha(t), process.sigma(t)
        given = mixture.condition(x_t, alpha, sigma)
        mean = torch.einsum("bk,bki->bi", given.log_weight.exp(), given.mean)
        return Estimate(mean, score_from_mean(mean, x_t, alpha, sigma), given.draw(rng)[0])

    times = LogSNRGrid(levels, 1e-2).times(process)
    x_0, _ = mixture.draw(rng)
    x = process.alpha(times[0]) * x_0 + process.sigma(times[0]) * rng.normal(x_0.shape)
    memory: Memory | None = None
    for t, s in pairwise(times):
        x, memory = step(process, denoise, x, t, s, rng.normal(x.shape), memory)
    return denoise(x, times[-1]).draw


def bridge_weights(particles: int, seeds: int) -> list[str]:
    """Mode-weight TV on the four-mode mixture with exact posterior draws, by step and number of levels."""
    target = targets.four_modes()
    mixture = exact(target)
    counts = (5, 10, 100)
    floor = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(100 + seed)
        floor.append(float(mode_weight_tv(target.mode_of(target.sample(particles, generator)), target.mode_weights)))
    rows = ["| step | " + " | ".join(f"K = {k}" for k in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    rows.append(f"| *exact draws of the target* | *{pm(floor, 4)}* | | |")
    for step in (Bridge(), Exponential(), Ancestral()):
        cells = []
        for k in counts:
            tvs = []
            for seed in range(seeds):
                x = reverse(mixture, EDM(60.0), k, step, rdmc.Streams.seeded(seed, [particles]))
                tvs.append(float(mode_weight_tv(target.mode_of(x), target.mode_weights)))
            cells.append(pm(tvs, 4))
        rows.append(f"| {type(step).__name__} | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Run and print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a second, to see that it runs")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(1)
    print(environment(), "\n")
    print("\n".join(score_rate((4, 16) if smoke else (16, 64, 256, 1024, 4096), 20 if smoke else 2000)), "\n")
    print("\n".join(step_orders((4, 8) if smoke else (16, 32, 64, 128, 256))), "\n")
    print("\n".join(bridge_weights(100 if smoke else 20_000, 2 if smoke else 5)))


if __name__ == "__main__":
    main()
