"""One test for each message about a density that doesn't keep its contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rdmc.density import Density, as_density
from rdmc.errors import DensityError

D = 3


def points(dtype: torch.dtype = torch.float64) -> Tensor:
    """``(4, 3)`` points: as many as no axis of a density for 3 dimensions."""
    return torch.randn(4, D, generator=torch.Generator().manual_seed(0), dtype=dtype)


def good(x: Tensor) -> Tensor:
    """A density that keeps the contract."""
    return -0.5 * x.square().sum(-1)


def in_place(x: Tensor) -> Tensor:
    """Changes its input."""
    x -= 1.0
    return -x.square().sum(-1)


class Drifting:
    """Gives another value each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The value, and a little more."""
        self.calls += 1
        return good(x) + 0.01 * self.calls


def shape_of_unrelated(x: Tensor) -> Tensor:
    """Neither for one point nor for a batch."""
    return torch.zeros(2, 2, dtype=x.dtype) + x.sum()


def refuses(x: Tensor) -> Tensor:
    """Raises."""
    raise KeyError("no such column")


CASES: list[tuple[str, Any, str]] = [
    (
        "column",
        lambda x: good(x)[:, None],
        r"map a batch \(M, d\) to \(M,\): for x of shape \(4, 3\) wanted \(4,\), got \(4, 1\)",
    ),
    ("per coordinate", lambda x: -x.square(), r"wanted \(4,\), got \(4, 3\)"),
    ("unrelated", shape_of_unrelated, r"wanted \(4,\), got \(2, 2\)"),
    ("raises", refuses, r"raised KeyError for x of shape \(4, 3\), dtype torch.float64, device cpu: 'no such column'"),
    (
        "float32 matrix",
        lambda x: (x @ torch.ones(D, 1))[:, 0],
        r"raised RuntimeError for x of shape \(4, 3\), dtype torch.float64",
    ),
    ("numpy", lambda x: -0.5 * np.square(x.numpy()).sum(-1), r"must return a torch.Tensor, got ndarray"),
    ("float", lambda x: 1.0, r"must return a torch.Tensor, got float"),
    ("in place", in_place, r"changed its input in place; write `x = x \+ ...` instead of `x \+= ...`"),
    (
        "float32 result",
        lambda x: good(x).float(),
        r"must keep the dtype .*: wanted torch.float64, got torch.float32; create constants",
    ),
    ("device", lambda x: torch.empty(4, dtype=x.dtype, device="meta"), r"stay on the device .*: wanted cpu, got meta"),
    (
        "mixes the batch",
        lambda x: good(x - x.mean(0)),
        r"treat the points of a batch one by one and give the same value each time",
    ),
    ("softmax over the batch", lambda x: torch.log_softmax(good(x), 0), r"treat the points of a batch one by one"),
    ("stochastic", Drifting(), r"give the same value each time: alone the first two points gave \["),
    ("detached", lambda x: good(x.detach()), r"must be differentiable by torch autograd .* autograd said: "),
    ("constant", lambda x: torch.zeros_like(x[:, 0]), r"must be differentiable by torch autograd"),
]


@pytest.mark.parametrize(("log_density", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_messages(log_density: Any, message: str) -> None:
    with pytest.raises(DensityError, match=message):
        Density(log_density, D).check(points())


def swapped(x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient first."""
    return -x, good(x)  # type: ignore[return-value]


CLOSED: list[tuple[str, Any, str]] = [
    ("other value", lambda x: (good(x) + 1.0, -x), r"`gradient` and `log_density` must give the same value, got \["),
    ("wrong sign", lambda x: (good(x), x), r"`gradient` must be that of `log_density`: autograd gave \[\["),
    (
        "float32",
        lambda x: (good(x), -x.float()),
        r"`gradient` must map \(M, d\) to .* in torch.float64: .* torch.float32\)\]",
    ),
    ("raises", refuses, r"`gradient` raised KeyError for x of shape \(4, 3\): 'no such column'"),
    ("summed", lambda x: (good(x).sum(), -x), r"`gradient` must map \(M, d\) to \(\(M,\), \(M, d\)\)"),
    ("swapped", lambda x: (-x, good(x)), r"`gradient` must map \(M, d\) to \(\(M,\), \(M, d\)\)"),
    ("value only", lambda x: good(x), r"`gradient` must map \(M, d\) to \(\(M,\), \(M, d\)\)"),
    ("too narrow", lambda x: (good(x), -x[:, :2]), r"`gradient` must map \(M, d\) to \(\(M,\), \(M, d\)\)"),
]


@pytest.mark.parametrize(("gradient", "message"), [case[1:] for case in CLOSED], ids=[case[0] for case in CLOSED])
def test_messages_about_a_closed_form(gradient: Any, message: str) -> None:
    with pytest.raises(DensityError, match=message):
        Density(good, D, gradient).check(points())


def test_a_closed_form_serves_where_autograd_cannot() -> None:
    Density(lambda x: good(x.detach()), D, lambda x: (good(x), -x)).check(points())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Density("x", 2), r"`log_density` must be callable, \(M, d\) -> \(M,\), got str"),  # type: ignore[arg-type]
        (lambda: Density(good, 0), r"`dim` must be a positive integer, got 0"),
        (lambda: Density(good, True), r"`dim` must be a positive integer, got True"),
        (lambda: Density(good, 2.0), r"`dim` must be a positive integer, got 2.0"),  # type: ignore[arg-type]
        (
            lambda: as_density(good),
            r"`dim` is required for a bare callable: wanted the number of coordinates d, got None",
        ),
        (lambda: as_density(Density(good, 2), 3), r"`dim` must agree with the density: wanted 2, got 3"),
        (lambda: as_density(good, 2, dtype=torch.int64), r"`dtype` must be a real floating type, got torch.int64"),
        (lambda: as_density("x", 2), r"`log_density` must be callable"),  # type: ignore[arg-type]
    ],
)
def test_construction(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
