"""The score network: what a distilled run is good for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from rdmc.density import Density, HasLogDensity, as_density
from rdmc.diagnostics.capture import Capture
from rdmc.inner.base import require_count
from rdmc.journal import Journal
from rdmc.locate.pilot import Pilot
from rdmc.locate.survey import Surveyor
from rdmc.network.capture import captured
from rdmc.network.denoiser import FittedDenoiser
from rdmc.network.flow import Pushed, Trace, log_density, push
from rdmc.network.guide import Guiding
from rdmc.network.methods import step_named
from rdmc.network.module import seeded
from rdmc.network.starting import Tails
from rdmc.network.storage import read, write
from rdmc.network.walking import estimated, walk
from rdmc.network.weights import IndependenceChains, Weights, chain, weigh
from rdmc.sampler import located
from rdmc.steps import Step
from rdmc.table import Table
from rdmc.typing import LogDensity

__all__ = ["ScoreNetwork"]

_TAILS = Tails()


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ScoreNetwork(FittedDenoiser):
    r"""A denoiser fitted to draws, and the density p that its probability flow gives.

    Points that go in and out are the user's, in float64; the network itself computes in float32.

    Attributes:
        module, architecture, process, sigma_min, affine, spread: See :class:`rdmc.network.FittedDenoiser`.
        history: One row a look: step, train, held_out, learning_rate.
        log_evidence: Of the run it came from, or None.
        log_evidence_mcse: Its error, or None.
        gradient_evaluations: Of the target, in training.
        seconds: Training time.
        config: What it was fitted by.
        seed: Of the training.
        partial: Whether training was interrupted.
    """

    history: Table = field(default_factory=lambda: Table({}))
    log_evidence: float | None = None
    log_evidence_mcse: float | None = None
    gradient_evaluations: int = 0
    seconds: float = float("nan")
    config: str = ""
    seed: int = 0
    partial: bool = False

    @torch.no_grad()
    def sample(
        self, n: int, *, seed: int = 0, steps: int = 20, method: str | Step = "heun", guide: Guiding | None = None
    ) -> Tensor:
        """``(n, d)`` independent draws, at no evaluation of the target.

        Error: that of the network, and of the steps. Cost: ``steps`` x the estimates of a step (2 for Heun) evaluations
        of the network a draw.

        Args:
            n: Number of draws.
            seed: Non-negative integer.
            steps: Steps on the grid of Karras et al. (rho = 7) from sigma_max to sigma_min.
            method: One of ``ancestral``, ``euler``, ``exponential``, ``heun``, ``multistep``, or a step of :mod:`rdmc.steps`.
            guide: Draw given an observation (:class:`Guide`), or guided by a second network (:class:`NetworkGuide`).

        Raises:
            ValueError: If an argument is out of range, or the step is the bridge, which needs draws of x_0 and not means.
        """
        step = step_named(method)
        rng = self.streams(n, seed, 1)
        at, start = self.begin(guide)
        z = start.draw(rng)
        for _, reached in walk(self.process, estimated(at), step, self.times(steps), z, rng):
            z = reached
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
        begin = self.begin()[1].log_prob
        value = log_density(self.at, self.sigma_min, self.sigma_max, z, steps, trace, generator, begin, probes)
        return (value - self.affine.log_det()).view(x.shape[:-1])

    @torch.no_grad()
    def draw(
        self, n: int, *, seed: int = 0, steps: int = 20, guide: Guiding | None = None, tails: Tails | None = None
    ) -> tuple[Tensor, Pushed]:
        """``(n, d)`` draws by Heun steps with the exact log density of the law they have (that of the steps, not of their limit).

        Without ``tails`` they are the draws of :meth:`sample`. Cost: 2 (d + 1) evaluations of the network a step and draw.

        Returns:
            The draws, and the same in whitened coordinates with their log density *there* (less ``affine.log_det()`` here).
        """
        at, start = self.begin(guide, tails)
        noise = start.draw(self.streams(n, seed, 1))
        found = push(at, self.process, self.times(steps), noise, start.log_prob)
        return self.affine.to_user(found.z), found

    def weights(
        self,
        log_density: LogDensity | Density | HasLogDensity,
        n: int = 1000,
        *,
        seed: int = 0,
        steps: int = 20,
        guide: Guiding | None = None,
        tails: Tails | None = _TAILS,
    ) -> Weights:
        """Draws with weights under the target: consistent means, an unbiased evidence, and whether to trust both.

        A share of the draws begins from heavier noise (:class:`Tails`), because the network's own tails are too short.

        Law: E[w] = Z exactly, for any network, ``steps`` and ``tails``, as long as no step folds and q covers the target.
        Cost: n evaluations of ``log_density`` without gradient.

        Args:
            log_density: A batched callable ``(M, d) -> (M,)``, a :class:`rdmc.Density`, or an object with ``dim`` and
                ``log_density``. With a guide it is the log density of the conditional law (prior and likelihood).
            n: Number of draws.
            seed: Non-negative integer.
            steps: Heun steps.
            guide: See :class:`Guide` and :class:`NetworkGuide`.
            tails: Share and width of the heavier noise; None for none, which are the draws of :meth:`sample`.

        Raises:
            NonFiniteDensityError: If log pi is NaN or +inf at a draw, or -inf at all.
        """
        density = as_density(log_density, self.dim, device=self.affine.centre.device)
        x, found = self.draw(n, seed=seed, steps=steps, guide=guide, tails=tails)
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
        rng = self.streams(chains, seed, 2)
        return chain(density, points, log_q, rng.log_uniform((draws, chains)).T)

    @torch.no_grad()
    def capture(
        self,
        log_density: LogDensity | Density | HasLogDensity,
        n: int = 2000,
        *,
        pilot: Surveyor | None = None,
        seed: int = 0,
        steps: int = 20,
        method: str | Step = "heun",
        guide: Guiding | None = None,
    ) -> Capture:
        """Which mode the draws of :meth:`sample` are in, level by level, with the window that theory expects.

        A particle at x_t counts for the mode of a draw of x_0 given x_t, made by the network's own reverse equation.

        Cost: that of the pilot in evaluations of ``log_density``; ``steps (steps + 1) / 2`` evaluations of the network a particle,
        and those of its way.

        Args:
            log_density: As in :meth:`weights`; it is asked for the modes alone. With a guide, the conditional law.
            n: Particles.
            pilot: How modes are found; :class:`rdmc.Pilot` by default, :class:`rdmc.locate.survey.Known` where they are known.
            seed: Non-negative integer.
            steps: Steps.
            method: As in :meth:`sample`.
            guide: As in :meth:`sample`.

        Returns:
            The table of :meth:`rdmc.Result.capture`; :func:`rdmc.plot_levels.capture_figure` draws it.

        Raises:
            ValueError: If an argument is out of range.
            DensityError: If the pilot can't use the density.
        """
        step, pilot = step_named(method), Pilot() if pilot is None else pilot
        density = as_density(log_density, self.dim, device=self.affine.centre.device)
        survey = located(pilot, density, seed, Journal(density.counter))
        return captured(self, survey, n, seed, steps, step, guide)

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
