r"""A support with bounds, seen without them: logarithms of distances to a bound, log-odds between two.

With x = T(y) coordinate by coordinate, a density :math:`\pi` of x is :math:`\pi(T(y)) \, |\det T'(y)|` in y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rdmc.rng import Streams
from rdmc.supports.support import Support, reach

__all__ = ["Box"]


@dataclass(frozen=True, eq=False)
class Box(Support):
    r"""The support :math:`\{x : a_j < x_j < b_j\}`, where any bound may be infinite.

    ==================  ==================================  =========================
    bounds              x_j                                 log of the derivative
    ==================  ==================================  =========================
    a_j and b_j         :math:`a + (b - a) \sigma(y)`       :math:`\log (b - a) \sigma(y) \sigma(-y)`
    a_j                 :math:`a + e^y`                     :math:`y`
    b_j                 :math:`b - e^{-y}`                  :math:`-y`
    none                :math:`y`                           :math:`0`
    ==================  ==================================  =========================

    Args:
        lower: ``(d,)`` the a_j, -inf where there is none.
        upper: ``(d,)`` the b_j, inf where there is none.

    Raises:
        ValueError: If the shapes disagree, or not every a_j is less than its b_j.

    Example:
        >>> box = Box(torch.tensor([0.0, -1.0]), torch.tensor([torch.inf, 1.0]))
        >>> box.forward(torch.tensor([[0.0, 0.0]]))
        tensor([[1., 0.]])
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.ndim != 1 or self.lower.shape != self.upper.shape:
            raise ValueError(
                "`lower` and `upper` must both have shape (d,), "
                f"got {tuple(self.lower.shape)} and {tuple(self.upper.shape)}"
            )
        if self.lower.device.type != "meta" and not bool((self.lower < self.upper).all()):
            raise ValueError(f"`lower` must be less than `upper`, got {self.lower.tolist()} and {self.upper.tolist()}")

    @property
    def kind(self) -> str:
        """``"box"`` if all bounds are finite, ``"bounds"`` if some are, ``"all"`` if none is."""
        low, high = self.low, self.high
        return "box" if bool((low & high).all()) else "bounds" if bool((low | high).any()) else "all"

    @property
    def bounded(self) -> bool:
        """Whether all bounds are finite."""
        return self.kind == "box"

    @property
    def low(self) -> Tensor:
        """``(d,)`` which coordinates have a lower bound."""
        return torch.isfinite(self.lower)

    @property
    def high(self) -> Tensor:
        """``(d,)`` which have an upper one."""
        return torch.isfinite(self.upper)

    def contains(self, x: Tensor) -> Tensor:
        """``(...)`` which of ``(..., d)`` points are inside."""
        return ((x > self.lower) & (x < self.upper)).all(-1)

    def forward(self, y: Tensor) -> Tensor:
        """``(..., d)`` points of the box for ``(..., d)`` real ones."""
        low, high = self.low, self.high
        a, b = self.lower.masked_fill(~low, 0.0), self.upper.masked_fill(~high, 0.0)
        away = torch.where(low, y, -y).clamp(max=reach(y.dtype)).exp()
        one = torch.where(low, a + away, b - away)
        return torch.where(low & high, a + (b - a) * torch.sigmoid(y), torch.where(low ^ high, one, y))

    def inverse(self, x: Tensor) -> Tensor:
        """``(..., d)`` real points for ``(..., d)`` points of the box."""
        low, high = self.low, self.high
        from_low, from_high = (x - self.lower).log(), (self.upper - x).log()
        one = torch.where(low, from_low, -from_high)
        return torch.where(low & high, from_low - from_high, torch.where(low ^ high, one, x))

    def log_det(self, y: Tensor) -> Tensor:
        """``(...)`` log |det T'(y)|."""
        return self._stretch(y)[0].sum(-1)

    def pulled(self, y: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log |det T'(y)|, and the ``(..., d)`` gradient in y of the density seen, for that of the density in x."""
        log_rate, own = self._stretch(y)
        return log_rate.sum(-1), grad * log_rate.exp() + own

    def _stretch(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., d)`` log derivative of each coordinate, and its own derivative."""
        low, high = self.low, self.high
        two, none = low & high, torch.zeros_like(y)
        width = torch.where(two, self.upper - self.lower, 1.0).log()
        sign = low.to(y.dtype) - high.to(y.dtype)
        log_rate = torch.where(two, width + logsigmoid(y) + logsigmoid(-y), torch.where(low ^ high, sign * y, none))
        return log_rate, torch.where(two, -torch.tanh(0.5 * y), sign.expand_as(y))

    def ends(self, y: Tensor) -> Tensor:
        """``(n, d)`` where ``(d,)`` y comes to if one bounded coordinate goes as far as it can, either way."""
        bounded = (self.low | self.high).nonzero()
        return torch.cat([y.expand(len(bounded), -1).scatter(1, bounded, end * reach(y.dtype)) for end in (-1.0, 1.0)])

    def beyond(self, y: Tensor) -> Tensor:
        """``(...)`` whether a distance from a bound is so large, or so small, that nothing can be computed."""
        return ((y.abs() > reach(y.dtype)) & (self.low ^ self.high)).any(-1)

    def scattered(self, count: int, rng: Streams) -> Tensor:
        """``(n, d)`` real points for uniform ones of the box, all of whose bounds must be finite; n at most ``count``.

        Raises:
            ValueError: If a bound is infinite.
        """
        if not self.bounded:
            raise ValueError("points are uniform between finite bounds; some of these are not")
        u = rng.uniform((max(1, count // rng.particles), rng.particles, len(self.lower)), particle_axis=1)
        tiny = torch.finfo(u.dtype).eps
        return torch.logit(u.flatten(0, 1).clamp(tiny, 1.0 - tiny))
