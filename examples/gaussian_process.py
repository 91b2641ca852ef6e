r"""Two explanations of the same weather.

    python -m examples.gaussian_process

The highest temperature of 24 days in New York, 31 May to 23 June 1973 (Chambers et al. 1983; R's airquality), and a Gaussian
process whose length scale, share of noise and variance are unknown (d = 3). Either the weather changes from day to day and is
measured well, or it changes over half a week and every day adds noise of its own: a short length with little noise, a long one
with much (compare Rasmussen and Williams 2006, figure 5.5). The two are hills of one ridge, not islands: NUTS crosses between
them, slowly, and agrees. It has no evidence.

Truth: the variance integrates out in closed form, the rest is a two-dimensional quadrature: log evidence -30.628, probability
of the short length scale (below 1.84 days) .563.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import rdmc
import targets
from examples.gallery import INK, POPULATIONS, canvas, mode_shares, nuts, ours, parse, save, scatter, tell
from targets.weather import TEMPERATURES


def main(argv: Sequence[str] | None = None) -> dict[str, rdmc.Result]:
    """Sample, print, draw."""
    settings = parse(__doc__, argv)
    target = targets.gaussian_process()
    results = {"rdmc": ours(target, settings), "NUTS": nuts(target, settings)}
    shares = mode_shares(target, results, ["short length", "long length"])
    weights = [] if target.mode_weights is None else target.mode_weights.tolist()
    truth = dict(zip(shares, weights, strict=True)) | {"log evidence": float(target.log_z or 0.0)}
    tell("A Gaussian process for 24 days, d = 3", results, shares, truth)

    page, (axes,) = canvas(3, width=12.5, width_ratios=(1.5, 1.0, 1.0))
    raw = torch.tensor(TEMPERATURES, dtype=torch.float64)
    day = torch.linspace(0.0, 23.0, 300, dtype=torch.float64)
    draws = results["rdmc"].samples.flatten(0, 1)
    label = target.mode_of(draws)
    for k, name in enumerate(("short length, little noise", "long length, much noise")):
        mean, sd = target.predict(draws[label == k][:200], day)
        middle, width = mean.mean(0), (sd.square().mean(0) + mean.var(0)).sqrt()
        middle, width = middle * raw.std(correction=0) + raw.mean(), width * raw.std(correction=0)
        axes[0].fill_between(day, middle - 2 * width, middle + 2 * width, color=POPULATIONS[k], alpha=0.18, lw=0)
        axes[0].plot(day, middle, color=POPULATIONS[k], label=f"{name}: {float((label == k).double().mean()):.2f}")
    axes[0].plot(range(24), TEMPERATURES, "o", color=INK, ms=4)
    axes[0].set(xlabel="days from 31 May 1973", ylabel="temperature, F", ylim=(55.0, 106.0))
    axes[0].set_title("the process without its noise, \u00b1 2 sd", loc="left", fontsize=10, color=INK)
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    for each, (name, result) in zip(axes[1:], results.items(), strict=True):
        noise = target.noise_share(result.samples.flatten(0, 1)).view(result.chains, result.draws)
        scatter(each, result.samples[..., 0].exp(), noise, f"{name}: one colour for each chain")
        each.set(
            xscale="log", xlim=(0.15, 25.0), ylim=(-0.02, 1.02), xlabel="length scale, days", ylabel="share of noise"
        )
    save(page, settings, "gaussian_process")
    return results


if __name__ == "__main__":
    main()
