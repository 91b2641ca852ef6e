"""Symmetries of a density, found from its modes: what one mode sees of the others, an image of it sees of their images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdmc.linear import least_squares
from rdmc.locate.symmetry import Map, Symmetry
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity

__all__ = ["find_symmetry", "level", "seems_symmetric"]

_MOST_DIM = 24  # beyond, the d (d + 1) numbers of a map take longer to solve for than they save
_LEVEL = 1e-3  # nats by which the heights of images may differ, as found by ascents
_ALIKE = 0.02  # in log(1 + squared distance), by which what two modes see may differ
_CLEARLY = 3.0  # times as near the best match must be as the next
_STRAY = 0.05  # widths by which a mode may miss its image under a map
_FLAT = 1e-2  # widths below which modes do not spread in a direction
_PARTNERS = 12  # modes tried as the image of a mode
_PROMISING = 3.0  # nats by which values at images may differ, at half of the points, before a map is made exact
_PAIRS = 3  # of modes of the same height, that are no chance
_TIED = 0.2  # share of modes that look like another from the anchor, above which modes can't be told apart
_STEPS = 10  # of Gauss and Newton
_HOLDS = 1e-8  # difference of values at images, over 1 + the value, up to which it is rounding
_TOLD = 0.5  # mean share of modes at home, below which a group is of no use
_DECIDED = 8.0  # nats by which the cut tells a mode from its nearest image


def find_symmetry(
    f: BatchedDensity, modes: GaussianMixture, peak: Tensor, rng: Streams, known: Symmetry | None = None
) -> Symmetry | None:
    r"""The group of affine maps under which the density is the same, as far as the modes show it.

    Two modes of one height may be images of each other. If they are, the distances of all modes from the one, each in the mode's
    own widths, are those of their images from the other; so modes are matched by height and by distances, both ways, and the map
    follows by least squares. In directions in which modes do not spread it is the identity, or the reflection. Gauss and Newton's
    method then solves

    .. math:: f(A x_i + b) = f(x_i)

    for A and b at points :math:`x_i` about the modes; a map counts if it does so to the last digits there and at fresh points
    further out. Maps and their products make the group.

    Only float64 is looked at, in at most 24 dimensions, and groups of at most 5040 maps.

    Cost: 2 d (d + 1) density evaluations and some 6 to 20 d (d + 1) gradient evaluations for each of at most 12 promising pairs,
    nothing where no two modes have the same height and surroundings.

    Args:
        f: Log density in coordinates where modes have about unit width.
        modes: Gaussians at the modes.
        peak: ``(K,)`` log density there.
        rng: Random numbers.
        known: A group found before, which the result contains.

    Returns:
        The group, with the cut that tells the modes from their images best; None if there is none but the identity, or none that
        tells them.

    Source: ours.
    """
    d = modes.dim
    if modes.mean.dtype != torch.float64 or d > _MOST_DIM or modes.components < 2:
        return known
    first = _anchor(modes, peak)
    group, tried = known, 0
    equal = ((peak - peak[first]).abs() < _LEVEL).nonzero()[:, 0]
    for other in equal.tolist():
        if other == first or tried >= _PARTNERS or _reached(group, modes, first, other):
            continue
        for rough in _maps(modes, peak, first, other):
            tried += 1
            found = _polished(f, rough, modes, rng)
            if found is None:
                continue
            kept = [] if group is None else list(zip(group.matrix[1:], group.shift[1:], strict=True))
            larger = Symmetry.generated([*kept[:_PARTNERS], found], modes.mean[:1])
            group = group if larger is None else larger
            break
    return None if group is None else _cut(group, modes)


def seems_symmetric(modes: GaussianMixture, peak: Tensor) -> bool:
    """Whether several modes are exactly as high as others and can be told apart, so that more of them may show a symmetry."""
    if modes.mean.dtype != torch.float64 or modes.dim > _MOST_DIM:
        return False
    same = level(peak)
    seen = _seen(modes, _anchor(modes, peak))
    tied = (same & ((seen[:, None] - seen).abs().amax(-1) < _ALIKE / _CLEARLY)).any(0)
    return int(same.any(0).sum()) >= _PAIRS and float(tied.double().mean()) < _TIED


def level(peak: Tensor) -> Tensor:
    """``(K, K)`` which pairs, each once, are of the same height."""
    return torch.triu((peak[:, None] - peak).abs() < _LEVEL, 1)


def _anchor(modes: GaussianMixture, peak: Tensor) -> int:
    """The mode to see from: one of the class of equal heights that holds the most mass."""
    alike = (peak[:, None] - peak).abs() < _LEVEL
    mass = alike.to(peak) @ modes.log_weight.exp()
    return int((mass + 1e-9 * modes.log_weight).argmax())


def _reached(group: Symmetry | None, modes: GaussianMixture, first: int, other: int) -> bool:
    """Whether a map that is known takes the one mode to the other."""
    if group is None:
        return False
    return float((group.images(modes.mean[first][None])[:, 0] - modes.mean[other]).norm(dim=1).min()) < _STRAY


def _seen(modes: GaussianMixture, mode: int) -> Tensor:
    """``(K, 2)`` log(1 + squared distance) from the mode to each, in the widths of the mode and in those of each."""
    u = modes.mean - modes.mean[mode]
    own = (u @ modes.basis[mode]).square() / modes.variance[mode]
    theirs = torch.einsum("ki,kij->kj", u, modes.basis).square() / modes.variance
    return torch.stack([own.sum(1), theirs.sum(1)], 1).log1p()


def _maps(modes: GaussianMixture, peak: Tensor, first: int, other: int) -> list[Map]:
    """Maps, if any, that take the one mode to the other and its surroundings to the other's."""
    gap = (_seen(modes, first)[:, None] - _seen(modes, other)).abs().amax(-1)
    gap = torch.where((peak[:, None] - peak).abs() < _LEVEL, gap, torch.inf)
    near, at = gap.min(1)
    next_ = gap.scatter(1, at[:, None], torch.inf).amin(1)
    mutual = gap.argmin(0)[at] == torch.arange(len(at), device=at.device)
    i = ((near < _ALIKE) & mutual & (next_ > _CLEARLY * near)).nonzero()[:, 0]
    u, w = modes.mean[i] - modes.mean[first], modes.mean[at[i]] - modes.mean[other]
    for _ in range(_STEPS):
        if len(u) < 2:
            return []
        matrix = least_squares(u, w, rcond=1e-3)
        miss = (u @ matrix - w).norm(dim=1)
        if float(miss.max()) < _STRAY:
            break
        keep = miss <= torch.clamp(miss.median(), min=_STRAY)
        if bool(keep.all()):
            return []
        u, w = u[keep], w[keep]
    else:
        return []
    return [(a, modes.mean[other] - a @ modes.mean[first]) for a in _completed(matrix.T, u)]


def _completed(matrix: Tensor, u: Tensor) -> list[Tensor]:
    """The matrix, given where ``(n, d)`` vectors spread; elsewhere the identity or the reflection."""
    _, size, axes = torch.linalg.svd(u, full_matrices=True)
    rank = int((size > _FLAT).sum())
    if rank == len(axes):
        return [matrix]
    span, rest = axes[:rank], axes[rank:]
    image, _ = torch.linalg.qr(matrix @ span.T)
    free = rest.T @ rest
    across = free - image @ (image.T @ free)
    return [matrix @ span.T @ span + sign * across for sign in (1.0, -1.0)]


def _polished(f: BatchedDensity, rough: Map, modes: GaussianMixture, rng: Streams) -> Map | None:
    """The map by Gauss and Newton, or None if the density is not the same under it."""
    matrix, shift = rough
    d = len(shift)
    draws = -(-2 * d * (d + 1) // rng.particles)
    x = modes.draw(rng, (draws,))[0].flatten(0, 1)
    value = f(x[: rng.particles])
    if not float((f(x[: rng.particles] @ matrix.T + shift) - value).abs().median()) < _PROMISING:
        return None
    value = torch.cat([value, f(x[rng.particles :])])
    best: tuple[float, Map] = (math.inf, rough)
    for _ in range(_STEPS):
        there, slope = f.value_and_grad(x @ matrix.T + shift)
        miss = value - there
        worst = float((miss.abs() / (1.0 + value.abs())).max())
        if not (worst < 0.5 * best[0] and bool(torch.isfinite(slope).all())):
            break
        best = worst, (matrix, shift)
        rows = torch.cat([(slope[:, :, None] * x[:, None, :]).flatten(1), slope], 1)
        change = least_squares(rows, miss[:, None], rcond=1e-12)[:, 0]
        matrix, shift = matrix + change[: d * d].view(d, d), shift + change[d * d :]
    worst, (matrix, shift) = best
    if not worst < _HOLDS:
        return None
    x = modes.widened(2.0).draw(rng, (draws,))[0].flatten(0, 1)
    value, there = f(x), f(x @ matrix.T + shift)
    finite = torch.isfinite(value)
    same = torch.where(finite, (value - there).abs() < 100.0 * _HOLDS * (1.0 + value.abs()), value == there)
    return (matrix, shift) if bool(same.all()) else None


def _cut(group: Symmetry, modes: GaussianMixture) -> Symmetry | None:
    """The group with the direction that tells the modes from their images best, of those from the centre of an orbit to a mode.

    None if it tells too few: where most modes lie on mirrors, as those of a product of equal wells, little is gained by folding.
    """
    best: tuple[float, Symmetry] | None = None
    for k in modes.log_weight.argsort(descending=True)[:_PARTNERS].tolist():
        image = group.images(modes.mean[k][None])[:, 0]
        way = modes.mean[k] - image.mean(0)
        ahead = (modes.mean[k] - image) @ way
        gap = ahead[(image - modes.mean[k]).norm(dim=1) > _STRAY]
        if len(gap) == 0 or not float(gap.min()) > 0.0:
            continue
        cut = Symmetry(group.matrix, group.shift, way * (_DECIDED / gap.min()))
        home = cut.moved(modes.mean, cut.home(modes.mean))
        share = float((modes.log_weight.exp() * cut.log_share(home)[0].exp()).sum())
        if best is None or share > best[0]:
            best = share, cut
    return None if best is None or best[0] < _TOLD else best[1]
