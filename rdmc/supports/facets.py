"""Whether the support of a density has flat faces, and which: found from where its values are -inf."""

from __future__ import annotations

import torch
from torch import Tensor

from rdmc.coordinates import Affine
from rdmc.rng import Streams
from rdmc.supports.bounds import BOTTOMLESS, CLOSE, falls
from rdmc.supports.polyhedron import Polyhedron
from rdmc.typing import BatchedDensity

__all__ = ["find_polyhedron"]

_DIMENSIONS = 64  # in which faces are looked for at most
_FAR = 2.0**40  # how far a face is looked for, in units of what is known of each coordinate's scale
_HALVINGS = 110  # from there to the last digit of a distance of 1e-6
_NEAR_HALVINGS = 60
_APART = (
    1e-3,
    1e-6,
)  # of a distance: how far from each other the points are that tell a face; less where others are near
_FLAT = 1e-9  # of a distance: how far off a plane a point of a face may be
_SHY = 1e-6  # of a distance: how near to a face it is looked for
_BEYOND = 1e3  # and how far
_WAYS = 64  # for each particle of the streams
_ROUND = 1e-9  # a ratio of coefficients that is so near to an integer is one
_DUST = 1e-13  # relative size of what rounding leaves of a zero
_RELATED = 1e-7  # size from which coefficients of a relation between faces are not rounding
_CURVED = 4  # places in a row that belong to no flat face, after which there are none


def find_polyhedron(f: BatchedDensity, x: Tensor, rng: Streams) -> Polyhedron | None:
    """The support if it is the affine image of half-lines, simplices and lines, or None if it is all of space, or another set.

    From the middle of some points density is asked along many ways, at where the faces known so far let one expect it; where it is
    -inf there, a new face is met on the way, found by bisection, and its plane by d ways near by. Then density has to be -inf
    beyond the faces, from 1e-6 to 1000 times the distance to them.

    A face so small or so far that no way meets it, or only near its edges, may be left out: then the support is a part of what is
    found. Where there are faces only because numbers end, as the exponential of a coordinate does, there are none.

    Law: none. Cost: those of ``x``; about 200 + 70 d density evaluations for each face, twice that where edges are near; 192 for
    each particle of the streams. There are 2d faces at most, so in more than 64 dimensions none is looked for. Source: ours.

    Args:
        f: Log density, -inf outside the support.
        x: ``(M, d)`` points in double precision, of which one at least should be in the support.
        rng: Streams of which ways are drawn, 64 for each particle.
    """
    # in one dimension there are boxes alone, and in single precision no plane can be told
    if not 1 < x.shape[1] <= _DIMENSIONS or x.dtype != torch.float64:
        return None
    value = f(x)
    inside = torch.isfinite(value)
    if not bool(inside.any()):
        return None
    highest, middle = x[torch.where(inside, value, -torch.inf).argmax()], x[inside].mean(0)
    # the middle of some points of a convex set is inside, and farther from its faces
    origin = middle if bool(torch.isfinite(f(middle[None]))) else highest
    rays = _Rays(f, origin, _scale(f, origin))
    normals = _faces(rays, rng)
    if normals is None or len(normals) == 0:
        return None
    support = _arranged(rays, normals)
    return support if support is not None and falls(f, support, highest) else None


class _Rays:
    """Ways from a point in the support, in units of each coordinate's scale."""

    def __init__(self, f: BatchedDensity, origin: Tensor, scale: Tensor) -> None:
        self.f, self.origin, self.scale = f, origin, scale

    def value(self, way: Tensor, distance: Tensor) -> Tensor:
        """``(n,)`` log densities at distances ``(n,)`` along ``(n, d)`` ways."""
        return self.f(self.origin + self.scale * way * distance[:, None])

    def meets(self, way: Tensor, distance: Tensor) -> Tensor:
        """``(n,)`` whether there is density."""
        return self.value(way, distance) > -torch.inf

    def exits(self, way: Tensor, near: Tensor, far: Tensor, halvings: int) -> Tensor:
        """``(n,)`` where density ends, between distances at which there is some and none."""
        for _ in range(halvings):
            middle = 0.5 * (near + far)
            met = self.meets(way, middle)
            near, far = torch.where(met, middle, near), torch.where(met, far, middle)
        return near


def _scale(f: BatchedDensity, origin: Tensor) -> Tensor:
    """``(d,)`` the nearest distance along each axis at which there is no density; where there is none, that from 0, or 1."""
    d = len(origin)
    rays = _Rays(f, origin, torch.ones_like(origin))
    way = torch.eye(d, dtype=origin.dtype, device=origin.device)
    way = torch.cat([way, -way])
    far = origin.new_full((2 * d,), _FAR)
    ended = ~rays.meets(way, far)
    exit_ = torch.where(ended, rays.exits(way, torch.zeros_like(far), far, _HALVINGS), torch.inf)
    nearest = exit_.view(2, d).amin(0)
    return torch.where(torch.isfinite(nearest) & (nearest > 0.0), nearest, origin.abs().clamp(min=1.0))


def _faces(rays: _Rays, rng: Streams) -> Tensor | None:
    """``(m, d)`` normals n, so that the support is where ``n . w < 1`` for all; None if it is no such set, or has more faces."""
    d = len(rays.origin)
    way = _ways(d, rng)
    normals, curved = way.new_zeros(0, d), 0
    while len(normals) <= 2 * d and curved < _CURVED:
        lost = _lost(rays, normals, way)
        if lost is None:
            return normals if _holds(rays, normals, way, rng) else None
        one = way[lost : lost + 1]
        distance = rays.exits(one, way.new_zeros(1), _expected(normals, one), _HALVINGS)
        if not float(rays.value(one, CLOSE * distance)) > BOTTOMLESS:
            return None
        normal = _plane(rays, one[0], distance[0])
        if normal is None:  # an edge is near, or nothing is flat
            way = torch.cat([way[:lost], way[lost + 1 :]])
            curved += 1
            continue
        normals, curved = torch.cat([normals, normal[None]]), 0
    return None


def _lost(rays: _Rays, normals: Tensor, way: Tensor) -> int | None:
    """The first way on which density ends before the faces that are known, if there is one."""
    first, few = 0, min(len(way), 4 * way.shape[1])
    for some in way.split([few, len(way) - few]):
        gone = (~rays.meets(some, (1.0 - _SHY) * _expected(normals, some))).nonzero()
        if len(gone):
            return first + int(gone[0, 0])
        first += len(some)
    return None


def _ways(dim: int, rng: Streams) -> Tensor:
    """``(n, d)`` the axes, and ways in all directions."""
    eye = torch.eye(dim, dtype=rng.dtype, device=rng.device)
    z = rng.normal((_WAYS, rng.particles, dim)).flatten(0, 1)
    return torch.cat([eye, -eye, z / z.norm(dim=-1, keepdim=True)])


def _expected(normals: Tensor, way: Tensor) -> Tensor:
    """``(n,)`` the distances to the nearest of the faces along ways, or as far as is looked."""
    rate = (way @ normals.T).clamp(min=1.0 / _FAR)
    return torch.cat([rate, torch.full_like(way[:, :1], 1.0 / _FAR)], -1).amax(-1).reciprocal()


def _holds(rays: _Rays, normals: Tensor, way: Tensor, rng: Streams) -> bool:
    """Whether there is density before the faces that ways meet, and none beyond."""
    expected = _expected(normals, way)
    before, u = rng.uniform((2, -(-len(way) // rng.particles), rng.particles)).flatten(1)[:, : len(way)]
    further = _SHY * (_BEYOND / _SHY) ** u
    further[::2] = 0.0
    inside = rays.meets(way, (expected * before).minimum(_BEYOND * before))
    outside = rays.value(way, expected * (1.0 + _SHY + further)) == -torch.inf
    return bool((inside & (outside | (expected > 0.5 * _FAR))).all())


def _plane(rays: _Rays, way: Tensor, distance: Tensor) -> Tensor | None:
    """``(d,)`` the n with ``n . w = 1`` on the face that is met, or None if no plane has all the points of it that are tried."""
    d = len(way)
    across = torch.linalg.qr(torch.cat([way[:, None], torch.eye(d, dtype=way.dtype, device=way.device)], 1)).Q[:, 1:d]
    beside = torch.cat(
        [across, -across.mean(1, keepdim=True), across[:, :1] * 0.0], 1
    ).T  # the last but one is the test
    near, far = (distance.expand(len(beside)) * factor for factor in (0.5, 2.0))
    for apart in _APART:
        near_by = way + apart * beside
        if not bool((rays.meets(near_by, near) & ~rays.meets(near_by, far)).all()):
            continue
        point = near_by * rays.exits(near_by, near, far, _NEAR_HALVINGS)[:, None]
        told = torch.cat([point[: d - 1], point[-1:]])
        normal = _rounded(torch.linalg.solve(told, torch.ones_like(way)), rays.scale, point[-1])
        if bool(((point @ normal - 1.0).abs() < _FLAT).all()):
            return normal
    return None


def _rounded(normal: Tensor, scale: Tensor, point: Tensor) -> Tensor:
    """A normal whose coefficients in the user's units are multiples of the least where they nearly are: bounds are so written."""
    normal = torch.where(normal.abs() < _ROUND * normal.abs().max(), 0.0, normal)
    users = normal / scale
    ratio = users / users.abs()[users != 0.0].min()
    ratio = torch.where((ratio - ratio.round()).abs() < _ROUND * ratio.abs(), ratio.round(), ratio)
    return ratio * scale / (ratio * scale * point).sum()


def _arranged(rays: _Rays, normals: Tensor) -> Polyhedron | None:
    """The product of half-lines, simplices and lines that has these faces, or None if no such product has."""
    length = normals.norm(dim=-1)
    unit = normals / length[:, None]
    left, size, right = torch.linalg.svd(unit)
    rank = int((size > _RELATED).sum())
    relations = left[:, rank:] @ left[:, rank:].T  # onto the ways in which faces depend on each other
    related = relations.abs() > _RELATED
    rows, sizes, alone, seen = [], [], [], set[int]()
    for face in range(len(normals)):
        if face in seen:
            continue
        group = _joined(related, face)
        seen |= set(group)
        if not bool(related[face, face]):
            alone.append(-normals[face])
            continue
        share = relations[group][:, group].diagonal().sqrt() / length[group]
        if not _closes(relations[group][:, group], normals[group], share):
            return None
        share = share / share.sum()
        rows += [-share[i] * normals[k] for i, k in enumerate(group[:-1])]
        sizes.append((len(group) - 1, share[:-1]))
    free = _complement(right[rank:])
    if len(alone) + len(rows) + len(free) != normals.shape[1]:  # faces so nearly alike that they are not told apart
        return None
    eye = torch.eye(normals.shape[1], dtype=normals.dtype, device=normals.device)
    to_z = torch.stack([*alone, *rows, *(eye[j] for j in free)])
    at_origin = torch.cat([normals.new_ones(len(alone)), *(share for _, share in sizes), normals.new_zeros(len(free))])
    factor = rays.scale[:, None] * torch.linalg.inv(to_z)
    size = factor.abs().amax(1)
    factor = torch.where(factor.abs() < _DUST * size[:, None], 0.0, factor)
    centre = rays.origin - factor @ at_origin
    centre = torch.where(centre.abs() < _DUST * size, 0.0, centre)
    return Polyhedron(Affine(centre, factor), len(alone), tuple(k for k, _ in sizes))


def _joined(related: Tensor, face: int) -> list[int]:
    """All faces that depend on one, and on those that do."""
    group = related[face].clone()
    group[face] = True
    while bool((more := related[group].any(0) & ~group).any()):
        group |= more
    return [int(k) for k in group.nonzero()[:, 0]]


def _closes(relations: Tensor, normals: Tensor, share: Tensor) -> bool:
    """Whether normals have one relation, with positive coefficients: then k + 1 of them close a simplex of k dimensions."""
    one = abs(float(relations.trace()) - 1.0) < _RELATED
    balanced = (share @ normals).abs().max() < _RELATED * (share[:, None] * normals.abs()).max()
    return one and bool(balanced)


def _complement(basis: Tensor) -> list[int]:
    """Axes that span, with all that is orthogonal to ``(k, d)`` orthonormal rows, the whole space."""
    if len(basis) == 0:
        return []
    from scipy.linalg import qr

    return sorted(int(j) for j in qr(basis.cpu().numpy(), mode="r", pivoting=True)[1][: len(basis)])
