r"""The network: a preconditioned multilayer perceptron that says E[x_0 | x_t] for any noise level.

.. math:: D(x, \sigma) = c_{skip}\, x + c_{out}\, F(c_{in}\, x,\, c_{noise}), \qquad
          c_{skip} = \frac{1}{1 + \sigma^2}, \quad c_{out} = \frac{\sigma}{\sqrt{1 + \sigma^2}}, \quad
          c_{in} = \frac{1}{\sqrt{1 + \sigma^2}}, \quad c_{noise} = \tfrac14 \log \sigma

These are the coefficients of Karras et al. (2022, arXiv:2206.00364, table 1) for data of unit variance, which whitened
draws are. F = 0 is the denoiser of N(0, I): F starts there, so what is learnt is the departure from a Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rdmc.inner.base import require_count

__all__ = ["Architecture", "DenoisingNetwork", "inverse_gain", "seeded"]


def seeded(seed: int, key: int, device: torch.device) -> torch.Generator:
    """A generator of its own for one purpose (``key``) of a seed; no global generator is read or written."""
    return torch.Generator(device=device).manual_seed((1_000_003 * (seed + 1) + key) % 2**63)


def inverse_gain(sigma: Tensor) -> Tensor:
    """``(B,)`` 1 / c_out^2 = (1 + sigma^2) / sigma^2: what a squared error of D is multiplied by to be one of F."""
    return 1.0 + sigma.square().reciprocal()


class DenoisingNetwork(nn.Module):
    """The denoiser D in whitened coordinates.

    F has residual layers with SiLU between them, and random Fourier features of the noise level. It computes in float32
    whatever the type of x; the sum D is made in the type of x.

    Shapes: ``x`` is ``(B, d)``, ``sigma`` is ``(B,)``; D is ``(B, d)``.

    Args:
        dim: Dimension d.
        width: Units of a hidden layer.
        depth: Hidden layers after the first.
        frequencies: Fourier features of the noise level, each a cosine and a sine.
        generator: Source of the first weights.
    """

    frequency: Tensor

    def __init__(self, dim: int, width: int, depth: int, frequencies: int, generator: torch.Generator) -> None:
        super().__init__()
        device = generator.device

        def linear(inputs: int, outputs: int) -> nn.Linear:
            # torch's own first weights, but from a generator of our own
            layer = nn.utils.skip_init(nn.Linear, inputs, outputs, device=device, dtype=torch.float32)
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5.0), generator=generator)
            nn.init.uniform_(layer.bias, -(inputs**-0.5), inputs**-0.5, generator=generator)
            return layer

        self.enter = linear(dim, width)
        self.time = linear(2 * frequencies, width)
        self.hidden = nn.ModuleList([linear(width, width) for _ in range(depth)])
        self.leave = linear(width, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        frequency = torch.randn(frequencies, generator=generator, device=device, dtype=torch.float32)
        self.register_buffer("frequency", frequency)

    def raw(self, x: Tensor, noise: Tensor) -> Tensor:
        """``(B, d)`` F of scaled points ``(B, d)`` and noise labels ``(B,)``."""
        angle = (2.0 * math.pi) * noise[:, None] * self.frequency
        h = nn.functional.silu(self.enter(x) + self.time(torch.cat([angle.cos(), angle.sin()], -1)))
        for layer in self.hidden:
            h = h + nn.functional.silu(layer(h))
        return self.leave(h)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``(B, d)`` E[x_0 | x] where x = x_0 + sigma z."""
        c_in = (1.0 + sigma.square()).rsqrt()
        f = self.raw((c_in[:, None] * x).float(), (0.25 * sigma.log()).float()).to(x.dtype)
        return c_in.square()[:, None] * x + (sigma * c_in)[:, None] * f


@dataclass(frozen=True)
class Architecture:
    """Size of the network.

    Args:
        width: Units of a hidden layer, at least 1.
        depth: Hidden layers after the first, at least 0.
        frequencies: Fourier features of the noise level, at least 1.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> Architecture(width=64).build(2, seed=0).enter.weight.shape
        torch.Size([64, 2])
    """

    width: int = 128
    depth: int = 3
    frequencies: int = 16

    def __post_init__(self) -> None:
        require_count("width", self.width, 1)
        require_count("depth", self.depth, 0)
        require_count("frequencies", self.frequencies, 1)

    def build(self, dim: int, seed: int, device: torch.device = torch.device("cpu")) -> DenoisingNetwork:
        """A network whose weights depend on the seed alone."""
        return DenoisingNetwork(dim, self.width, self.depth, self.frequencies, seeded(seed, 0, device))
