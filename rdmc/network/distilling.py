"""From the draws of a run to a score network."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rdmc.arguments import whole
from rdmc.checkpoint import Checkpoint
from rdmc.coordinates import Affine
from rdmc.network.losses import DenoisingLoss, Loss, Pool
from rdmc.network.module import Architecture, seeded
from rdmc.network.noise import Levels, LogUniform, NoiseLaw, noise_range
from rdmc.network.score_network import ScoreNetwork
from rdmc.network.training import Look, Training, fit
from rdmc.process import EDM
from rdmc.progress import Progress
from rdmc.result import Result, library_versions
from rdmc.table import Table

__all__ = ["distill"]

_LEAST = 40  # draws, or 5 (d + 1) if that is more


class _Split(NamedTuple):
    """Draws in the user's coordinates, ``(n, d)`` to learn from and ``(m, d)`` held out."""

    train: Tensor
    held_out: Tensor


def distill(
    draws: Result | Tensor,
    *,
    loss: Loss | None = None,
    architecture: Architecture | None = None,
    training: Training | None = None,
    noise: NoiseLaw | None = None,
    sigma_range: tuple[float, float] | None = None,
    like: ScoreNetwork | None = None,
    held_out: float | Literal["chain"] = 0.15,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progressbar: bool = True,
) -> ScoreNetwork:
    """Fit a small score network to draws, for many more draws at no evaluation of the target, a normalised density, and a proposal.

    The draws are whitened by their mean and covariance. What the network gives has the error of the draws and its own;
    weights against the target (:meth:`ScoreNetwork.weights`) take both away where their tail index says so.

    Cost: none of the target with the default loss; seconds of training on one core.

    Args:
        draws: A result, or a tensor of shape ``(n, d)`` or ``(chains, draws, d)``.
        loss: What is minimised; :class:`DenoisingLoss` by default, or :class:`ImplicitLoss`, or :class:`ScoreRegression` with the
            log density.
        architecture: Size of the network.
        training: Steps, batch, learning rate, patience.
        noise: How often each noise level is trained; :class:`LogUniform` by default.
        sigma_range: sigma_min and sigma_max in whitened coordinates; by default from the draws
            (:func:`rdmc.network.noise.noise_range`).
        like: Take whitening and noise range of this network, so that the two can guide each other (:class:`NetworkGuide`).
            Draws much narrower than its own are learnt less well.
        held_out: Share of the draws, taken at random, by which training is judged; ``"chain"`` takes the last chain
            whole, which is the right choice for draws that depend on each other.
        seed: Non-negative integer; the same seed gives the same bits.
        checkpoint: A file that keeps the state of the training. The same call goes on where another process was stopped.
        progressbar: Show a bar.

    Returns:
        The network. Ctrl-C ends the training early with the best weights so far, marked ``partial``.

    Raises:
        ValueError: If an argument is out of range, there are too few draws, or they do not vary in every direction.
        CheckpointError: If the file is damaged, belongs to another training, or can't be written.
        ArithmeticError: If the training diverges.

    Example:
        >>> x = torch.randn(400, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> network = distill(x, training=Training(steps=20), progressbar=False)
        >>> tuple(network.sample(5, seed=1).shape)
        (5, 1)
    """
    clock = time.perf_counter()
    known = whole(seed)
    if known is None or known < 0:
        raise ValueError(f"`seed` must be an integer of at least 0, got {seed!r}")
    loss, architecture = DenoisingLoss() if loss is None else loss, architecture or Architecture()
    training, noise = training or Training(), noise or LogUniform()
    split = _split(_checked(draws), held_out, known)
    everything = torch.cat(split)
    affine, spread = _coordinates(_whitening(everything), like)
    train, held = (affine.to_white(part) for part in split)
    levels = Levels(noise, *_range(sigma_range, train, like))
    network = architecture.build(affine.dim, known, train.device)
    identity = {
        "what": "distill",
        "draws": hashlib.blake2b(everything.cpu().numpy().tobytes(), digest_size=16).hexdigest(),
        "held_out": str(held_out),
        "loss": loss.signature(train, affine),
        "architecture": repr(architecture),
        "training": repr(training),
        "levels": repr(levels),
        "seed": known,
        "like": "" if like is None else repr((affine.centre.tolist(), affine.factor.tolist())),
        **library_versions(),
    }
    with (
        _opened(checkpoint, identity, loss) as kept,
        Progress(training.steps, "distill", enabled=progressbar) as bar,
    ):
        pools = _pools(loss, (train, held), affine, levels, known, kept)
        fitted = fit(network, loss, training, levels, pools, known, bar, kept)
    network.load_state_dict(fitted.weights)
    history = Table({name: [getattr(look, name) for look in fitted.looks] for name in Look._fields})
    return ScoreNetwork(
        module=network.requires_grad_(False).eval(),
        architecture=architecture,
        process=EDM(levels.high),
        sigma_min=levels.low,
        affine=affine,
        spread=spread,
        history=history,
        log_evidence=draws.log_evidence if isinstance(draws, Result) else None,
        log_evidence_mcse=draws.log_evidence_mcse if isinstance(draws, Result) else None,
        gradient_evaluations=sum(pool.gradients for pool in pools),
        seconds=time.perf_counter() - clock,
        config=f"{loss!r}, {training!r}, {levels!r}",
        seed=known,
        partial=fitted.partial,
    )


def _checked(draws: Result | Tensor) -> Tensor:
    """``(chains, draws, d)`` finite draws in float64."""
    x = draws.samples if isinstance(draws, Result) else draws
    if not isinstance(x, Tensor) or x.ndim not in (2, 3) or 0 in x.shape or not x.is_floating_point():
        came = f"shape {tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"`draws` must be a Result or a real tensor of shape (n, d) or (chains, draws, d), none of them 0, got {came}"
        )
    x = x.detach().double()
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).any(-1).sum())
        raise ValueError(f"`draws` must be finite, got {bad} with NaN or infinite coordinates")
    return x if x.ndim == 3 else x[None]


def _split(x: Tensor, held_out: float | str, seed: int) -> _Split:
    """Learn from some, judge by the others."""
    chains, _, d = x.shape
    n, least = x.shape[0] * x.shape[1], max(_LEAST, 5 * (d + 1))
    if n < least:
        raise ValueError(f"`draws` must be at least {least} in {d} dimensions, got {n}")
    if held_out == "chain":
        if chains < 2:
            raise ValueError('`held_out` can be "chain" where there are two chains or more, got 1')
        return _Split(x[:-1].flatten(0, 1), x[-1])
    if isinstance(held_out, (str, bool)) or not 0.0 < held_out <= 0.5:
        raise ValueError(f'`held_out` must be a share in (0, .5] or "chain", got {held_out!r}')
    order = torch.randperm(n, generator=seeded(seed, 3, torch.device("cpu"))).to(x.device)
    mixed, k = x.flatten(0, 1)[order], max(1, round(held_out * n))
    return _Split(mixed[k:], mixed[:k])


def _whitening(x: Tensor) -> Affine:
    """Coordinates in which ``(n, d)`` draws have mean 0 and covariance I."""
    centre = x.mean(0)
    covariance = (x - centre).T @ (x - centre) / (len(x) - 1)
    sd = covariance.diagonal().sqrt()
    if not bool((sd > 0.0).all()):
        raise ValueError(
            f"`draws` must vary in every coordinate, got {(sd <= 0.0).nonzero().flatten().tolist()} constant"
        )
    # correlations, so that units of very different size do not look like a lack of rank
    values = torch.linalg.eigvalsh(covariance / (sd[:, None] * sd))
    if not float(values[0]) > 1e-12:
        raise ValueError(
            f"`draws` must vary in every direction, got a correlation matrix with least eigenvalue {float(values[0]):.3g}"
        )
    correlation = torch.linalg.cholesky(covariance / (sd[:, None] * sd))
    return Affine(centre, sd[:, None] * correlation)


def _coordinates(own: Affine, like: ScoreNetwork | None) -> tuple[Affine, Affine | None]:
    """The coordinates, and where they are borrowed the moments of the draws in them."""
    if like is None:
        return own, None
    if like.dim != own.dim:
        raise ValueError(f"`like` must have the dimension of the draws: wanted {own.dim}, got {like.dim}")
    borrowed = like.affine
    factor = torch.linalg.solve(borrowed.factor, own.factor)
    return borrowed, Affine(borrowed.to_white(own.centre[None])[0], factor)


def _range(given: tuple[float, float] | None, z: Tensor, like: ScoreNetwork | None) -> tuple[float, float]:
    if like is not None:
        if given is not None:
            raise ValueError(f"`sigma_range` must be left out with `like`, which has one of its own, got {given!r}")
        return like.sigma_min, like.sigma_max
    if given is None:
        return noise_range(z)
    low, high = (float(value) for value in given)
    if not 0.0 < low < high:
        raise ValueError(f"`sigma_range` must be (sigma_min, sigma_max) with 0 < sigma_min < sigma_max, got {given!r}")
    return low, high


def _pools(
    loss: Loss, parts: tuple[Tensor, Tensor], affine: Affine, levels: Levels, seed: int, kept: Checkpoint | None
) -> tuple[Pool, Pool]:
    """Examples to learn from and held-out ones, made once."""
    found: tuple[Pool, Pool] | None = None if kept is None else kept.recall("pools", parts[0].device)
    if found is None:
        found = (loss.pool(parts[0], affine, levels, seed), loss.pool(parts[1], affine, levels, seed + 1))
        if kept is not None:
            kept.keep("pools", found)
    return found


@contextmanager
def _opened(
    path: str | os.PathLike[str] | None, identity: dict[str, object], loss: Loss
) -> Iterator[Checkpoint | None]:
    if path is None:
        yield None
        return
    kept = Checkpoint(path, identity, ("rdmc", type(loss).__module__.split(".")[0]))
    try:
        yield kept
    finally:
        kept.close()
