"""Gradients from differences of values, where automatic differentiation gives none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdmc.typing import BatchedDensity

__all__ = ["Mended"]

_VALUES = 1 << 16  # density evaluations at a time


@dataclass(frozen=True, eq=False)
class Mended:
    r"""A density that has a gradient wherever its values have one.

    The derivative of log(p + q) is 0 x infinity where q has overflowed on its way to 0, as exp(-exp(x)) does, though the value is
    that of p alone. There, and only there, central differences stand in:

    .. math:: \partial_j f(x) \approx \frac{f(x + h e_j) - f(x - h e_j)}{2h},
        \qquad h = \varepsilon^{1/3} \max(1, |x| / \sqrt d).

    Law: none; for ascents, which decide nothing.
    Error: O(h^2). Cost: 2d density evaluations at every such point, none elsewhere.

    Args:
        f: The density.
    """

    f: BatchedDensity

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.f.dim

    def __call__(self, x: Tensor) -> Tensor:
        """``(M, d) -> (M,)``: log density."""
        return self.f(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(M, d) -> (M,), (M, d)``: log density and gradient; where values on either side are not finite either, as it came."""
        value, grad = self.f.value_and_grad(x)
        at = (torch.isfinite(value) & ~torch.isfinite(grad).all(-1)).nonzero()[:, 0]
        if len(at) == 0:
            return value, grad
        grad = grad.clone()
        for some in at.split(max(1, _VALUES // (2 * self.dim))):
            grad[some] = self._differences(x[some], grad[some])
        return value, grad

    def _differences(self, x: Tensor, grad: Tensor) -> Tensor:
        """``(n, d)`` gradients at ``(n, d)`` points, those given where differences are not finite either."""
        h = torch.finfo(x.dtype).eps ** (1 / 3) * (x.norm(dim=-1) / self.dim**0.5).clamp(min=1.0)[:, None]
        step = h[:, None] * torch.eye(self.dim, dtype=x.dtype, device=x.device)
        above, below = (self.f((x[:, None] + way * step).flatten(0, 1)).view(x.shape) for way in (1.0, -1.0))
        slope = (above - below) / (2.0 * h)
        return torch.where(torch.isfinite(slope).all(-1, keepdim=True), slope, grad)
