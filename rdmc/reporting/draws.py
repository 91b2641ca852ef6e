"""Figures of the draws: marginals, pairs of coordinates, and ranks over the populations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from rdmc.panels import INK, LINE, POPULATIONS, Array, limits_of, marginals, projected, scatter
from rdmc.reporting.coordinates import Choice, coordinate_name
from rdmc.reporting.parts import Plate, Section
from rdmc.reporting.subject import Subject
from rdmc.reporting.svg import CARD, label, on_page, panel
from rdmc.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draws_section", "population_key", "ranks_section"]

MARKED_MODES = 9
PAIRED = 4  # coordinates, so six pairs
ROW = 3  # panels beside each other on a wide screen
COMPARED = 2  # coordinates of each sampler where there are several


def population_key(subject: Subject) -> tuple[tuple[str, str], ...]:
    """Colour and label of each population, as many as there are colours."""
    most = max(result.chains for result in subject.results.values())
    names = [(on_page(colour), f"population {k}") for k, colour in enumerate(POPULATIONS[:most])]
    if most > len(POPULATIONS):
        names[0] = (names[0][0], f"population 0 (colours repeat after {len(POPULATIONS)})")
    return tuple(names)


def _marks(result: Result, indices: Sequence[int]) -> Array:
    """``(K, len(indices))`` places of the heaviest modes."""
    if "location" not in result.modes.columns or not len(result.modes):
        return np.zeros((0, len(indices)))
    places: Array = np.array(result.modes["location"][:MARKED_MODES], dtype=np.float64)[:, list(indices)]
    return places


def _ticks(axes: Axes, both: bool = True) -> None:
    axes.locator_params(axis="x", nbins=5)
    if both:
        axes.locator_params(axis="y", nbins=5)


def _tag(axes: Axes, place: tuple[float, float], text: str, offset: tuple[float, float], **options: Any) -> None:
    """A number in a small disc, beside the place that it names."""
    disc = {"boxstyle": "circle,pad=0.22", "facecolor": CARD, "edgecolor": LINE, "linewidth": 0.6, "alpha": 0.9}
    options |= {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 6.5, "color": INK}
    axes.annotate(text, place, offset, bbox=disc, zorder=6, annotation_clip=True, **options)


def _marginal(
    axes: Axes, values: Array, exact: Array | None, limits: tuple[float, float], marks: Array, name: str
) -> None:
    top = marginals(axes, values, exact, limits) or 1.0
    axes.set_ylim(0, 1.22 * top)
    placed: list[float] = []
    for k, place in enumerate(marks[:, 0]):
        if not limits[0] <= place <= limits[1]:
            continue
        near = sum(abs(place - other) < 0.055 * (limits[1] - limits[0]) for other in placed)
        placed.append(float(place))
        axes.axvline(place, color=LINE, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0)
        if near < 3:  # more would not be told apart
            _tag(axes, (float(place), 1.15 * top), str(k), (0.0, -10.0 * near))
    axes.set_xlabel(name)
    _ticks(axes, both=False)


def _pair(
    axes: Axes, values: Array, exact: Array | None, limits: list[tuple[float, float]], marks: Array, names: list[str]
) -> None:
    kept = np.where(np.isfinite(values), values, np.nan)
    if exact is not None:  # in pixels, so of a grey that stands out from light and dark pages alike
        axes.scatter(exact[:, 0], exact[:, 1], s=6, c=LINE, alpha=0.28, linewidths=0, rasterized=True, zorder=1)
    scatter(axes, kept, None, limits)
    for k, (x, y) in enumerate(marks):
        axes.plot(x, y, "+", color=INK, markersize=6, markeredgewidth=1.1, zorder=5)
        across = -8.0 if x > limits[0][0] + 0.85 * (limits[0][1] - limits[0][0]) else 8.0
        up = -8.0 if y > limits[1][0] + 0.85 * (limits[1][1] - limits[1][0]) else 8.0
        _tag(axes, (float(x), float(y)), str(k), (across, up))
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    _ticks(axes)


def _exact(subject: Subject, like: Result) -> Any:
    """``(4000, d)`` exact draws, if the target is there and can be sampled."""
    truth = subject.truth
    if truth is None or not getattr(truth, "can_sample", hasattr(truth, "sample")):
        return None
    import torch

    return truth.sample(4000, torch.Generator().manual_seed(0)).to(like.samples)


def _panels(subject: Subject, indices: tuple[int, ...], exact: Any) -> list[str]:
    """A panel of one or two coordinates for each sampler, on the same axes."""
    chosen = list(indices)
    views = {name: projected(result.samples, lambda x: x[..., chosen]) for name, result in subject.results.items()}
    behind = None if exact is None else projected(exact[None], lambda x: x[..., chosen])[0]
    reference = [behind[None]] if behind is not None else list(views.values())
    limits = [limits_of(reference, axis) for axis in range(len(indices))]
    made = []
    for name, result in subject.results.items():
        plain = [coordinate_name(result, i) for i in indices]
        names, marks = [label(text) for text in plain], _marks(result, indices)
        of = f"{result.chains} populations{f' of {name}' if subject.title(name) else ''}, {len(marks)} modes marked"
        if len(indices) == 1:
            draw = partial(_marginal, values=views[name], exact=behind, limits=limits[0], marks=marks, name=names[0])
            alt = f"Density of {plain[0]} in {of}"
        else:
            draw = partial(_pair, values=views[name], exact=behind, limits=limits, marks=marks, names=names)
            alt = f"Draws in {plain[0]} and {plain[1]}: {of}"
        made.append(panel(draw, alt, subject.title(name)))
    return made


def draws_section(subject: Subject, choice: Choice) -> Section:
    """Marginals of the chosen coordinates and their pairs, the modes marked."""
    several = len(subject.results) > 1
    single = choice.indices[:COMPARED] if several else choice.indices
    pairs = list(combinations(single if several else choice.indices[:PAIRED], 2))
    first = next(iter(subject.results.values()))
    exact, key = _exact(subject, first), population_key(subject)
    behind = " Grey: exact draws." if exact is not None else ""
    marked = "" if any(len(result.modes) for result in subject.results.values()) else " There is no mode to mark."
    lead = [choice.reason] if choice.reason else []
    if several:
        lead.append("All samplers share the range of a coordinate, so a mode that one missed is an empty place.")
    lines = "Marginal densities, one line a population. Dotted: the modes, by their number in the mode table."
    dots = "Pairs of coordinates, one dot a draw (at most about 4,000). A cross is the densest draw of a mode."
    if not several and len(choice.indices) > PAIRED:
        dots += f" Pairs are those of the first {PAIRED} of them."
    ones = [_panels(subject, (i,), exact) for i in single]
    twos = tuple(svg for pair in pairs for svg in _panels(subject, pair, exact))
    flat = tuple(svg for row in ones for svg in row)
    if several:  # a figure for each coordinate, so that samplers stand in the same order in each
        plates = [Plate(f"{lines}{behind}{marked}", tuple(row), key) for row in ones]
    elif len(flat) + len(twos) <= ROW:
        both = f"{lines} {dots}" if twos else lines
        plates, twos = [Plate(f"{both}{behind}{marked}", flat + twos, key)], ()
    else:
        plates = [Plate(f"{lines}{behind}{marked}", flat, key)]
    plates += [Plate(f"{dots}{behind}", twos, key)] if twos else []
    return Section("draws", "Draws", tuple(lead), plates=tuple(plates))


def rank_counts(values: Array, bins: int) -> tuple[Array, Array]:
    """``(chains, bins)`` counts of each population's ranks among all draws, and the edges of the bins in (0, 1)."""
    from scipy.stats import rankdata

    ranks = (rankdata(values).reshape(values.shape) - 0.5) / values.size
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.stack([np.histogram(row, edges)[0] for row in ranks]).astype(np.float64), edges


def _ranks(axes: Axes, counts: Array, edges: Array, name: str) -> None:
    chains, bins = counts.shape
    even = counts.sum(1).mean() / bins
    band = 2 * np.sqrt((1 - 1 / bins) * (1 - 1 / chains) / even)
    axes.axhspan(max(0.0, 1 - band), 1 + band, color=LINE, alpha=0.16, linewidth=0)
    axes.axhline(1.0, color=LINE, linewidth=0.7)
    for k, row in enumerate(counts / even):
        axes.stairs(row, edges, color=POPULATIONS[k % len(POPULATIONS)], linewidth=1.2, baseline=None)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1.35 * (1 + band), 1.08 * float((counts / even).max())))
    axes.set_xlabel(f"rank of {name} (0 to 1)")
    axes.set_ylabel("draws / even share")
    _ticks(axes)


def ranks_section(subject: Subject, choice: Choice) -> Section:
    """Ranks of each population among all: even where populations agree."""
    several = len(subject.results) > 1
    panels, left = [], []
    for name, result in subject.results.items():
        if result.chains < 2 or result.draws < 10:
            left.append(f"{name}: ranks need 2 populations of 10 draws, got {result.chains} of {result.draws}.")
            continue
        indices = choice.indices
        if several:
            rhat = np.nan_to_num(result.convergence.rhat, nan=0.0)
            indices = (int(np.argmax(rhat)),)
        for i in indices:
            values = result.samples[..., i].detach().cpu().double().numpy()
            plain = coordinate_name(result, i)
            if not np.isfinite(values).all():
                left.append(f"{name}: {plain} has draws that are not finite, so no ranks.")
                continue
            counts, edges = rank_counts(values, int(np.clip(result.draws // 10, 5, 20)))
            alt = f"Ranks of {plain} in {result.chains} populations{f' of {name}' if several else ''}"
            panels.append(
                panel(partial(_ranks, counts=counts, edges=edges, name=label(plain)), alt, subject.title(name))
            )
    caption = (
        "Ranks of each population's draws among all draws. Where populations agree, every line stays near 1; in the grey "
        "band lie about 19 of 20 steps of independent draws. A slope means another place, a bow another width."
    )
    caption += " Of each sampler the coordinate with its highest R-hat." if several else ""
    plates = (Plate(caption, tuple(panels), population_key(subject)),) if panels else ()
    return Section("ranks", "Ranks over populations", tuple(left), plates=plates)
