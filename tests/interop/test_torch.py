"""`torch.distributions`, `nn.Module` energies, NumPy functions, recognition by type, and ArviZ output."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import distributions as td

import rdmc
from rdmc import interop
from rdmc.errors import DensityError
from rdmc.interop.arviz import group
from targets import eight_schools
from tests.interop.schools import FakeStan
from tests.stats import assert_within


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


LAWS = [
    td.Dirichlet(tensor([1.5, 2.0, 4.0])),
    td.Gamma(tensor(3.0), tensor(2.0)),
    td.Beta(tensor(2.0), tensor(3.0)),
    td.LogNormal(tensor(0.3), tensor(0.5)),
    td.Independent(td.Normal(tensor([[1.0, -2.0], [0.5, 0.0]]), tensor([[1.0, 0.5], [2.0, 1.0]])), 2),
    td.MultivariateNormal(tensor([1.0, -1.0]), tensor([[2.0, 0.6], [0.6, 0.5]])),
    td.LKJCholesky(3, tensor(2.0)),
    td.MixtureSameFamily(td.Categorical(tensor([0.3, 0.7])), td.Normal(tensor([-6.0, 5.0]), tensor([0.5, 1.0]))),
    td.MixtureSameFamily(
        td.Categorical(tensor([0.2, 0.8])),
        td.Independent(td.Gamma(tensor([[2.0, 9.0], [5.0, 1.0]]), tensor([[1.0, 3.0], [2.0, 1.0]])), 1),
    ),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_distribution_is_normalised_on_r_d_and_comes_back(law: td.Distribution) -> None:
    """Importance sampling with draws of the law itself, carried to R^d and blurred: the mean weight is the mass, 1."""
    model = interop.adapt(law)
    assert model.dim == torch.Size(model.shapes[0]).numel()
    n = 200_000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = law.sample((n,))
    mixture = isinstance(law, td.MixtureSameFamily)
    support = law.component_distribution.support if mixture else law.support
    z = td.biject_to(support).inv(draws).reshape(n, model.dim)
    back = model.constrain(z)["x"]
    assert np.allclose(back, draws.numpy(), atol=1e-8)
    mean, covariance = z.mean(0), torch.atleast_2d(torch.cov(z.T)) + 1e-9 * torch.eye(model.dim)
    heavy = td.MultivariateNormal(mean, 2.0 * covariance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x = heavy.sample((n,))
    weight = (model.density(x) - heavy.log_prob(x)).exp()
    ess = float(weight.sum() ** 2 / weight.square().sum())
    assert_within(weight.mean(), 1.0, float(weight.std()) / n**0.5, ess, label=type(law).__name__)


def test_a_bad_point_of_a_distribution_raises_nothing() -> None:
    model = interop.adapt(td.Gamma(tensor(3.0), tensor(2.0)))
    value = model.density(tensor([[math.nan], [0.5]]))
    assert bool(torch.isnan(value[0])) and bool(torch.isfinite(value[1]))


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (td.Normal(torch.zeros(3), torch.ones(3)), r"empty batch shape, got \(3,\).*Independent\(distribution, 1\)"),
        (td.Bernoulli(torch.tensor(0.3)), "must be continuous, got Bernoulli"),
        (
            td.MixtureSameFamily(
                td.Categorical(torch.ones(2)), td.Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))
            ),
            "components of one support",
        ),
    ],
)
def test_distributions_that_do_not_fit(law: td.Distribution, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        interop.adapt(law)


class Energy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([2.0, 0.5]))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.drop(x) * self.scale).square().sum(-1, keepdim=True)


def test_an_energy_is_minus_a_log_density_and_stays_as_it_is() -> None:
    module = Energy()
    model = interop.adapt(module, dim=2)
    x = tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    value, grad = model.density.value_and_grad(x)
    assert torch.equal(value, -0.5 * (x * tensor([2.0, 0.5])).square().sum(-1))  # no dropout, and not in float32
    assert torch.allclose(grad, -x * tensor([4.0, 0.25]))
    assert model.density(x.float()).dtype == torch.float32
    assert module.training and module.scale.requires_grad and module.scale.grad is None
    assert module.scale.dtype == torch.float32
    with torch.no_grad():
        module.scale.mul_(10.0)
    assert torch.equal(model.density(x), value)
    result = rdmc.sample(model, draws=500, progressbar=False)
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert_within(result.log_evidence, math.log(2.0 * math.pi), result.log_evidence_mcse, label="log evidence")


@pytest.mark.parametrize(
    ("logp", "grad"),
    [(lambda x: -0.5 * (x**2).sum(-1), lambda x: -x), (lambda x: -0.5 * (x @ x), lambda x: -x)],
    ids=["batched", "by point"],
)
@pytest.mark.parametrize("dim", [1, 3])
def test_numpy_functions_of_both_kinds(logp: object, grad: object, dim: int) -> None:
    model = interop.adapt((logp, grad), dim=dim)
    x = torch.randn(7, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value, slope = model.density.value_and_grad(x)
    assert torch.allclose(value, -0.5 * x.square().sum(-1)) and torch.equal(slope, -x)


def test_numpy_functions_that_do_not_fit() -> None:
    with pytest.raises(DensityError, match=r"must map \(M, d\) to \(M,\) and .* got \(4, 2\) and \(4, 2\)"):
        interop.adapt((lambda x: x, lambda x: -x), dim=2)
    with pytest.raises(DensityError, match=r"keep float64|gradient is wrong"):
        interop.adapt((lambda x: -0.5 * (x.astype(np.float32) ** 2).sum(-1).astype(float), lambda x: -x), dim=2)
    with pytest.raises(DensityError, match="gradient is wrong"):
        interop.adapt((lambda x: -0.5 * (x**2).sum(-1), lambda x: x), dim=2)


def test_stan_keeps_constants_and_takes_an_exception_for_no_density() -> None:
    model = interop.adapt(FakeStan(), include_gq=True)
    x = torch.zeros(2, 10, dtype=torch.float64)
    x[1, 1] = 701.0
    value, grad = model.density.value_and_grad(x)
    truth = eight_schools().log_density(x[:1])[0] - math.log(2.0)
    assert float(value[0]) == pytest.approx(float(truth), abs=1e-12)
    assert float(value[1]) == -math.inf == float(model.density(x)[1])
    assert bool((grad[1] == 0.0).all())
    assert np.array_equal(model.constrain(x[:1])["m"][0], [[11.0, 12.0], [21.0, 22.0]])
    with pytest.raises(ValueError, match=r"`dtype` must be torch.float64"):
        model.log_density(x.float())


def test_stan_that_throws_everywhere_is_refused() -> None:
    class Broken(FakeStan):
        def log_density_gradient(self, theta_unc: object, *, propto: bool = True, jacobian: bool = True) -> object:
            raise RuntimeError("Random variable[1] is nan")

    with pytest.raises(DensityError, match=r"threw at each of 8 points.*Random variable\[1\] is nan"):
        interop.stan.density(Broken())


def test_stan_models_whose_solver_depends_on_the_gradient_have_one_density() -> None:
    class Solved(FakeStan):
        def log_density(self, theta_unc: object, *, propto: bool = True, jacobian: bool = True) -> float:
            return 1.001 * super().log_density(theta_unc, propto=propto, jacobian=jacobian)

    density = interop.stan.density(Solved()).density
    x = torch.randn(5, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(density(x), density.value_and_grad(x)[0])
    assert torch.equal(density(x), interop.stan.density(FakeStan()).density(x))


def test_stan_matrices_are_column_major() -> None:
    names = [f"m.{i}.{j}" for j in (1, 2, 3) for i in (1, 2)]
    shape, order = interop.stan.grouped(["a", *names, "t.1:2", "t.2:2"])["m"]
    assert shape == (2, 3)
    assert [names[place - 1] for place in order] == [f"m.{i}.{j}" for i in (1, 2) for j in (1, 2, 3)]


def test_what_is_recognised() -> None:
    target = eight_schools()
    model = interop.adapt(target)
    assert model.names == target.parameter_names
    assert interop.adapt(model) is model
    assert interop.adapt(rdmc.Density(lambda x: -x.square().sum(-1), 2)).names == ("x",)
    with pytest.raises(
        ValueError, match=r"got builtins.function; for functions there are rdmc.interop.numpyro.density"
    ):
        interop.adapt(lambda x: x)


def test_coordinates_that_are_no_variables_of_the_model_say_so() -> None:
    model = interop.Model(
        rdmc.Density(lambda x: -0.5 * x.square().sum(-1), 4),
        ("mu", "tau", "log_rate", "w"),
        ((), (), (), (1,)),
        lambda x: {
            "mu": x[:, 0].numpy(),
            "tau": x[:, 1].exp().numpy(),
            "rate": x[:, 2].exp().numpy(),
            "w": torch.cat([x[:, 3:].sigmoid(), (-x[:, 3:]).sigmoid()], -1).numpy(),
        },
    )
    assert model.coordinates == ("mu", "tau_unconstrained", "log_rate", "w_unconstrained[0]")


def test_draws_come_back_with_names_dims_and_coords() -> None:
    def logp(x: np.ndarray) -> np.ndarray:
        return -0.5 * (x**2).sum(-1)

    model = interop.arrays.density(
        logp, lambda x: -x, 7, names=["a", "b"], shapes=[(), (2, 3)], dims={"b": ["row", "col"]}, coords={"row": ["r", "s"]}
    )  # fmt: skip
    assert model.coordinates[:3] == ("a", "b[0,0]", "b[0,1]")
    data = interop.sample(model, draws=20, chains=3, seed=4, sampler="mala", progressbar=False)
    posterior = group(data, "posterior")
    assert posterior["b"].dims == ("chain", "draw", "row", "col")
    assert list(posterior["row"].values) == ["r", "s"] and list(posterior["col"].values) == [0, 1, 2]
    result = rdmc.sample(model, draws=20, chains=3, seed=4, sampler="mala", progressbar=False)
    assert np.array_equal(posterior["b"].values.reshape(3, 20, 6), result.samples[..., 1:].numpy())
    assert np.array_equal(group(data, "sample_stats")["lp"].values, result.log_density.numpy())
    assert json.loads(posterior.attrs["problems"]) == result.check()
    with pytest.raises(ValueError, match="`log_likelihood` was asked for"):
        interop.to_arviz(model, result, log_likelihood=True)
    with pytest.raises(ValueError, match="wanted dimension 1, got 7"):
        interop.to_arviz(interop.adapt(LAWS[1]), result)


def test_two_variables_may_use_one_dim_for_two_lengths() -> None:
    model = interop.arrays.density(
        lambda x: -0.5 * (x**2).sum(-1), lambda x: -x, 5, names=["a", "b"], shapes=[(2,), (3,)], dims={"a": ["i"], "b": ["i"]}
    )  # fmt: skip
    posterior = group(interop.sample(model, draws=20, chains=2, sampler="mala", progressbar=False), "posterior")
    assert posterior["a"].shape == (2, 20, 2) and posterior["b"].shape == (2, 20, 3)


@pytest.mark.parametrize("build", [lambda: interop.adapt(LAWS[0]), lambda: interop.adapt(Energy(), dim=2)])
def test_adapters_can_be_sent_to_workers(build: Callable[[], interop.Model]) -> None:
    import cloudpickle

    model = build()
    x = torch.ones(3, model.dim, dtype=torch.float64)
    value = model.density(x)
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(model)).density(x), value)
