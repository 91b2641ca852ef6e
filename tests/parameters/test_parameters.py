"""Laws of parameters together: flattening, determinants that add up, densities, and what they keep."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, Gamma, LKJCholesky, Normal, constraints

import rdmc
from rdmc.density import Density, HasLogDensity, as_density
from rdmc.diagnostics.convergence import convergence
from rdmc.parameters import Parameter, Parameters, ordered
from tests.parameters.cases import MIXTURE, F, log_density, points
from tests.stats import assert_within


def test_values_are_those_of_each_parameter_in_order() -> None:
    x = points(5, 2)
    values = MIXTURE.constrain(x)
    assert list(values) == ["sigma", "mu", "weight", "tau", "factor"] and MIXTURE.dim == 3 + 3 + 2 + 1 + 2
    assert {name: tuple(value.shape[2:]) for name, value in values.items()} == {
        "mu": (3,),
        "sigma": (3,),
        "weight": (3,),
        "tau": (),
        "factor": (2, 2, 2),
    }
    torch.testing.assert_close(values["sigma"], x[..., :3].exp())
    torch.testing.assert_close(values["mu"], x[..., 3:6])
    torch.testing.assert_close(values["tau"], 1.0 + x[..., 8].exp())
    torch.testing.assert_close(values["factor"][..., 1, 0], x[..., 9:].tanh())
    for name, part in MIXTURE.slices.items():
        torch.testing.assert_close(MIXTURE.parameters[name].forward(x[..., part])[0], values[name])


def test_coordinates_are_named_and_say_where_they_are_no_values() -> None:
    parameters = Parameters(mu=Parameter(2), tau=Parameter((), "positive"), w=Parameter(3, "simplex"))
    names = ("mu[0]", "mu[1]", "tau_unconstrained", "w_unconstrained[0]", "w_unconstrained[1]")
    assert parameters.coordinates == names
    density = parameters.density(lambda mu, tau, w: -0.5 * mu.square().sum(-1) - tau + w.log().sum(-1))
    result = rdmc.sample(density, draws=20, chains=2, seed=0, progressbar=False)
    assert result.names == names and "tau_unconstrained" in result.summary()


def test_determinants_add_up() -> None:
    x = points(6)
    parts = [MIXTURE.parameters[name].forward(x[:, part])[1] for name, part in MIXTURE.slices.items()]
    torch.testing.assert_close(MIXTURE.log_abs_det_jacobian(x), torch.stack(parts).sum(0), rtol=1e-14, atol=1e-14)
    assert bool((torch.stack(parts)[[0, 2, 3, 4]].abs() > 0.01).all())


def test_round_trip_of_tensors_arrays_and_numbers() -> None:
    x = points(4, 3)
    values = MIXTURE.constrain(x)
    torch.testing.assert_close(MIXTURE.unconstrain(values), x, rtol=1e-10, atol=1e-10)
    arrays = {name: value.numpy() for name, value in values.items()}
    torch.testing.assert_close(MIXTURE.unconstrain(arrays), x, rtol=1e-10, atol=1e-10)
    plain = MIXTURE.unconstrain({name: value[0, 0].tolist() for name, value in values.items()})
    assert plain.shape == (MIXTURE.dim,) and plain.dtype == F
    torch.testing.assert_close(plain, x[0, 0], rtol=1e-10, atol=1e-10)
    single = {name: value.float() for name, value in values.items()}
    assert MIXTURE.unconstrain(single).dtype == torch.float32
    transposed = {**values, "factor": values["factor"].mT.contiguous().mT}
    torch.testing.assert_close(MIXTURE.unconstrain(transposed), x, rtol=1e-10, atol=1e-10)


def test_the_density_is_that_of_the_values_with_the_determinant() -> None:
    model, x = MIXTURE.density(log_density), points(7)
    assert isinstance(model, HasLogDensity)
    wanted = log_density(**MIXTURE.constrain(x)) + MIXTURE.log_abs_det_jacobian(x)
    torch.testing.assert_close(model.log_density(x), wanted)
    checked = as_density(model).check(x)
    value, grad = checked.value_and_grad(x)
    torch.testing.assert_close(value, wanted)
    h = 1e-6
    for i in range(MIXTURE.dim):
        step = h * torch.eye(MIXTURE.dim, dtype=F)[i]
        torch.testing.assert_close(
            grad[:, i], (checked(x + step) - checked(x - step)) / (2.0 * h), rtol=1e-6, atol=1e-7
        )


def test_one_point_and_a_batch_agree() -> None:
    model, x = MIXTURE.density(log_density), points(4)

    def one(mu: Tensor, sigma: Tensor, weight: Tensor, tau: Tensor, factor: Tensor) -> Tensor:
        scale = torch.arange(1, 4, dtype=mu.dtype)
        inner = -torch.dot(mu * scale, mu * scale) - torch.dot(sigma, 1.0 / scale) + torch.dot(weight.log(), scale)
        return inner - 2.0 * tau + factor[0, 1, 0] + 2.0 * factor[1, 1, 0]

    mapped = as_density(MIXTURE.density(one)).check(x)
    torch.testing.assert_close(mapped(x), model.log_density(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mapped.value_and_grad(x), as_density(model).value_and_grad(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.log_density(x[0]), model.log_density(x)[0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_those_of_the_points(dtype: torch.dtype) -> None:
    model = MIXTURE.density(log_density)
    assert model.log_density(points(3).to(dtype)).dtype == dtype
    away = model.log_density(points(3).to(dtype).to("meta"))
    assert (away.dtype, away.shape, away.device.type) == (dtype, (3,), "meta")
    Density(model.log_density, model.dim, None, dtype, torch.device("meta")).check(points(3).to(dtype).to("meta"))


def test_a_function_may_have_defaults_and_keywords() -> None:
    x = points(3)
    wanted = MIXTURE.density(log_density).log_density(x)

    def more(data: float, mu: Tensor, **others: Tensor) -> Tensor:
        return log_density(mu, **others) + data

    for function in (
        partial(more, 0.0),
        lambda mu, sigma, weight, tau, factor, data=0.0: log_density(mu, sigma, weight, tau, factor),
    ):
        torch.testing.assert_close(MIXTURE.density(function).log_density(x), wanted)


def test_a_dirichlet_through_a_simplex() -> None:
    a = torch.tensor([2.0, 3.0, 5.0], dtype=F)
    parameters = Parameters(p=Parameter(3, "simplex"))
    result = rdmc.sample(parameters.density(lambda p: ((a - 1.0) * p.log()).sum(-1)), seed=1, progressbar=False)
    p = parameters.constrain(result.samples)["p"]
    ess = torch.as_tensor(convergence(p).ess_bulk, dtype=F)
    flat = p.flatten(0, 1)
    assert_within(flat.mean(0), a / 10.0, flat.std(0) / ess.sqrt(), ess, label="mean")
    squared = (flat - a / 10.0).square()
    variance = a * (10.0 - a) / (100.0 * 11.0)
    assert_within(squared.mean(0), variance, squared.std(0) / ess.sqrt(), ess, label="variance")
    truth = float(torch.lgamma(a).sum() - torch.lgamma(a.sum()))
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert result.log_evidence_mcse < 0.05
    assert_within(result.log_evidence, truth, result.log_evidence_mcse, label="log evidence")


@pytest.mark.slow
def test_all_kinds_at_once_have_their_evidence_and_means() -> None:
    parameters = Parameters(
        scale=Parameter(2, "positive"),
        weight=Parameter((2, 3), "simplex"),
        factor=Parameter((3, 3), "corr_cholesky"),
        place=Parameter(2, ordered),
        share=Parameter((), constraints.interval(-1.0, 3.0)),
    )

    def product(scale: Tensor, weight: Tensor, factor: Tensor, place: Tensor, share: Tensor) -> Tensor:
        three, two, alpha = (torch.tensor(v, dtype=F) for v in (3.0, 2.0, [2.0, 3.0, 5.0]))
        return (
            Gamma(three, two).log_prob(scale).sum(-1)
            + Dirichlet(alpha).log_prob(weight).sum(-1)
            + LKJCholesky(3, two, validate_args=False).log_prob(factor)
            + Normal(0.0 * two, two / two).log_prob(place).sum(-1)
            - 0.0 * share
        )

    result = rdmc.sample(parameters.density(product), seed=2, draws=2000, progressbar=False)
    values = parameters.constrain(result.samples)
    corr = values["factor"] @ values["factor"].mT
    truths = {
        "scale": (values["scale"], 1.5),
        "weight": (values["weight"][..., 1, :], torch.tensor([0.2, 0.3, 0.5], dtype=F)),
        "correlation": (torch.stack([corr[..., 1, 0].square(), corr[..., 2, 1].square()], -1), 1.0 / 6.0),
        "place": (values["place"], torch.tensor([-1.0, 1.0], dtype=F) / torch.pi**0.5),
        "share": (values["share"][..., None], 1.0),
    }
    for name, (drawn, truth) in truths.items():
        ess = torch.as_tensor(convergence(drawn).ess_bulk, dtype=F)
        assert_within(drawn.flatten(0, 1).mean(0), truth, drawn.flatten(0, 1).std(0) / ess.sqrt(), ess, label=name)
    log_z = torch.log(torch.tensor(4.0 / 2.0)).item()  # an interval of length 4, and half of the plane is ordered
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert_within(result.log_evidence, log_z, result.log_evidence_mcse, label="log evidence")


def test_nothing_is_kept_of_what_the_caller_may_change() -> None:
    coords = {"component": ["a", "b"]}
    parameters = Parameters(mu=Parameter(dims="component"), coords=coords)
    coords["component"].append("c")
    assert parameters.coords["component"] == ("a", "b")
    with pytest.raises(TypeError):
        parameters.parameters["mu"] = Parameter()  # type: ignore[index]


def test_parameters_and_their_density_can_be_pickled_and_copied() -> None:
    x = points(3)
    model = MIXTURE.density(log_density)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert torch.equal(other.log_density(x), model.log_density(x))
        assert repr(other.parameters) == repr(MIXTURE) and other.parameters.coords == MIXTURE.coords
