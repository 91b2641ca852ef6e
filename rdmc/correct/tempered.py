r"""The path from a reference g to the target: :math:`g^{1-\beta} \pi^\beta`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rdmc.correct.reference import Law
from rdmc.kernels.base import State
from rdmc.typing import BatchedDensity

__all__ = ["Tempered"]


@dataclass(frozen=True, eq=False)
class Tempered:
    r"""One law of the path, :math:`\log f = \beta \log \pi + (1 - \beta) \log g`.

    Shapes: points are ``(..., d)``. Cost: that of the target; g costs no evaluation.

    Args:
        target: log pi.
        law: g.
        beta: In (0, 1].
    """

    target: BatchedDensity
    law: Law
    beta: float

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.target.dim

    def __call__(self, x: Tensor) -> Tensor:
        """Log density, up to a constant."""
        value = self.target(x)
        return value if self.beta == 1.0 else self.beta * value + (1.0 - self.beta) * self.law.log_prob(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and its gradient: one gradient evaluation of the target."""
        state = self.state(x, *self.target.value_and_grad(x))
        return state.value, state.grad

    def state(self, x: Tensor, value: Tensor, grad: Tensor) -> State:
        """A kernel's state from log pi and its gradient, at no evaluation."""
        if self.beta == 1.0:
            return State(x, value, grad)
        base, slope = self.law.value_and_grad(x)
        b = self.beta
        return State(x, b * value + (1.0 - b) * base, slope.mul_(1.0 - b).add_(grad, alpha=b))

    def target_part(self, state: State) -> tuple[Tensor, Tensor]:
        """Log pi and its gradient from a kernel's state, at no evaluation."""
        if self.beta == 1.0:
            return state.value, state.grad
        base, slope = self.law.value_and_grad(state.x)
        b = self.beta
        return (state.value - (1.0 - b) * base) / b, (state.grad - (1.0 - b) * slope) / b
