"""One test for each message about parameters, their values and their densities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import constraints

import rdmc
from rdmc.errors import DensityError
from rdmc.parameters import Parameter, Parameters, ordered
from tests.parameters.cases import MIXTURE, F, points


def build(**given: Any) -> Parameters:
    return Parameters(**given)


def function_of(*names: str) -> Any:
    return eval(f"lambda {', '.join(names)}: 0.0")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parameter(3, "postive"), r"`constraint` must be one of 'real', 'positive', .*, got 'postive'"),
        (lambda: Parameter(3, 2.0), r"`constraint` must be one of .*, got 2.0"),  # type: ignore[arg-type]
        (lambda: Parameter(3, constraints.boolean), r"`constraint` must have a bijection .*; got Boolean\(\)"),
        (lambda: Parameter(3, constraints.integer_interval(0, 3)), "`constraint` must have a bijection"),
        (
            lambda: Parameter((2, 2), constraints.positive_definite),
            "PositiveDefinite.*write a covariance by its factor",
        ),
        (lambda: Parameter((2, -1)), r"`shape` must be a positive integer or a tuple of them, got \(2, -1\)"),
        (lambda: Parameter(2.5), "`shape` must be .*, got 2.5"),  # type: ignore[arg-type]
        (lambda: Parameter(True), "`shape` must be .*, got True"),
        (lambda: Parameter((), "simplex"), r"`shape` must suit the constraint Simplex\(\): at least 1 axes, got \(\)"),
        (lambda: Parameter((2, 3), "corr_cholesky"), r"a square matrix in the last two axes, got \(2, 3\)"),
        (lambda: Parameter(3, "lower_cholesky"), r"LowerCholesky\(\): at least 2 axes, got \(3,\)"),
        (lambda: Parameter(3, constraints.greater_than(torch.zeros(2))), "`shape` must suit .* must match"),
        (lambda: Parameter((), constraints.greater_than(torch.zeros(2))), r"its bounds make it \(2,\), got \(\)"),
        (lambda: Parameter((2, 3), dims="row"), r"`dims` must name each axis of `shape` \(2, 3\), got \('row',\)"),
        (lambda: Parameter((2, 3), dims=("row", "row")), "`dims` must be distinct non-empty texts"),
        (lambda: Parameters(), "at least one parameter"),
        (lambda: Parameters(p=Parameter(1, "simplex")), "at least one free coordinate"),
        (lambda: Parameters(mu=3), "`mu` must be an `rdmc.Parameter`, got 3"),  # type: ignore[arg-type]
        (lambda: build(**{"my mu": Parameter()}), "none of chain, draw, sample, pred_id, got 'my mu'"),
        (lambda: build(**{"lambda": Parameter()}), "must be one of an argument .*, got 'lambda'"),
        (lambda: Parameters(chain=Parameter()), "got 'chain'"),
        (lambda: Parameters(mu=Parameter(3, dims="mu")), "must not have the name of a parameter .*; `mu` has 'mu'"),
        (lambda: Parameters(mu=Parameter(3, dims="draw")), "`mu` has 'draw'"),
        (
            lambda: Parameters(mu=Parameter(dims="row")),
            r"`mu` needs a `shape`, or `coords` for its dimensions \['row'\]",
        ),
        (
            lambda: Parameters(mu=Parameter(3, dims="row"), coords={"row": "ab"}),
            r"dimension 'row' must have one length: 2 in `coords\['row'\]`, but 3 in `mu`",
        ),
        (
            lambda: Parameters(mu=Parameter(3, dims="row"), nu=Parameter(2, dims="row")),
            "dimension 'row' must have one length: 3 in `mu`, but 2 in `nu`",
        ),
        (
            lambda: Parameters(mu=Parameter(3, dims="row"), coords={"rwo": "abc"}),
            r"`coords` must be of dimensions that a parameter has, \['row'\], got \['rwo'\]",
        ),
        (
            lambda: Parameters(L=Parameter(None, "corr_cholesky", dims=("r", "s")), coords={"r": "ab", "s": "abc"}),
            "`L`: `shape` must suit",
        ),
        (lambda: MIXTURE.constrain(torch.zeros(4, 3)), r"`x` must have shape \(..., 11\), got \(4, 3\)"),
        (lambda: MIXTURE.density(3), "must be a function of sigma, mu, weight, tau, factor, got int"),  # type: ignore[arg-type]
        (
            lambda: MIXTURE.density(function_of("mu", "sigma", "weights")),
            r"it takes \(mu, sigma, weights\), weight, tau, factor missing, weights not a parameter",
        ),
        (lambda: Parameters(mu=Parameter()).density(function_of("mu", "data")), "data not a parameter"),
        (lambda: Parameters(mu=Parameter()).density(function_of("mu", "/")), "mu missing"),
    ],
)
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": None}, r"`values` must hold \['sigma', .*\]; missing \['mu'\], unknown \[\]"),
        ({"nu": 1.0}, r"missing \[\], unknown \['nu'\]"),
        ({"sigma": [1.0, 2.0]}, r"`sigma` must have shape \('...', 3\), got \(2,\)"),
        (
            {"sigma": [1.0, -2.0, 1.0]},
            r"`sigma` must lie inside GreaterThan\(lower_bound=0.0\), got \[1.0, -2.0, 1.0\]",
        ),
        ({"tau": float("nan")}, "`tau` must lie inside"),
        ({"mu": [0.0, 0.0, float("inf")]}, "`mu` must lie inside"),
        ({"weight": [0.5, 0.5, 0.5]}, r"`weight` must lie inside Simplex\(\)"),
        ({"weight": [0.5, 0.5, 0.0]}, r"`weight` must lie inside Simplex\(\)"),
        ({"mu": [[0.0] * 3] * 2}, r"share their leading axes, got \{'sigma': \(\), 'mu': \(2,\)"),
    ],
)
def test_messages_about_values(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {name: value.tolist() for name, value in MIXTURE.constrain(points()).items()}
    values = {name: value for name, value in (good | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        MIXTURE.unconstrain(values)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda mu: 0.0, "must return a torch.Tensor, got float"),
        (lambda mu: mu, r"one number a point: for mu \(4, 2\) wanted \(4,\), got \(4, 2\)"),
        (lambda mu: mu.sum(), r"wanted \(4,\), got \(\)"),
    ],
)
def test_messages_about_a_density(function: Any, message: str) -> None:
    model = Parameters(mu=Parameter(2)).density(function)
    with pytest.raises(DensityError, match=message):
        model.log_density(torch.zeros(4, 2, dtype=F))


def test_a_density_of_the_wrong_shape_is_named_in_a_run() -> None:
    model = Parameters(mu=Parameter(2, "positive")).density(lambda mu: mu)
    with pytest.raises(DensityError, match=r"one number a point: for mu \(3, 2\) wanted \(3,\), got \(3, 2\)"):
        rdmc.sample(model, progressbar=False)


@pytest.mark.parametrize("constraint", [ordered, "positive_ordered"])
def test_order_is_checked(constraint: Any) -> None:
    parameters = Parameters(mu=Parameter((2, 3), constraint))
    with pytest.raises(ValueError, match=r"`mu` must lie inside .*Ordered"):
        parameters.unconstrain({"mu": [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]]})
