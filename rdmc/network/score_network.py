"""The score network: what a distilled run is good for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.density import Density, HasLogDensity, as_density
from rdmc.grid import PolynomialGrid
from rdmc.inner.base import require_count
from rdmc.network.flow import At, Pushed, Trace, log_density, push
from rdmc.network.guide import Guide
from rdmc.network.methods import require_noise, step_named
from rdmc.network.module import Architecture, DenoisingNetwork, seeded
from rdmc.network.storage import read, write
from rdmc.network.weights import IndependenceChains, Weights, chain, weigh
from rdmc.posterior import score_from_mean
from rdmc.process import EDM
from rdmc.rng import Streams
from rdmc.steps import Estimate, Step
from rdmc.table import Table
from rdmc.typing import LogDensity

__all__ = ["ScoreNetwork"]

_BATCH = 65536  # points that the network sees at once


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ScoreNetwork:
    r"""A denoiser fitted to draws, and the density p that its probability flow gives.

    In whitened coordinates z, where the draws have mean 0 and covariance I, the noised point is z_t = z_0 + sigma eps
    (process EDM: the time is sigma). Points that go in and out are the user's, x = centre + factor z; their noise has covariance
    sigma^2 factor factor^T. Types are float64 in and out; the network itself computes in float32.

    Attributes:
        module: The network.
        architecture: Its size.
        process: EDM, whose horizon is sigma_max.
        sigma_min: Noise that draws keep, in whitened coordinates: the density is that of the data with this much noise.
        affine: The whitening.
        history: One row a look: step, train, held_out, learning_rate.
        log_evidence: Of the run it came from, or None.
        log_evidence_mcse: Its error, or None.
        gradient_evaluations: Of the target, in training.
        seconds: Training time.
        config: What it was fitted by.
        seed: Of the training.
        partial: Whether training was interrupted.
    """

    module: DenoisingNetwork
    architecture: Architecture
    process: EDM
    sigma_min: float
    affine: Affine
    history: Table = field(default_factory=lambda: Table({}))
    log_evidence: float | None = None
    log_evidence_mcse: float | None = None
    gradient_evaluations: int = 0
    seconds: float = float("nan")
    config: str = ""
    seed: int = 0
    partial: bool = False

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.affine.dim

    @property
    def sigma_max(self) -> float:
        """Noise from which draws begin."""
        return self.process.horizon

    def _at(self, z: Tensor, sigma: float) -> Tensor:
        """``(B, d)`` denoised whitened points; the form that the flow differentiates."""
        mean: Tensor = self.module(z, z.new_full(z.shape[:-1], sigma))
        return mean

    def _given(self, x: Tensor) -> Tensor:
        """``(n, d)`` the user's points in whitened coordinates."""
        if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != self.dim:
            came = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"`x` must be a tensor of shape (..., {self.dim}), got {came}")
        return self.affine.to_white(x.detach().to(self.affine.centre)).reshape(-1, self.dim)

    def _times(self, steps: int) -> tuple[float, ...]:
        require_count("steps", steps, 1)
        return PolynomialGrid(levels=steps, end=self.sigma_min).times(self.process)

    def _start(self, n: int, seed: int, guide: Guide | None) -> tuple[Streams, At, Tensor, Tensor]:
        """Random numbers, the denoiser, the ``(1, d)`` mean of the whitened noise at sigma_max, and ``(n, d)`` draws of it."""
        require_count("n", n, 1)
        require_count("seed", seed, 0)
        rng = Streams.seeded(seed, [n], [(0xD157, 1)], device=self.affine.centre.device)
        noise = math.sqrt(1.0 + self.sigma_max**2) * rng.normal((n, self.dim))
        centre = noise.new_zeros(1, self.dim)
        if guide is None:
            return rng, self._at, centre, noise
        at = guide.wrapped(self._at, self.affine)
        centre = at(centre, self.sigma_max)  # nearly the mean given the data
        return rng, at, centre, centre + noise

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """``(..., d)`` E[x_0 | x_t] at ``(..., d)`` points with noise level sigma > 0."""
        require_noise("sigma", sigma)
        z = self._given(x)
        return self.affine.to_user(torch.cat([self._at(part, sigma) for part in z.split(_BATCH)])).view(x.shape)

    @torch.no_grad()
    def score(self, x: Tensor, t: float) -> Tensor:
        """``(..., d)`` grad log p_t(x) with respect to x at ``(..., d)`` points; the time t > 0 is the noise level."""
        require_noise("t", t)
        z = self._given(x)
        mean = torch.cat([self._at(part, t) for part in z.split(_BATCH)])
        return self.affine.pull_back(score_from_mean(mean, z, 1.0, t)).view(x.shape)

    @torch.no_grad()
    def sample(
        self, n: int, *, seed: int = 0, steps: int = 20, method: str | Step = "heun", guide: Guide | None = None
    ) -> Tensor:
        """``(n, d)`` independent draws, at no evaluation of the target.

        Error: that of the network, and of the steps. Cost: ``steps`` x the estimates of a step (2 for Heun) evaluations
        of the network a draw.

        Args:
            n: Number of draws.
            seed: Non-negative integer.
            steps: Steps on the grid of Karras et al. (rho = 7) from sigma_max to sigma_min.
            method: One of ``ancestral``, ``euler``, ``exponential``, ``heun``, ``multistep``, or a step of :mod:`rdmc.steps`.
            guide: Draw given an observation: see :class:`Guide`.

        Raises:
            ValueError: If an argument is out of range, or the step is the bridge, which needs draws of x_0 and not means.
        """
        step = step_named(method)
        rng, at, _, z = self._start(n, seed, guide)

        def estimate(z: Tensor, t: float) -> Estimate:
            mean = torch.cat([at(part, t) for part in z.split(_BATCH)])
            return Estimate(mean, score_from_mean(mean, z, 1.0, t), mean)

        memory = None
        for t, s in pairwise(self._times(steps)):
            z, memory = step(self.process, estimate, z, t, s, rng.normal(z.shape), memory)
        return self.affine.to_user(z)

    @torch.no_grad()
    def log_density(
        self, x: Tensor, *, steps: int = 64, trace: Trace = "auto", probes: int = 8, seed: int = 0
    ) -> Tensor:
        """``(...)`` normalised log density at ``(..., d)`` points, by the probability flow in continuous time.

        Error: order 4 in 1 / steps, so that twice the steps tell it. With Hutchinson's trace the log density has noise of mean 0
        besides, and its exponential is then too large on average.
        Cost: 4 (d + 1) evaluations of the network a step and point, or 4 (probes + 1).

        Args:
            x: Points.
            steps: Runge-Kutta steps in log sigma.
            trace: ``"exact"``, ``"hutchinson"``, or ``"auto"``: exact up to 20 dimensions.
            probes: Random vectors of Hutchinson's estimate.
            seed: Of those.

        Raises:
            ValueError: If an argument is out of range.
        """
        require_count("steps", steps, 1)
        require_count("probes", probes, 1)
        if trace not in ("auto", "exact", "hutchinson"):
            raise ValueError(f'`trace` must be "auto", "exact" or "hutchinson", got {trace!r}')
        z = self._given(x)
        generator = seeded(seed, 4, z.device)
        value = log_density(self._at, self.sigma_min, self.sigma_max, z, steps, trace, generator, probes)
        return (value - self.affine.log_det()).view(x.shape[:-1])

    @torch.no_grad()
    def draw(self, n: int, *, seed: int = 0, steps: int = 20, guide: Guide | None = None) -> tuple[Tensor, Pushed]:
        """``(n, d)`` draws by Heun steps with the exact log density of the law they have (that of the steps, not of their limit).

        Without a guide they are the draws of :meth:`sample`. Cost: 2 (d + 1) evaluations of the network a step and draw.

        Returns:
            The draws, and the same in whitened coordinates with their log density *there* (less ``affine.log_det()`` here).
        """
        _, at, centre, z = self._start(n, seed, guide)
        found = push(at, self.process, self._times(steps), z, centre)
        return self.affine.to_user(found.z), found

    def weights(
        self,
        log_density: LogDensity | Density | HasLogDensity,
        n: int = 1000,
        *,
        seed: int = 0,
        steps: int = 20,
        guide: Guide | None = None,
    ) -> Weights:
        """Draws with weights under the target: consistent means, an unbiased evidence, and whether to trust both.

        Law: E[w] = Z exactly, for any network and any ``steps``, as long as no step folds and q covers the target.
        Cost: n evaluations of ``log_density`` without gradient.

        Args:
            log_density: A batched callable ``(M, d) -> (M,)``, a :class:`rdmc.Density`, or an object with ``dim`` and
                ``log_density``. With a guide it is the log density of the conditional law (prior and likelihood).
            n: Number of draws.
            seed: Non-negative integer.
            steps: Heun steps.
            guide: Draw given an observation: see :class:`Guide`.

        Raises:
            NonFiniteDensityError: If log pi is NaN or +inf at a draw, or -inf at all.
        """
        density = as_density(log_density, self.dim, device=self.affine.centre.device)
        x, found = self.draw(n, seed=seed, steps=steps, guide=guide)
        value, error = (None, None) if guide is not None else (self.log_evidence, self.log_evidence_mcse)
        known = None if value is None or error is None else (value, error)
        return weigh(density, x, found.log_density - self.affine.log_det(), found.folded, known)

    def independence(
        self,
        log_density: LogDensity | Density | HasLogDensity,
        draws: int = 1000,
        *,
        chains: int = 4,
        start: Tensor | None = None,
        seed: int = 0,
        steps: int = 20,
    ) -> IndependenceChains:
        """Metropolis chains that propose draws of the network: their limit is the target, whatever the network has wrong.

        Law: leaves pi invariant. The proposals' densities are exact; that of a given ``start`` is by
        :meth:`log_density`, with the error of its integrator, and matters until the first acceptance.
        Cost: ``chains x (draws + 1)`` evaluations of ``log_density`` without gradient.

        Args:
            log_density: As in :meth:`weights`.
            draws: States of each chain.
            chains: Number of chains.
            start: ``(chains, d)`` where chains begin, for example at draws of the run; by default at draws of the network.
            seed: Non-negative integer.
            steps: Heun steps.

        Raises:
            ValueError: If an argument is out of range.
            NonFiniteDensityError: If log pi is NaN or +inf at a proposal.
        """
        require_count("draws", draws, 1)
        require_count("chains", chains, 1)
        if start is not None and start.shape != (chains, self.dim):
            raise ValueError(f"`start` must have shape (chains, d) = {(chains, self.dim)}, got {tuple(start.shape)}")
        density = as_density(log_density, self.dim, device=self.affine.centre.device)
        x, found = self.draw(chains * (draws + (start is None)), seed=seed, steps=steps)
        points = x.view(chains, -1, self.dim)
        log_q = (found.log_density - self.affine.log_det()).view(chains, -1)
        if start is not None:
            points = torch.cat([start.to(points)[:, None], points], 1)
            log_q = torch.cat([self.log_density(start)[:, None], log_q], 1)
        rng = Streams.seeded(seed, [chains], [(0xD157, 2)], device=points.device)
        return chain(density, points, log_q, rng.log_uniform((draws, chains)).T)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file without pickle, in one piece or not at all; :meth:`load` gives back every bit.

        Raises:
            ValueError: If the folder does not exist.
        """
        return write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> ScoreNetwork:
        """The network that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, was written by something else, or by a newer version of the format.
        """
        return cls(**read(path, device))

    def __repr__(self) -> str:
        a, state = self.architecture, ", partial" if self.partial else ""
        looks = f", held-out loss {min(self.history['held_out']):.4g}" if len(self.history) else ""
        return (
            f"ScoreNetwork({self.dim} dimensions, {a.depth + 1} layers of {a.width}, noise {self.sigma_min:.3g} to "
            f"{self.sigma_max:.3g}{looks}{state})"
        )
