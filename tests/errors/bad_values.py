"""Values that are no numbers, infinite, enormous, or do not fall."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rdmc.errors import DensityError, ImproperDensityError
from tests.errors.bad_day import (
    LOG_Z,
    Holds,
    Refused,
    Told,
    fraction,
    moments,
    normal,
    normal_moments,
    quadrature,
    truncated,
)

__all__ = ["HOLDS", "REFUSED", "TOLD"]


def nan_beyond(bound: float) -> Callable[[Tensor], Tensor]:
    """NaN in a half-space."""
    return lambda x: torch.where(x[..., 0] > bound, math.nan, normal(x))


def infinite_beyond(bound: float) -> Callable[[Tensor], Tensor]:
    """+inf in a half-space."""
    return lambda x: torch.where(x[..., 0] > bound, math.inf, normal(x))


def overflowing(x: Tensor) -> Tensor:
    """A product of log-gamma laws that weighs next to nothing, whose gradient overflows at 710."""
    return (x - x.exp()).sum(-1) - 40.0


def speckled(x: Tensor) -> Tensor:
    """NaN at 1 % of the points, without any order."""
    noise = torch.sin(12.9898e3 * x[..., 0] + 78.233e3 * x[..., 1]) * 43758.5453
    return torch.where(noise - noise.floor() < 0.01, math.nan, normal(x))


def slotted(x: Tensor) -> Tensor:
    """NaN in slots that take 5 % of the space."""
    where = 2.0 * x[..., 0] + 0.4
    return torch.where(where - where.floor() < 0.05, math.nan, normal(x))


def flat_along(x: Tensor) -> Tensor:
    """Nothing is said of the second coordinate."""
    return -0.5 * x[..., 0].square()


def flat_obliquely(x: Tensor) -> Tensor:
    """Only the sum is known."""
    return -0.5 * x.sum(-1).square()


def slow_tail(power: float) -> Callable[[Tensor], Tensor]:
    """Tails as |x|^-power."""
    return lambda x: -power * torch.log1p(x.abs()).sum(-1)


def on_half_a_line(x: Tensor) -> Tensor:
    """Constant on x > 1."""
    return torch.where(x[..., 0] > 1.0, 0.0 * x[..., 0], -math.inf)


def hierarchy(x: Tensor) -> Tensor:
    """A normal effect with an unknown log scale under a flat prior: constant as the scale goes to 0."""
    effect, log_scale = x.unbind(-1)
    return -0.5 * (effect - 1.0).square() - 0.5 * (1.0 + torch.exp(2.0 * log_scale)).log()


def floored(floor: float) -> Callable[[Tensor], Tensor]:
    """The floor that keeps a logarithm from -inf."""
    return lambda x: torch.log(torch.exp(normal(x)) + floor)


def jump(x: Tensor) -> Tensor:
    """e^1.5 times as dense beyond .3."""
    return normal(x) + 1.5 * (x[..., 0] > 0.3)


def nowhere(x: Tensor) -> Tensor:
    """-inf everywhere."""
    return 0.0 * x.sum(-1) - math.inf


FINITE_MASS = r"`log_density` must have finite mass: along \d+ of \d+ directions"
RUNS_OFF = r"`log_density` must have finite mass: 64 of 64 ascents"
TELLS = (
    r"best point reached has log density {1}.*, where torch.{0} cannot tell one nat from another. Subtract a constant"
)


def improper(name: str, make: Callable[[], object], message: str = FINITE_MASS, dim: int = 2) -> Refused:
    """A density without a finite integral."""
    return Refused(name, make, message, ImproperDensityError, dim)


REFUSED = [
    Refused(
        "NaN everywhere",
        lambda: lambda x: normal(x) * math.nan,
        r"finite at some of the 64 starting points, got nan at all",
    ),
    Refused(
        "+inf everywhere",
        lambda: lambda x: 0.0 * normal(x) + math.inf,
        r"finite at some of the 64 starting points, got inf",
    ),
    Refused("-inf everywhere", lambda: nowhere, r"finite at some of the 64 starting points, got -inf"),
    improper("constant", lambda: lambda x: 0.0 * x.sum(-1)),
    improper("constant in five dimensions", lambda: lambda x: 0.0 * x.sum(-1) + 3.0, dim=5),
    improper("linear", lambda: lambda x: x.sum(-1), RUNS_OFF),
    improper("wrong sign", lambda: lambda x: -normal(x), RUNS_OFF),
    improper("tails of 1/x", lambda: slow_tail(1.0)),
    improper("tails of 1/sqrt(x)", lambda: slow_tail(0.5)),
    improper("one coordinate is free", lambda: flat_along),
    improper("a difference is free", lambda: flat_obliquely),
    improper("constant on half a line", lambda: on_half_a_line, dim=1),
    improper("constant on the other half", lambda: lambda x: on_half_a_line(-x), dim=1),
    improper("flat prior on a log scale", lambda: hierarchy),
    improper("a floor of 1e-4", lambda: floored(1e-4)),
    Refused("offset beyond one nat", lambda: lambda x: normal(x) + 1e300, TELLS.format("float64", r"1e\+300")),
    Refused("offset far below", lambda: lambda x: normal(x) - 1e300, TELLS.format("float64", r"-1e\+300")),
    Refused("times 1e300", lambda: lambda x: 1e300 * normal(x), TELLS.format("float64", r"-")),
    Refused(
        "offset in single precision",
        lambda: lambda x: normal(x) + 1e7,
        TELLS.format("float32", r"1e\+07"),
        options=lambda: {"dtype": torch.float32},
    ),
    Refused(
        "no gradient where the mass is",
        lambda: lambda x: torch.logaddexp(normal(x), overflowing(x + 800.0)),
        r"must have a gradient where its mass is; .* the gradient is NaN",
        DensityError,
    ),
]

HALF, CUT = truncated(0.5), truncated(2.0)
SLOTS = quadrature(slotted, -12.0, 12.0)
_ABOVE = 0.5 * math.erfc(0.3 / math.sqrt(2.0))
_AT = math.exp(-0.045) / math.sqrt(2.0 * math.pi)
JUMP_MASS = 1.0 - _ABOVE + math.exp(1.5) * _ABOVE
JUMP_MEAN = math.expm1(1.5) * _AT / JUMP_MASS
JUMP_SQUARE = (1.0 - _ABOVE - 0.3 * _AT + math.exp(1.5) * (_ABOVE + 0.3 * _AT)) / JUMP_MASS
WRONG = r"NaN or \+inf at \d+ evaluations"

HOLDS = [
    Holds(
        "NaN in a half-space",
        lambda: nan_beyond(0.5),
        moments((HALF[0], 0.0), (HALF[1], 1.0)),
        LOG_Z + math.log(HALF[2]),
        told=WRONG,
    ),
    Holds(
        "+inf in a half-space",
        lambda: infinite_beyond(2.0),
        moments((CUT[0], 0.0), (CUT[1], 1.0)),
        LOG_Z + math.log(CUT[2]),
        told=WRONG,
    ),
    Holds("NaN at 1 % at random", lambda: speckled, normal_moments(), LOG_Z + math.log(0.99), told=WRONG),
    Holds(
        "NaN in slots of 5 %",
        lambda: slotted,
        moments((SLOTS[0], 0.0), (SLOTS[1], 1.0)),
        SLOTS[2] + 0.5 * LOG_Z,
        told=WRONG,
    ),
    Holds(
        "jump",
        lambda: jump,
        moments((JUMP_MEAN, 0.0), (JUMP_SQUARE - JUMP_MEAN**2, 1.0)),
        LOG_Z + math.log(JUMP_MASS),
    ),
    Holds(
        "no gradient beyond the mass",
        lambda: lambda x: torch.logaddexp(normal(x), overflowing((x + 30.0) / 0.05)),
        normal_moments(),
        LOG_Z,
    ),
    Holds("offset 1e6", lambda: lambda x: normal(x) + 1e6, normal_moments(), LOG_Z + 1e6),
    Holds("offset -1e6", lambda: lambda x: normal(x) - 1e6, normal_moments(), LOG_Z - 1e6),
    Holds("a floor of 1e-30", lambda: floored(1e-30), normal_moments(), LOG_Z),
    Holds(
        "NaN gradient at the mode", lambda: lambda x: -x.square().sum(-1).sqrt(), moments((0.0, 0.0), (3.0, 3.0)), LOG_Z
    ),
    Holds("cusp", lambda: lambda x: -x.norm(dim=-1), moments((0.0, 0.0), (3.0, 3.0)), LOG_Z),
    Holds(
        "a pole at a point",
        lambda: lambda x: -0.5 * x.norm(dim=-1).log() - x.norm(dim=-1),
        moments((0.0, 0.0), (1.875, 1.875)),
        math.log(2.0 * math.pi) + math.lgamma(1.5),
    ),
    Holds(
        "Cauchy",
        lambda: lambda x: -torch.log1p(x.square()).sum(-1),
        fraction(lambda x: x[:, 0].abs() < 1.0, 0.5),
        math.log(math.pi),
        dim=1,
    ),
]

TOLD = [
    Told(
        "+inf under annealed Langevin",
        lambda: infinite_beyond(2.0),
        r"NaN or",
        options={"sampler": "annealed-langevin"},
    ),
    Told("NaN under reverse diffusion", lambda: slotted, WRONG, options={"sampler": "rdmc"}),
    Told("NaN under emcee", lambda: slotted, WRONG, options={"sampler": "emcee"}),
    Told(
        "edges under annealed Langevin", lambda: nan_beyond(-1.0), r"NaN or", options={"sampler": "annealed-langevin"}
    ),
    Told("one draw", lambda: normal, r"need at least 4 draws per population, got 1", options={"draws": 1}),
    Told("one chain", lambda: normal, r"needs at least 2 populations, got 1", options={"chains": 1}),
    Told("one draw of one chain", lambda: normal, r"got 1, so agreement", options={"draws": 1, "chains": 1}),
]
