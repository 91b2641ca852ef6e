"""The Stein control variate against the plain average: error of the posterior mean from the same draws.

    python -m benchmarks.control_variate [--smoke]

Targets are Gaussian mixtures, so the posterior mean is known in closed form; noise levels are in units of the narrowest mode.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import rdmc
from benchmarks.store import environment
from rdmc.coordinates import InCoordinates
from rdmc.inner import Chains
from rdmc.kernels import MALA
from rdmc.posterior import InnerPosterior
from rdmc.score import SteinControlVariate, Tweedie

NOISE = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def mixtures() -> dict[str, rdmc.GaussianMixture]:
    """Three targets: two modes in d = 8, unequal widths in d = 2, four anisotropic modes in d = 5; none symmetric."""
    generator = torch.Generator().manual_seed(5)
    two = torch.stack([torch.full((8,), -2.0 / 3.0), torch.full((8,), 4.0 / 3.0)]).double()
    pair = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()
    means = 4.0 * torch.randn(4, 5, generator=generator, dtype=torch.float64)
    roots = torch.randn(4, 5, 5, generator=generator, dtype=torch.float64) / 5**0.5
    covariances = roots @ roots.mT + 0.1 * torch.eye(5, dtype=torch.float64)
    return {
        "two modes 2:1, d = 8": rdmc.GaussianMixture.isotropic(
            two, torch.full((2,), 0.05**0.5).double(), torch.tensor([2.0, 1.0]).double()
        ),
        "sd .1 and .5, d = 2": rdmc.GaussianMixture.isotropic(
            pair, torch.tensor([0.1, 0.5]).double(), torch.tensor([0.3, 0.7]).double()
        ),
        "four anisotropic, d = 5": rdmc.GaussianMixture.from_covariance(
            means, covariances, torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
        ),
    }


def posterior_mean(mixture: rdmc.GaussianMixture, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """``(B, d)`` exact E[x_0 | x_t]."""
    given = mixture.condition(x_t, alpha, sigma)
    return torch.einsum("bk,bki->bi", given.log_weight.exp(), given.mean)


def errors(mixture: rdmc.GaussianMixture, particles: int, seed: int) -> list[tuple[float, float, float]]:
    """Root mean square errors (plain, with control variate) at each noise level, as ``(sigma / width, plain, ours)``."""
    density = rdmc.Density(mixture.log_prob, mixture.dim, mixture.value_and_grad)
    target = InCoordinates(density, rdmc.Affine.identity(mixture.dim))
    width = float(mixture.variance.amin().sqrt())
    rows = []
    for ratio in NOISE:
        rng = rdmc.Streams.seeded(seed, [particles])
        x_0, _ = mixture.draw(rng)
        sigma = ratio * width
        x_t = x_0 + sigma * rng.normal(x_0.shape)
        q = InnerPosterior(target, x_t, 1.0, sigma)
        draws = Chains(MALA(), chains=4, burn_in=24, steps=8).draw(q, rng, None)
        truth = posterior_mean(mixture, x_t, 1.0, sigma)
        plain, ours = (
            float((estimator(q, draws).mean - truth).square().sum(-1).mean().sqrt())
            for estimator in (Tweedie(), SteinControlVariate())
        )
        rows.append((ratio, plain, ours))
    return rows


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a second, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    particles = 50 if arguments.smoke else 4000
    print(
        f"4 chains x 8 MALA draws after 24, {particles} particles; error of E[x_0 | x_t], plain / ours. {environment()}\n"
    )
    print("| target | " + " | ".join(f"sigma = {ratio:g} widths" for ratio in NOISE) + " |")
    print("|---" * (len(NOISE) + 1) + "|")
    for name, mixture in mixtures().items():
        cells = [
            f"{plain:.4f} / {ours:.4f} = **{plain / ours:.1f}x**" for _, plain, ours in errors(mixture, particles, 1)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
