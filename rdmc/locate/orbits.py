"""Modes of a symmetric density: one of each orbit, or all images."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.linear import spectrum
from rdmc.locate.symmetry import Symmetry
from rdmc.mixture import GaussianMixture

__all__ = ["Modes", "all_images", "one_of_each"]

Modes = tuple[GaussianMixture, Tensor, Tensor]
"""Gaussians at K modes, the ``(K,)`` log density at each, and the ``(K,)`` ascents that ended there."""

_APART = 0.1  # widths per square root of the dimension, below which two modes are one


def one_of_each(found: Modes, symmetry: Symmetry) -> Modes:
    """The image with the largest share of every mode, the highest of those that coincide; hits of all count for it."""
    modes, peak, hits = found
    g = symmetry.home(modes.mean)
    mean = symmetry.moved(modes.mean, g)
    variance, basis = _turned(modes, symmetry.matrix[g])
    own = torch.zeros(0, dtype=torch.int64)
    count: list[int] = []
    for k in peak.argsort(descending=True).tolist():
        distance = _distance(mean[k] - mean[own], basis[own], variance[own])
        if len(own) and float(distance.min()) < _APART:
            count[int(distance.argmin())] += int(hits[k])
        else:
            own, count = torch.cat([own, torch.tensor([k])]), [*count, int(hits[k])]
    mixture = GaussianMixture(modes.log_weight[own], mean[own], basis[own], variance[own])
    return mixture, peak[own], torch.tensor(count)


def all_images(found: Modes, symmetry: Symmetry, most: int, least: float = 0.0) -> Modes:
    """Every image of every mode whose share is at least ``least``, the heaviest ``most``; images that coincide are one."""
    modes, peak, hits = found
    parts = []
    for k in range(modes.components):
        image = symmetry.images(modes.mean[k][None])[:, 0]
        likely = (symmetry.log_share(image)[0].exp() >= least).nonzero()[:, 0]
        one = GaussianMixture(
            modes.log_weight[:1], modes.mean[k : k + 1], modes.basis[k : k + 1], modes.variance[k : k + 1]
        )
        variance, basis = _turned(one, symmetry.matrix[likely])
        image = image[likely]
        own: list[int] = []
        for g in range(len(likely)):
            near = _distance(image[g] - image[own], basis[own], variance[own])
            if not own or float(near.min()) >= _APART:
                own.append(g)
            if len(own) >= most:
                break
        n, count = len(own), (hits[k] // max(1, len(own))).clamp(min=1)
        parts.append(
            (modes.log_weight[k].expand(n), image[own], basis[own], variance[own], peak[k].expand(n), count.expand(n))
        )
    log_weight, mean, basis, variance, height, count = (torch.cat(part) for part in zip(*parts, strict=True))
    keep = log_weight.argsort(descending=True, stable=True)[:most]
    mixture = GaussianMixture(log_weight[keep], mean[keep], basis[keep], variance[keep])
    return mixture, height[keep], count[keep.cpu()]


def _turned(modes: GaussianMixture, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Variances and axes of the images of Gaussians under ``(n, d, d)`` matrices."""
    root = matrix @ (modes.basis * modes.variance.sqrt()[:, None, :])
    return spectrum(root @ root.transpose(1, 2))


def _distance(u: Tensor, basis: Tensor, variance: Tensor) -> Tensor:
    """``(n,)`` lengths of ``(n, d)`` vectors in the widths of as many modes, per square root of the dimension."""
    return (torch.einsum("ni,nij->nj", u, basis).square() / variance).mean(1).sqrt()
