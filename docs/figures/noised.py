"""Two modes under noise: p_t along the process, q_t at three levels, and the window in which weights are decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from docs.figures.base import BLUE, GREY, ORANGE, RED, panels, write
from rdmc.process import OU

__all__ = ["draw", "edges", "numbers"]

M, S, WEIGHT = 3.0, 0.6, 0.7  # modes at -M (weight .7) and M, of standard deviation S
PROCESS = OU(horizon=4.0)
TIMES = (0.02, 0.3, 1.0, 1.6, 2.6)
LEVELS = (2.2, 1.1, 0.2)
GRID = np.linspace(-5.5, 5.5, 161)


def edges(m: float, s: float) -> tuple[float, float]:
    """Below the first signal-to-noise ratio p_t has one mode; above the second every q_t is log-concave."""
    return 1.0 / (m**2 - s**2), (m**2 - s**2) / s**4


def _density(x: Any, alpha: float, sigma: float) -> Any:
    """p_t of the mixture."""
    variance = alpha**2 * S**2 + sigma**2
    low = WEIGHT * np.exp(-0.5 * (x + alpha * M) ** 2 / variance)
    high = (1.0 - WEIGHT) * np.exp(-0.5 * (x - alpha * M) ** 2 / variance)
    return (low + high) / np.sqrt(2.0 * np.pi * variance)


def posterior(x: Any, x_t: float, alpha: float, sigma: float) -> Any:
    """q_t(x | x_t), normalised on the grid of x."""
    q = _density(x, 1.0, 0.0) * np.exp(-0.5 * (x_t - alpha * x) ** 2 / sigma**2)
    return q / (q.sum() * (x[1] - x[0]))


def decided(snr: float) -> float:
    """How much x_t tells about the mode: mutual information in units of the entropy of the weights."""
    alpha, sigma = np.sqrt(snr / (1.0 + snr)), np.sqrt(1.0 / (1.0 + snr))
    sd = np.sqrt(alpha**2 * S**2 + sigma**2)
    x = np.linspace(-alpha * M - 9 * sd, alpha * M + 9 * sd, 4001)
    low = WEIGHT * np.exp(-0.5 * ((x + alpha * M) / sd) ** 2)
    high = (1.0 - WEIGHT) * np.exp(-0.5 * ((x - alpha * M) / sd) ** 2)
    total = low + high
    share = np.clip(low / total, 1e-300, 1.0), np.clip(high / total, 1e-300, 1.0)
    left = -(share[0] * np.log(share[0]) + share[1] * np.log(share[1]))
    entropy = -(WEIGHT * np.log(WEIGHT) + (1.0 - WEIGHT) * np.log(1.0 - WEIGHT))
    return float(1.0 - (total * left).sum() / total.sum() / entropy)


def numbers() -> dict[str, Any]:
    """Modes of p_t by the level, the edges of the window, and what x_t tells about the mode."""
    low, high = edges(M, S)
    snrs = np.geomspace(low / 100, high * 10, 61)
    return {
        "edges": [low, high],
        "times of the edges": [PROCESS.time_at(float(np.log(edge))) for edge in (low, high)],
        "snr": snrs.tolist(),
        "decided": [decided(float(snr)) for snr in snrs],
        "decided at the edges": [decided(low), decided(high)],
        "peaks of p_t": [_peaks(_density(np.linspace(-9, 9, 4001), PROCESS.alpha(t), PROCESS.sigma(t))) for t in TIMES],
        "weight of the left mode in q_t": [
            float(posterior(GRID, 0.5, PROCESS.alpha(t), PROCESS.sigma(t))[GRID < 0].sum() * (GRID[1] - GRID[0]))
            for t in LEVELS
        ],
    }


def _peaks(values: Any) -> int:
    inner = values[1:-1]
    return int(((inner > values[:-2]) & (inner > values[2:])).sum())


def draw(found: dict[str, Any]) -> list[Path]:
    """Three pictures."""
    return [_draw_noised(), _draw_inner(), _draw_window(found)]


def _draw_noised() -> Path:
    figure, axes = panels(1, len(TIMES), (9.0, 1.9), sharey=True)
    for axis, t in zip(axes, reversed(TIMES), strict=True):
        alpha, sigma = PROCESS.alpha(t), PROCESS.sigma(t)
        axis.fill_between(GRID, _density(GRID, alpha, sigma), color=BLUE, alpha=0.25, linewidth=0)
        axis.plot(GRID, _density(GRID, alpha, sigma), color=BLUE)
        axis.set_title(f"t = {t:g}")
        axis.set_xlabel("x")
        axis.set_yticks([])
    axes[0].set_ylabel("density of x_t")
    return write(figure, "noised.svg")


def _draw_inner() -> Path:
    figure, axes = panels(1, len(LEVELS), (9.0, 2.1))
    for axis, t in zip(axes, LEVELS, strict=True):
        alpha, sigma = PROCESS.alpha(t), PROCESS.sigma(t)
        target = _density(GRID, 1.0, 0.0)
        q = posterior(GRID, 0.5, alpha, sigma)
        axis.plot(GRID, target / target.max(), color=GREY, linewidth=1.0, label="target")
        axis.fill_between(GRID, q / q.max(), color=ORANGE, alpha=0.3, linewidth=0)
        axis.plot(GRID, q / q.max(), color=ORANGE, label="inner posterior")
        axis.axvline(0.5 / alpha, color=RED, linewidth=0.9, linestyle=":", label="x_t / alpha_t")
        axis.set_title(f"t = {t:g}, snr = {(alpha / sigma) ** 2:.2g}")
        axis.set_xlim(-5.5, 5.5)
        axis.set_xlabel("x_0")
        axis.set_yticks([])
    axes[0].legend(loc="upper right", handlelength=1.2)
    return write(figure, "inner.svg")


def _draw_window(found: dict[str, Any]) -> Path:
    figure, axis = panels(1, 1, (7.0, 2.6))
    low, high = found["edges"]
    axis.plot(found["snr"], found["decided"], color=BLUE)
    axis.set_xscale("log")
    axis.axvspan(low, high, color=ORANGE, alpha=0.15, linewidth=0)
    for edge in (low, high):
        axis.axvline(edge, color=ORANGE, linewidth=0.9)
    axis.set_xlim(found["snr"][0], found["snr"][-1])
    axis.set_ylim(-0.02, 1.1)
    axis.text(low * 0.85, 1.02, "p_t has one mode", ha="right", fontsize=8)
    axis.text((low * high) ** 0.5, 1.02, "p_t has two modes, q_t may have", ha="center", fontsize=8)
    axis.text(high * 1.15, 1.02, "q_t log-concave", ha="left", fontsize=8)
    axis.set_xlabel("signal-to-noise ratio  alpha_t² / sigma_t²   (data at the right)")
    axis.set_ylabel("what x_t tells\nabout the mode")
    return write(figure, "window.svg")
