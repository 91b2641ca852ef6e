"""Supports with edges, scales far apart, needles, thin lines, and dimensions at both ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tests.errors.bad_day import LOG_Z, Holds, Refused, Statistics, Told, fraction, moments, normal, normal_moments

__all__ = ["HOLDS", "REFUSED", "TOLD"]


def box(x: Tensor) -> Tensor:
    """Uniform on (-1, 1)^d: a plateau with edges."""
    return torch.where((x.abs() < 1.0).all(-1), 0.0 * x.sum(-1), -math.inf)


def half_normal(x: Tensor) -> Tensor:
    """Normal where all coordinates are positive."""
    return torch.where((x > 0.0).all(-1), normal(x), -math.inf)


def half_line(x: Tensor) -> Tensor:
    """Exponential, the mode at the edge."""
    return torch.where((x > 0.0).all(-1), -x.sum(-1), -math.inf)


def simplex(x: Tensor) -> Tensor:
    """Dirichlet(1.5, 1.5, 2) in its first two coordinates; logarithms of negative numbers beyond the edges."""
    rest = 1.0 - x.sum(-1)
    inside = (x > 0.0).all(-1) & (rest > 0.0)
    return torch.where(inside, 0.5 * x.clamp(min=1e-300).log().sum(-1) + rest.clamp(min=1e-300).log(), -math.inf)


def careless(x: Tensor) -> Tensor:
    """Gamma(3) by the plain formula, which gives NaN left of the edge."""
    return 2.0 * x[..., 0].log() - x[..., 0]


def needle(x: Tensor) -> Tensor:
    """Half the mass in a needle 1000 times as narrow as the rest, three widths from its centre."""
    narrow = -0.5 * ((x[..., 0] - 3.0) / 1e-3).square() - math.log(1e-3)
    return torch.logaddexp(narrow, -0.5 * x[..., 0].square())


def thin_line(width: float, bound: float = 0.25) -> Callable[[Tensor], Tensor]:
    """Two coordinates that are all but equal: a Hessian that is singular in most arithmetic."""
    return lambda x: -0.5 * ((x[..., 0] - x[..., 1]) / width).square() - 0.5 * bound * x.sum(-1).square()


def along(width: float) -> Statistics:
    """Moments of the difference, in its own unit, and of the sum."""
    return {
        "difference": (lambda x: (x[:, 0] - x[:, 1]) / width, 0.0),
        "squared difference": (lambda x: ((x[:, 0] - x[:, 1]) / width).square(), 1.0),
        "sum": (lambda x: x.sum(-1), 0.0),
        "squared sum": (lambda x: x.sum(-1).square(), 4.0),
    }


def stretched(x: Tensor) -> Tensor:
    """A million times as wide in one direction, which is oblique."""
    along_, across = (x[..., 0] + x[..., 1]) / 2.0**0.5, (x[..., 0] - x[..., 1]) / 2.0**0.5
    return -0.5 * ((along_ / 1e6).square() + across.square())


STRETCHED: Statistics = {
    "long": (lambda x: (0.5 * x.sum(-1).square()) / 1e12, 1.0),
    "short": (lambda x: 0.5 * (x[:, 0] - x[:, 1]).square(), 1.0),
    "long mean": (lambda x: x.sum(-1) / 1e6, 0.0),
}


def at(scale: float, place: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Normal of that scale at that place."""
    return lambda x: normal((x - place) / scale)


REFUSED = [
    Refused("coordinates that are equal", lambda: thin_line(1e-30, 0.0), r"must be wider than torch.float64 can tell"),
    Refused(
        "equal to rounding", lambda: thin_line(1e-15, 0.0), r"must be wider than torch.float64 can tell points apart"
    ),
]

HOLDS = [
    Holds("one dimension", lambda: normal, normal_moments(1), 0.5 * LOG_Z, dim=1),
    Holds("box", lambda: box, moments((0.0,) * 3, (1.0 / 3.0,) * 3), 3.0 * math.log(2.0), dim=3),
    Holds("simplex", lambda: simplex, moments((0.3, 0.3), (0.035, 0.035)), 2 * math.lgamma(1.5) - math.lgamma(5)),
    Holds(
        "half-line",
        lambda: half_normal,
        moments((math.sqrt(2.0 / math.pi),), (1.0 - 2.0 / math.pi,)),
        0.5 * LOG_Z - math.log(2.0),
        dim=1,
    ),
    Holds("mode at the edge", lambda: half_line, moments((1.0, 1.0), (1.0, 1.0)), 0.0),
    Holds(
        "logarithm of a negative number",
        lambda: careless,
        moments((3.0,), (3.0,)),
        math.log(2.0),
        dim=1,
        told=r"NaN or \+inf at \d+ evaluations",
    ),
    Holds(
        "needle",
        lambda: needle,
        fraction(lambda x: (x[:, 0] - 3.0).abs() < 0.01, 0.5),
        0.5 * LOG_Z + math.log(2),
        dim=1,
    ),
    Holds("scale 1e12", lambda: at(1e12), normal_moments(sd=1e12), LOG_Z + 2 * math.log(1e12)),
    Holds("scale 1e-12", lambda: at(1e-12), normal_moments(sd=1e-12), LOG_Z + 2 * math.log(1e-12)),
    Holds("location 1e9", lambda: at(1.0, 1e9), normal_moments(mean=1e9), LOG_Z),
    Holds("a million to one", lambda: stretched, STRETCHED, LOG_Z + math.log(1e6)),
    Holds("thin line", lambda: thin_line(1e-9), along(1e-9), LOG_Z + math.log(1e-9)),
    Holds(
        "sixty dimensions",
        lambda: normal,
        {"radius": (lambda x: x.square().sum(-1), 60.0), "first": (lambda x: x[:, 0], 0.0)},
        30.0 * LOG_Z,
        dim=60,
        slow=True,
    ),
]

TOLD = [
    Told(
        "a line as thin as rounding",
        lambda: thin_line(1e-30),
        r"reference was still changing|jumps from the reference|hardly ever accepted|populations disagree",
        slow=True,
    ),
    Told(
        "location 1e9 in single precision",
        lambda: at(1.0, 1e9),
        r"Every coordinate is constant over all draws",
        options={"dtype": torch.float32},
    ),
    Told("edges under MALA", lambda: box, r"lie outside the support", options={"sampler": "mala", "draws": 20}),
]
