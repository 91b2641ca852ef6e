r"""A support with bounds, seen without them: logarithms of distances to a bound, log-odds between two.

With x = T(y) coordinate by coordinate, a density :math:`\pi` of x is :math:`\pi(T(y)) \, |\det T'(y)|` in y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rdmc.density import Density
from rdmc.rng import Streams

__all__ = ["Box"]

_REACH = 0.97  # of the logarithm of the largest number: farther from a bound nothing can be computed


@dataclass(frozen=True, eq=False)
class Box:
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
        >>> box = Box(torch.tensor([0.0, -1.0]), torch.tensor([math.inf, 1.0]))
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
        away = torch.where(low, y, -y).clamp(max=self.reach).exp()
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

    def _stretch(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., d)`` log derivative of each coordinate, and its own derivative."""
        low, high = self.low, self.high
        two, none = low & high, torch.zeros_like(y)
        width = torch.where(two, self.upper - self.lower, 1.0).log()
        sign = low.to(y.dtype) - high.to(y.dtype)
        log_rate = torch.where(two, width + logsigmoid(y) + logsigmoid(-y), torch.where(low ^ high, sign * y, none))
        return log_rate, torch.where(two, -torch.tanh(0.5 * y), sign.expand_as(y))

    @property
    def reach(self) -> float:
        """How far y can be from 0 if a bound is near."""
        return _REACH * math.log(torch.finfo(self.lower.dtype).max)

    def _beyond(self, y: Tensor) -> Tensor:
        """``(...)`` whether a distance from a bound is so large, or so small, that nothing can be computed."""
        return ((y.abs() > self.reach) & (self.low ^ self.high)).any(-1)

    def seen(self, density: Density) -> Density:
        """The density of y, counted with the one it is made of.

        Cost: that of the density, and ``O(d)`` a point.
        """

        def log_density(y: Tensor) -> Tensor:
            value = density.log_density(self.forward(y)) + self.log_det(y)
            return value.masked_fill(self._beyond(y), -torch.inf)

        def gradient(y: Tensor) -> tuple[Tensor, Tensor]:
            y = y.detach()
            value, grad = density.bare_value_and_grad(self.forward(y))
            log_rate, slope = self._stretch(y)
            value = (value + log_rate.sum(-1)).masked_fill(self._beyond(y), -torch.inf)
            return value, grad * log_rate.exp() + slope

        return replace(density, log_density=log_density, gradient=gradient)

    def scattered(self, count: int, rng: Streams) -> Tensor:
        """``(n, d)`` real points for uniform ones of the box, all of whose bounds must be finite; n at most ``count``.

        Raises:
            ValueError: If a bound is infinite.
        """
        if self.kind != "box":
            raise ValueError("points are uniform between finite bounds; some of these are not")
        u = rng.uniform((max(1, count // rng.particles), rng.particles, len(self.lower)), particle_axis=1)
        tiny = torch.finfo(u.dtype).eps
        return torch.logit(u.flatten(0, 1).clamp(tiny, 1.0 - tiny))
