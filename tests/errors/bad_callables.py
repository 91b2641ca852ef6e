"""Callables that break the contract, misbehave, or look as if they did."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.errors.bad_day import LOG_Z, Holds, Refused, moments, normal, normal_moments

__all__ = ["HOLDS", "REFUSED"]

FIXED = torch.nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
"""A parameter of somebody's model: no run may leave a gradient on it."""


def raising(after: int) -> Callable[[Tensor], Tensor]:
    """Raises at every call after so many."""
    calls = [0]

    def f(x: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] > after:
            raise KeyError("no such column")
        return normal(x)

    return f


def in_place(x: Tensor) -> Tensor:
    """Doubles its input."""
    x *= 2.0
    return normal(x)


def clamped(x: Tensor) -> Tensor:
    """Clamps its input in place, which changes no value near the origin."""
    return normal(x.clamp_(-8.0, 8.0))


def noisy(size: float) -> Callable[[Tensor], Tensor]:
    """Another value each time."""
    generator = torch.Generator().manual_seed(0)
    return lambda x: normal(x) + size * torch.randn(x.shape[:-1], generator=generator, dtype=x.dtype)


def printing(x: Tensor) -> Tensor:
    """Says something at every call."""
    print("called")
    print("called", file=sys.stderr)
    return normal(x)


def slow(x: Tensor) -> Tensor:
    """Takes a millisecond a call."""
    time.sleep(1e-3)
    return normal(x)


def asks_for_a_gradient(x: Tensor) -> Tensor:
    """Makes its input require a gradient, as code that calls autograd itself does."""
    x.requires_grad_(True)
    return normal(x)


class Model:
    """An object with a dimension and a density."""

    dim = 2

    def log_density(self, x: Tensor) -> Tensor:
        """Standard normal."""
        return normal(x)


class Lying(Model):
    """A closed form whose gradient is wrong by a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Wrong."""
        return normal(x), -self.factor * x


class LyingInSecret(Lying):
    """The same where autograd can't compare."""

    def log_density(self, x: Tensor) -> Tensor:
        """Detached."""
        return normal(x.detach())


class LyingFarOut(Model):
    """Wrong only where no probe is: a few widths out the gradient has the wrong sign."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Right within a radius of 3."""
        return normal(x), torch.where(x.norm(dim=-1, keepdim=True) > 3.0, x, -x)


class Attached(Model):
    """A closed form whose values hang on a parameter's graph."""

    def log_density(self, x: Tensor) -> Tensor:
        """About the parameter."""
        return normal(x - FIXED)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """About the parameter."""
        return normal(x - FIXED), FIXED - x


class Mutating(Model):
    """A closed form that clamps its input in place."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """In place."""
        x.clamp_(-8.0, 8.0)
        return normal(x), -x


class Dimensionless:
    """No density at all."""

    dim = 2


class Odd(Model):
    """A dimension that is no integer."""

    dim = 2.5  # type: ignore[assignment]


REFUSED = [
    Refused("column", lambda: lambda x: normal(x)[:, None], r"wanted \(3,\), got \(3, 1\); sum over the coordinates"),
    Refused("value of each coordinate", lambda: lambda x: -x.square(), r"to \(M,\): .* wanted \(3,\), got \(3, 2\)"),
    Refused("squeezed", lambda: lambda x: normal(x).squeeze(), r"also for M = 1: .* wanted \(1,\), got \(\)"),
    Refused(
        "float32 output",
        lambda: lambda x: normal(x).float(),
        r"keep the dtype .* wanted torch.float64, got torch.float32",
    ),
    Refused(
        "integer output", lambda: lambda x: normal(x).long(), r"real floating numbers of torch.float64, got torch.int64"
    ),
    Refused("complex output", lambda: lambda x: normal(x) + 0j, r"real floating numbers .*, got torch.complex128"),
    Refused("truth values", lambda: lambda x: normal(x) > 0.0, r"real floating numbers .*, got torch.bool"),
    Refused("in place", lambda: in_place, r"changed its input in place; write `x = x \+ ...`"),
    Refused("clamped in place", lambda: clamped, r"`log_density` changed its input in place"),
    Refused("closed form in place", Mutating, r"`gradient` changed its input in place", dim=None),
    Refused("raises at once", lambda: raising(0), r"raised KeyError for x of shape \(3, 2\), .*'no such column'"),
    Refused("raises in the check", lambda: raising(3), r"raised KeyError for x of shape \(1, 2\)"),
    Refused("None", lambda: lambda x: None, r"must return a torch.Tensor, got NoneType"),
    Refused("tuple", lambda: lambda x: (normal(x),), r"must return a torch.Tensor, got tuple"),
    Refused(
        "numpy", lambda: lambda x: -np.square(x.detach().numpy()).sum(-1), r"must return a torch.Tensor, got ndarray"
    ),
    Refused("Python float", lambda: lambda x: float(normal(x).sum()), r"must return a torch.Tensor, got float"),
    Refused(
        "other device", lambda: lambda x: torch.zeros(len(x), dtype=x.dtype, device="meta"), r"wanted cpu, got meta"
    ),
    Refused(
        "matrix of the default type",
        lambda: lambda x: normal(x @ torch.eye(2)),
        r"raised RuntimeError .* dtype torch.float64",
    ),
    Refused("noisy", lambda: noisy(0.1), r"one by one and give the same value each time"),
    Refused(
        "mixes the batch", lambda: lambda x: normal(x - x.mean(0)), r"one by one and give the same value each time"
    ),
    Refused("detached", lambda: lambda x: normal(x.detach()), r"must be differentiable by torch autograd"),
    Refused(
        "no graph", lambda: lambda x: torch.zeros(len(x), dtype=x.dtype), r"must be differentiable by torch autograd"
    ),
    Refused(
        "two arguments",
        lambda: lambda x, y: normal(x),
        r"raised TypeError .* missing 1 required positional argument: 'y'",
    ),
    Refused(
        "gradient twice too steep", lambda: Lying(2.0), r"`gradient` must be that of `log_density`: autograd gave \[\["
    ),
    Refused(
        "gradient of the wrong sign", lambda: Lying(-1.0), r"`gradient` must be that of `log_density`: autograd gave"
    ),
    Refused("gradient 1 % too steep", lambda: Lying(1.01), r"`gradient` must be that of `log_density`: autograd gave"),
    Refused(
        "wrong sign, no autograd",
        lambda: LyingInSecret(-1.0),
        r"differences of values gave slopes \[.*, the closed form \[",
    ),
    Refused("1.2 too steep, no autograd", lambda: LyingInSecret(1.2), r"differences of values gave slopes"),
    Refused("a class", lambda: Model, r"`log_density` must be .*, got the class Model; make an object", ValueError),
    Refused(
        "no density",
        Dimensionless,
        r"`log_density` must be callable, .*, got Dimensionless; .*`log_density`",
        ValueError,
    ),
    Refused("None for a density", lambda: None, r"`log_density` must be callable, .*, got NoneType", ValueError),
    Refused("text for a density", lambda: "normal", r"`log_density` must be callable, .*, got str", ValueError),
    Refused(
        "tensor for a density", lambda: torch.zeros(2), r"`log_density` must be callable, .*, got Tensor", ValueError
    ),
    Refused("an odd dimension", Odd, r"`dim` must be a positive integer, got 2.5", ValueError, dim=None),
    Refused("another dimension", Model, r"`dim` must agree with the density: wanted 2, got 3", ValueError, dim=3),
    Refused(
        "torch's normal",
        lambda: torch.distributions.Normal(0.0, 1.0),
        r"must be callable, .*, got Normal",
        ValueError,
        dim=1,
    ),
    Refused(
        "torch's log_prob", lambda: torch.distributions.Normal(0.0, 1.0).log_prob, r"got \(3, 1\); sum over", dim=1
    ),
]

ABOUT = moments((1.0, -1.0), (1.0, 1.0))

HOLDS = [
    Holds("for one point", lambda: lambda x: -0.5 * (x[0] ** 2 + x[1] ** 2), normal_moments(), LOG_Z),
    Holds("for one point, though it takes a batch", lambda: lambda x: normal(x).sum(), normal_moments(), LOG_Z),
    Holds("for one point by dot", lambda: lambda x: -0.5 * torch.dot(x, x), normal_moments(), LOG_Z),
    Holds("parameter", lambda: lambda x: normal(x - FIXED), ABOUT, LOG_Z),
    Holds("closed form on a parameter", Attached, ABOUT, LOG_Z, dim=None),
    Holds("asks for a gradient", lambda: asks_for_a_gradient, normal_moments(), LOG_Z),
    Holds("constants of the default type", lambda: lambda x: normal(x - torch.tensor([1.0, -1.0])), ABOUT, LOG_Z),
    Holds("prints", lambda: printing, normal_moments(), LOG_Z),
    Holds("slow", lambda: slow, normal_moments(), LOG_Z),
    Holds("noise below what shows", lambda: noisy(1e-9), normal_moments(), LOG_Z),
    Holds("gradient that lies far out", LyingFarOut, normal_moments(), LOG_Z, dim=None),
    Holds("object", Model, normal_moments(), LOG_Z, dim=None),
    Holds("gradient right, no autograd", lambda: LyingInSecret(1.0), normal_moments(), LOG_Z, dim=None),
    Holds("integer of numpy for the dimension", lambda: normal, normal_moments(), LOG_Z, dim=np.int64(2)),
    Holds("abs", lambda: lambda x: -x.abs().sum(-1), moments((0.0, 0.0), (2.0, 2.0)), 2.0 * math.log(2.0)),
    Holds(
        "relu",
        lambda: lambda x: -(torch.relu(x) + 2.0 * torch.relu(-x)).sum(-1),
        moments((0.5, 0.5), (1.25, 1.25)),
        2.0 * math.log(1.5),
    ),
]
