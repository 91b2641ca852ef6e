"""Results with a known truth: three Gaussian modes, one of them rare."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdmc.diagnostics import mode_table
from rdmc.mixture import GaussianMixture
from rdmc.result import Result
from rdmc.table import Table

WEIGHTS = torch.tensor([0.2, 0.79, 0.01], dtype=torch.float64)
MEANS = torch.tensor([[-4.0, 0.0, 1.0], [3.0, 3.0, -1.0], [2.0, -5.0, 0.0]], dtype=torch.float64)
SDS = torch.tensor([0.5, 1.0, 0.3], dtype=torch.float64)
MIXTURE = GaussianMixture.isotropic(MEANS, SDS, WEIGHTS)


def exact(n: int, generator: torch.Generator, weights: Tensor = WEIGHTS) -> Tensor:
    label = torch.multinomial(weights, n, replacement=True, generator=generator)
    return MEANS[label] + SDS[label, None] * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def inner(chains: int = 4, levels: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sigma = np.broadcast_to(np.geomspace(8.0, 0.01, levels), (chains, levels))
    values = {
        "t": sigma.copy(),
        "sigma": sigma.copy(),
        "log_snr": -2 * np.log(sigma),
        "rhat": 1.0 + 0.01 * rng.random((chains, levels)),
        "memory": 0.02 * rng.random((chains, levels)),
        "ess": 20 + rng.random((chains, levels)),
        "mcse": rng.random((chains, levels)),
        "acceptance": 0.5 + 0.1 * rng.random((chains, levels)),
        "jump_acceptance": np.full((chains, levels), np.nan),
        "nonfinite": np.zeros((chains, levels), dtype=np.int64),
        "evaluations": np.full((chains, levels), 1000),
        "seconds": np.full((chains, levels), 0.25),
    }
    values["acceptance"][:, :1] = np.nan
    return values


def result_of(samples: Tensor, **changes: Any) -> Result:
    log_density = MIXTURE.log_prob(samples) if samples.ndim == 3 else samples[..., 0]
    modes = mode_table(samples, log_density, MIXTURE) if samples.ndim == 3 else Table({})
    fields: dict[str, Any] = {
        "samples": samples,
        "log_density": log_density,
        "log_evidence": 0.25,
        "log_evidence_mcse": 0.01,
        "gradient_evaluations": 20_000,
        "density_evaluations": 123,
        "seconds": 1.5,
        "modes": modes,
        "inner": inner(samples.shape[0]),
        "sampler": "auto",
        "config": "Auto(rounds=2)",
        "seed": 7,
    }
    return Result(**(fields | changes))


def good(seed: int = 0, chains: int = 4, draws: int = 500, **changes: Any) -> Result:
    samples = exact(chains * draws, torch.Generator().manual_seed(seed)).reshape(chains, draws, 3)
    return result_of(samples, **changes) if "samples" not in changes else result_of(changes.pop("samples"), **changes)
