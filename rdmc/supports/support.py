"""A density seen without the bounds of its support."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.rng import Streams

__all__ = ["Support", "reach"]


_REACH = 0.97  # of the logarithm of the largest number: farther from a bound nothing can be computed


def reach(dtype: torch.dtype) -> float:
    """How far from 0 the logarithm of a distance from a bound can be."""
    return _REACH * math.log(torch.finfo(dtype).max)


class Support(ABC):
    r"""A part of space with a map T from all of space onto it: a density pi on it is :math:`\pi(T(y)) \, |\det T'(y)|` in y."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it is, in a word."""

    @property
    @abstractmethod
    def bounded(self) -> bool:
        """Whether it is bounded on all sides."""

    @abstractmethod
    def ends(self, y: Tensor) -> Tensor:
        """``(n, d)`` where ``(d,)`` y comes to if one coordinate that has to do with a bound goes as far as it can, either way."""

    @abstractmethod
    def forward(self, y: Tensor) -> Tensor:
        """``(..., d)`` points of the support for ``(..., d)`` points anywhere."""

    @abstractmethod
    def inverse(self, x: Tensor) -> Tensor:
        """``(..., d)`` points anywhere for ``(..., d)`` points of the support."""

    @abstractmethod
    def log_det(self, y: Tensor) -> Tensor:
        """``(...)`` log |det T'(y)|."""

    @abstractmethod
    def pulled(self, y: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """``(...)`` log |det T'(y)|, and the ``(..., d)`` gradient in y of the density seen, for that of the density in x."""

    @abstractmethod
    def beyond(self, y: Tensor) -> Tensor:
        """``(...)`` whether a distance from a bound is so large, or so small, that nothing can be computed."""

    @abstractmethod
    def scattered(self, count: int, rng: Streams) -> Tensor:
        """``(n, d)`` points y for uniform ones of the support, n at most ``count``.

        Raises:
            ValueError: If it is not bounded.
        """

    def seen(self, density: Density) -> Density:
        """The density of y, counted with the one it is made of.

        Cost: that of the density, and of T and its derivative.
        """

        def log_density(y: Tensor) -> Tensor:
            value = density.log_density(self.forward(y)) + self.log_det(y)
            return value.masked_fill(self.beyond(y), -torch.inf)

        def gradient(y: Tensor) -> tuple[Tensor, Tensor]:
            y = y.detach()
            value, grad = density.bare_value_and_grad(self.forward(y))
            log_det, slope = self.pulled(y, grad)
            return (value + log_det).masked_fill(self.beyond(y), -torch.inf), slope

        return replace(density, log_density=log_density, gradient=gradient)
