r"""Bijections between the real coordinates that a sampler sees and the constrained values that a model is written in.

With y = T(x), a density :math:`\pi` of y is :math:`\pi(T(x)) \, |\det T'(x)|` in x. Vectors and matrices are taken here on a
logarithmic scale throughout, so that values, inverses and determinants keep their digits where a probability or a diagonal
entry is 1e-300; elementwise constraints use what torch registers in ``biject_to``.

Where the values lie on a surface (simplex, correlation factors), the determinant is with respect to the coordinates in which
the density of the law is written in the books and in torch: all probabilities but the last, all entries below the diagonal.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint
from torch.nn.functional import pad

from rdmc.parameters.constraints import NAMED

__all__ = [
    "Bijection",
    "CorrelationCholesky",
    "Elementwise",
    "LowerCholesky",
    "Ordered",
    "PositiveOrdered",
    "Simplex",
    "bijection_of",
]

Shape = tuple[int, ...]


class Bijection(Protocol):
    """A map from real coordinates x onto constrained values y, batched over leading axes."""

    @property
    def event_dim(self) -> int:
        """How many trailing axes of y make one event; axes before them are independent."""
        ...

    def unconstrained(self, event: Shape) -> Shape:
        """Shape of x for an event of y of the given shape.

        Raises:
            ValueError: If no event has this shape.
        """
        ...

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values y and the log determinant of each event."""
        ...

    def inverse(self, y: Tensor) -> Tensor:
        """Coordinates x with ``forward(x)[0] == y``."""
        ...


@dataclass(frozen=True, eq=False)
class Elementwise:
    """What torch registers for a constraint on single numbers: real, positive, greater_than, less_than, interval.

    Bounds may be tensors that broadcast against y; they follow the dtype and the device of x. A value that rounding puts on a bound
    is moved to the next number inside it, so that distributions, which refuse their edges, take every value.
    """

    constraint: Constraint
    event_dim: int = 0

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        return event

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        transform = biject_to(_beside(self.constraint, x))
        y = transform(x)
        return _inside(self.constraint, y), transform.log_abs_det_jacobian(x, y)

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        return biject_to(_beside(self.constraint, y)).inv(y)


def _beside(constraint: Constraint, x: Tensor) -> Constraint:
    """The constraint with bounds that are tensors of the dtype and device of ``x``."""
    bounds = {name: value for name, value in vars(constraint).items() if isinstance(value, Tensor)}
    if not bounds:
        return constraint
    moved = copy.copy(constraint)
    vars(moved).update({name: value.to(x) for name, value in bounds.items()})
    return moved


def _inside(constraint: Constraint, y: Tensor) -> Tensor:
    """The values y, off the bounds by one unit of the last place, and off 0 by the least number that has an inverse."""
    for name, sign in (("lower_bound", 1.0), ("upper_bound", -1.0)):
        bound = getattr(constraint, name, None)
        if bound is None:
            continue
        edge = sign * (bound.to(y) if isinstance(bound, Tensor) else torch.full_like(y, bound))
        edge = torch.maximum(torch.nextafter(edge, torch.full_like(edge, torch.inf)), edge + torch.finfo(y.dtype).tiny)
        y = sign * torch.maximum(sign * y, edge)
    return y


def _exp(x: Tensor) -> Tensor:
    """``exp(x)``, positive also where it underflows: factors with a 0 on the diagonal are refused by distributions."""
    return x.exp().clamp(min=torch.finfo(x.dtype).tiny)


@dataclass(frozen=True)
class Simplex:
    r"""K positive numbers with sum 1: K - 1 isometric log-ratios.

    .. math:: y = \mathrm{softmax}(V x), \qquad \log |\det| = \sum_{k \le K} \log y_k + \tfrac12 \log K

    with respect to :math:`y_1, \dots, y_{K-1}`; the columns of V are an orthonormal basis of the vectors of sum 0 (Helmert's). Any
    renumbering of y is a rotation or reflection of x, so a density in which labels are exchangeable is symmetric in x too, which
    breaking a stick would hide.

    Source: Egozcue et al. (2003), Isometric logratio transformations, Math. Geol. 35(3), 279-300.
    """

    event_dim: int = 1

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        return (event[0] - 1,)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        log_y = (x @ self._basis(x, x.shape[-1] + 1).T).log_softmax(-1)
        return _exp(log_y), log_y.sum(-1) + 0.5 * math.log(x.shape[-1] + 1)

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        return y.log() @ self._basis(y, y.shape[-1])

    def _basis(self, like: Tensor, k: int) -> Tensor:
        """``(K, K - 1)``: column j has j + 1 equal entries, minus their sum below, and 0."""
        j = torch.arange(1, k, dtype=like.dtype, device=like.device)
        above = torch.triu(torch.ones(k, k - 1, dtype=like.dtype, device=like.device))
        below = torch.diag_embed(-j, offset=-1)[:, : k - 1]
        return (above + below) / (j * (j + 1.0)).sqrt()


@dataclass(frozen=True)
class Ordered:
    r"""Ascending vectors: :math:`y_1 = x_1`, :math:`y_k = y_{k-1} + e^{x_k}`, with :math:`\log |\det| = \sum_{k>1} x_k`."""

    event_dim: int = 1

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        return event

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1), x[..., 1:].sum(-1)

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], -1)


@dataclass(frozen=True)
class PositiveOrdered:
    r"""Ascending positive vectors: :math:`y_k = \sum_{j \le k} e^{x_j}`, with :math:`\log |\det| = \sum_k x_k`."""

    event_dim: int = 1

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        return event

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _exp(x).cumsum(-1), x.sum(-1)

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        return torch.cat([y[..., :1], y.diff(dim=-1)], -1).log()


@dataclass(frozen=True)
class LowerCholesky:
    r"""Lower triangular matrices with positive diagonal: n(n+1)/2 coordinates, row by row.

    :math:`L_{ij} = x_{ij}` below the diagonal and :math:`L_{ii} = e^{x_{ii}}` on it, so :math:`\log |\det| = \sum_i x_{ii}`.
    """

    event_dim: int = 2

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        n = _side(event)
        return (n * (n + 1) // 2,)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        n = math.isqrt(2 * x.shape[-1])
        lower = _triangle(x, n, 0)
        log_diagonal = lower.diagonal(dim1=-2, dim2=-1)
        return lower.tril(-1) + torch.diag_embed(_exp(log_diagonal)), log_diagonal.sum(-1)

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        lower = y.tril(-1) + torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).log())
        i, j = torch.tril_indices(y.shape[-1], y.shape[-1], device=y.device)
        return lower[..., i, j]


@dataclass(frozen=True)
class CorrelationCholesky:
    r"""Cholesky factors of correlation matrices: n(n-1)/2 coordinates, row by row.

    .. math:: L_{ij} = \tanh(x_{ij}) \prod_{k<j} \mathrm{sech}(x_{ik}) \; (j < i), \qquad
              L_{ii} = \prod_{k<i} \mathrm{sech}(x_{ik})

    .. math:: \log |\det| = \sum_{j<i} \Big( 2 \log \mathrm{sech}\, x_{ij} + \sum_{k<j} \log \mathrm{sech}\, x_{ik} \Big)

    with respect to the entries of L below the diagonal, as in ``torch.distributions.LKJCholesky``.

    Source: Lewandowski, Kurowicka, Joe (2009), Generating random correlation matrices based on vines and extended onion
    method, Journal of Multivariate Analysis 100; the same coordinates as torch's ``CorrCholeskyTransform``.
    """

    event_dim: int = 2

    def unconstrained(self, event: Shape) -> Shape:  # noqa: D102
        n = _side(event)
        return (n * (n - 1) // 2,)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        n = (1 + math.isqrt(1 + 8 * x.shape[-1])) // 2
        entries = _triangle(x, n, -1)
        log_sech = math.log(2.0) - torch.logaddexp(entries, -entries)
        log_left = pad(log_sech[..., :-1].cumsum(-1), (1, 0))  # subtracting the last term would cancel
        eye = torch.eye(n, dtype=x.dtype, device=x.device)
        return (entries.tanh() + eye) * _exp(log_left), (2.0 * log_sech + log_left).tril(-1).sum((-2, -1))

    def inverse(self, y: Tensor) -> Tensor:  # noqa: D102
        left = y.square().flip(-1).cumsum(-1).flip(-1)
        i, j = torch.tril_indices(y.shape[-1], y.shape[-1], -1, device=y.device)
        return torch.asinh(y[..., i, j] / left[..., i, j + 1].sqrt())


def _side(event: Shape) -> int:
    if event[0] != event[1]:
        raise ValueError(f"a square matrix in the last two axes, got {event}")
    return event[0]


def _triangle(x: Tensor, n: int, diagonal: int) -> Tensor:
    """``(..., n, n)`` with x in the lower triangle row by row, from the given diagonal down, and zeros elsewhere."""
    i = torch.arange(n, device=x.device)[:, None]
    j = torch.arange(n, device=x.device)
    before = i * (i + 1 + 2 * diagonal) // 2
    position = torch.where(j <= i + diagonal, before + j, x.shape[-1])
    return pad(x, (0, 1))[..., position]


_OWN: dict[type[Constraint], Bijection] = {
    type(NAMED["simplex"]): Simplex(),
    type(NAMED["ordered"]): Ordered(),
    type(NAMED["positive_ordered"]): PositiveOrdered(),
    type(NAMED["lower_cholesky"]): LowerCholesky(),
    type(NAMED["corr_cholesky"]): CorrelationCholesky(),
}


def bijection_of(constraint: Constraint) -> Bijection:
    """The bijection of a constraint.

    Raises:
        ValueError: If there is none: the constraint is discrete, or not one that this package or torch can map.
    """
    own = _OWN.get(type(constraint))
    if own is not None:
        return own
    try:
        transform = biject_to(constraint)
    except NotImplementedError:
        transform = None
    if transform is None or transform.domain.event_dim or transform.codomain.event_dim:
        raise ValueError(
            f"`constraint` must have a bijection from the reals: {', '.join(NAMED)}, greater_than, less_than, interval or "
            f"what `torch.distributions.biject_to` has for single numbers; got {constraint!r}"
            + ("; write a covariance by its factor, 'lower_cholesky'" if "Definite" in repr(constraint) else "")
        )
    return Elementwise(constraint)
