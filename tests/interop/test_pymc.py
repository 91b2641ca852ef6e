"""PyMC models end to end: what comes back is what `pm.sample` gives, and the moments are right."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from rdmc import interop
from rdmc.diagnostics.convergence import import_arviz
from rdmc.interop.arviz import group
from tests.interop.optional import optional
from tests.interop.schools import TARGET, build_pymc_model, pymc_model
from tests.stats import assert_within

pm: Any = optional("pymc")
az: Any = import_arviz()

pytestmark = [
    pytest.mark.slow,  # PyTensor compiles for up to a minute
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pymc.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:arviz.*"),
]


def groups(data: Any) -> set[str]:
    return set(data.children) if hasattr(data, "children") else set(data.groups())


def assert_mean(data: Any, name: str, truth: Any, function: Any = lambda x: x) -> None:
    """The mean of a function of a variable, within 5 standard errors by the ESS of each element."""
    values = function(group(data, "posterior")[name])
    for index in np.ndindex(values.shape[2:]):
        element = values.values[(slice(None), slice(None), *index)]
        ess = float(az.ess(element))
        label = f"{name}{list(index)}"
        assert_within(
            element.mean(), np.broadcast_to(truth, values.shape[2:])[index], element.std() / ess**0.5, ess, label=label
        )


@functools.cache
def schools() -> Any:
    return interop.pymc.sample(
        pymc_model(), draws=1000, seed=3, progressbar=False, idata_kwargs={"log_likelihood": True}
    )


@functools.cache
def schools_by_pymc() -> Any:
    with pymc_model():
        options = {"idata_kwargs": {"log_likelihood": True}, "compute_convergence_checks": False}
        return pm.sample(100, tune=100, chains=2, cores=1, random_seed=1, progressbar=False, **options)


def test_groups_variables_dims_and_coords_are_those_of_pymc() -> None:
    ours, theirs = schools(), schools_by_pymc()
    assert groups(theirs) <= groups(ours)
    for name in ("posterior", "log_likelihood", "observed_data"):
        mine, other = group(ours, name), group(theirs, name)
        assert set(mine.data_vars) == set(other.data_vars)
        for variable in other.data_vars:
            assert mine[variable].dims == other[variable].dims
            assert mine[variable].dtype == other[variable].dtype
            for dim in set(other[variable].dims) - {"chain", "draw"}:
                assert list(mine[dim].values) == list(other[dim].values)
    assert np.array_equal(group(ours, "observed_data")["obs"], group(theirs, "observed_data")["obs"])


def test_log_likelihood_is_that_of_pymc() -> None:
    ours = schools()
    again = pm.compute_log_likelihood(ours, model=pymc_model(), extend_inferencedata=False, progressbar=False)
    again = again.get("log_likelihood", again)
    assert np.allclose(group(ours, "log_likelihood")["obs"], again["obs"], rtol=1e-9)


def test_schools_agree_with_exact_draws() -> None:
    ours = schools()
    exact = TARGET.sample(400_000, torch.Generator().manual_seed(0))
    _, tau, theta = (part.numpy() for part in TARGET.constrained(exact))
    assert_mean(ours, "theta", theta.mean(0))
    assert_mean(ours, "theta", (theta**2).mean(0), lambda x: x**2)
    assert_mean(ours, "tau", np.log(tau).mean(), np.log)
    assert_mean(ours, "tau", (tau > 5.0).mean(), lambda x: (x > 5.0) * 1.0)
    attrs = group(ours, "posterior").attrs
    assert_within(attrs["log_evidence"], TARGET.log_z, attrs["log_evidence_mcse"], label="log evidence")
    assert json.loads(attrs["problems"]) == []


def test_schools_agree_with_pymc() -> None:
    with pymc_model():
        theirs = pm.sample(1000, tune=1000, chains=2, cores=1, target_accept=0.95, random_seed=1, progressbar=False)
    ours = schools()
    for name in ("mu", "tau", "theta"):
        mine, other = group(ours, "posterior")[name], group(theirs, "posterior")[name]
        for index in np.ndindex(mine.shape[2:]):
            a, b = mine.values[(..., *index)], other.values[(..., *index)]
            ess = float(az.ess(a)), float(az.ess(b))
            error = math.hypot(a.std() / ess[0] ** 0.5, b.std() / ess[1] ** 0.5)
            assert_within(a.mean(), b.mean(), error, min(ess), label=name)


def test_what_arviz_and_pymc_do_next_works() -> None:
    ours = schools()
    assert math.isfinite(float(getattr(az.loo(ours), "elpd", None) or az.loo(ours).elpd_loo))
    model = build_pymc_model()
    with model:
        predicted = pm.sample_posterior_predictive(ours, random_seed=1, progressbar=False)
    y = group(predicted, "posterior_predictive")["obs"]
    assert y.shape == (4, 1000, 8)
    assert y.dims == ("chain", "draw", "school")
    x = torch.ones(1, 10, dtype=torch.float64)  # PyMC 5 lists observed variables twice after this
    assert torch.equal(interop.adapt(model).density(x), interop.adapt(pymc_model()).density(x))


def conjugate(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    y = rng.normal(2.0, 1.5, 20)
    with pm.Model() as model:
        data = pm.Data("y_data", y)
        mu = pm.Normal("mu", 1.0, 2.0)
        pm.Deterministic("above", mu > 2.0)
        pm.Deterministic("fixed", pm.math.constant(3.0) if hasattr(pm.math, "constant") else data[0] * 0.0 + 3.0)
        pm.Normal("y", mu, 1.5, observed=data)
    return model, y


def closed(y: np.ndarray) -> tuple[float, float, float]:
    """Posterior mean, standard deviation and log evidence of the conjugate normal."""
    precision = 1.0 / 4.0 + len(y) / 1.5**2
    mean = (1.0 / 4.0 + y.sum() / 1.5**2) / precision
    covariance = 1.5**2 * np.eye(len(y)) + 4.0
    return mean, precision**-0.5, float(stats.multivariate_normal(np.full(len(y), 1.0), covariance).logpdf(y))


def test_conjugate_normal_with_a_data_container() -> None:
    model, y = conjugate(np.random.default_rng(0))
    with model:  # the model of the block
        ours = interop.pymc.sample(draws=1000, random_seed=np.random.default_rng(5), progressbar=False)
    mean, sd, log_z = closed(y)
    assert_mean(ours, "mu", mean)
    assert_mean(ours, "mu", sd**2, lambda x: (x - mean) ** 2)
    assert_mean(ours, "above", stats.norm.sf(2.0, mean, sd), lambda x: x * 1.0)
    posterior = group(ours, "posterior")
    assert np.all(posterior["fixed"] == 3.0)
    assert posterior["fixed"].shape == (4, 1000)
    assert_within(posterior.attrs["log_evidence"], log_z, posterior.attrs["log_evidence_mcse"], label="log evidence")
    assert np.array_equal(group(ours, "constant_data")["y_data"], y) if "constant_data" in groups(ours) else True


def test_new_data_are_seen() -> None:
    model, y = conjugate(np.random.default_rng(0))
    adapted = interop.adapt(model)
    x = torch.zeros(3, 1, dtype=torch.float64)
    before = adapted.log_density(x)[0]
    with model:
        pm.set_data({"y_data": y + 1.0})
    expected = stats.norm.logpdf(y + 1.0, 0.0, 1.5).sum() - stats.norm.logpdf(y, 0.0, 1.5).sum()
    assert float(adapted.log_density(x)[0] - before) == pytest.approx(expected, rel=1e-9)


def test_simplex_ordered_positive_potential_and_deterministic() -> None:
    coords = {"part": ["a", "b", "c"]}
    with pm.Model(coords=coords) as model:
        share = pm.Dirichlet("share", np.array([1.0, 2.0, 4.0]), dims="part")
        levels = pm.Normal(
            "levels", 0.0, 1.0, shape=2, transform=pm.distributions.transforms.ordered, initval=[-1.0, 1.0]
        )
        rate = pm.Exponential("rate", 2.0)
        pm.Potential("tilt", -1.0 * rate)  # Exponential(2) tilted by 1 is Exponential(3)
        pm.Deterministic("gap", levels[1] - levels[0])
        pm.Deterministic("log_share", pm.math.log(share), dims="part")
    ours = interop.pymc.sample(model, draws=2000, seed=1, progressbar=False)
    posterior = group(ours, "posterior")
    assert posterior["share"].dims == ("chain", "draw", "part")
    assert list(posterior["part"].values) == coords["part"]
    assert set(posterior.data_vars) == {"share", "levels", "rate", "gap", "log_share"}
    assert np.allclose(posterior["share"].sum("part"), 1.0)
    alpha = np.array([1.0, 2.0, 4.0])
    assert_mean(ours, "share", alpha / 7.0)
    assert_mean(ours, "share", alpha * (alpha + 1.0) / 56.0, lambda x: x**2)
    assert_mean(ours, "rate", 1.0 / 3.0)
    assert_mean(ours, "gap", 2.0 / math.sqrt(math.pi))  # mean range of two standard normals
    assert np.all(posterior["gap"] > 0.0)
    # 2/3 by the tilt, and half of the plane is ordered
    log_z = math.log(2.0 / 3.0) + math.log(0.5)
    assert_within(posterior.attrs["log_evidence"], log_z, posterior.attrs["log_evidence_mcse"], label="log evidence")


def test_a_bad_parameter_has_no_density_and_spoils_no_other_point() -> None:
    with pm.Model() as model:
        scale = pm.Normal("scale", 1.0, 1.0)
        pm.Normal("y", 0.0, scale, observed=0.5)
    value, grad = interop.adapt(model).density.value_and_grad(torch.tensor([[-1.0], [2.0]], dtype=torch.float64))
    assert float(value[0]) == -math.inf
    assert float(value[1]) == pytest.approx(stats.norm.logpdf(2.0, 1.0, 1.0) + stats.norm.logpdf(0.5, 0.0, 2.0))
    assert float(grad[1]) == pytest.approx(-1.0 - 0.5 + 0.25 / 8.0)


def test_two_modes_where_nuts_disagrees_with_itself() -> None:
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 5.0)
        pm.Normal("square", x**2, 2.0, observed=25.0)
        pm.Normal("side", x, 6.0, observed=1.0)
    with model:
        nuts = pm.sample(
            500, tune=500, chains=4, cores=1, random_seed=2, progressbar=False, compute_convergence_checks=False,
            initvals=[{"x": 4.0}, {"x": -4.0}, {"x": 4.0}, {"x": -4.0}],
        )  # fmt: skip
    rhat = float(az.rhat(group(nuts, "posterior")["x"].values))
    assert rhat > 1.1, f"NUTS agrees with itself: {rhat}"
    grid = np.linspace(-12.0, 12.0, 240_001)
    log_p = (
        stats.norm.logpdf(grid, 0.0, 5.0) + stats.norm.logpdf(25.0, grid**2, 2.0) + stats.norm.logpdf(1.0, grid, 6.0)
    )
    mass = np.exp(log_p) * (grid[1] - grid[0])
    truth = mass[grid > 0].sum() / mass.sum()
    adapted, result = interop.pymc.run(model, draws=1000, seed=0, progressbar=False)
    modes = {
        location[0] > 0: (w, e)
        for location, w, e in zip(*(result.modes[k] for k in ("location", "weight", "weight_mcse")), strict=True)
    }
    assert len(result.modes) == 2
    weight, error = modes[True]
    assert error < 0.02
    assert_within(weight, truth, error, label="weight of the right mode")
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    assert_within(result.log_evidence, math.log(mass.sum()), result.log_evidence_mcse, label="log evidence")
    ours = interop.to_arviz(adapted, result)
    assert float(az.rhat(group(ours, "posterior")["x"].values)) < 1.01
    assert_mean(ours, "x", (grid * mass).sum() / mass.sum())


def test_discrete_variables_are_refused() -> None:
    with pm.Model() as model:
        pm.Normal("x")
        pm.Bernoulli("z", 0.3)
        pm.Poisson("k", 2.0)
    with pytest.raises(
        ValueError, match=r"continuous free variables only, got the discrete \['z', 'k'\]: sum them out"
    ):
        interop.pymc.sample(model)


def test_wrong_arguments_are_named() -> None:
    with pm.Model() as empty:
        pm.Normal("y", 0.0, 1.0, observed=1.0)
    with pytest.raises(ValueError, match="at least one free variable"):
        interop.pymc.density(empty)
    with pytest.raises(ValueError, match="`seed` and `random_seed`"):
        interop.pymc.sample(pymc_model(), seed=1, random_seed=2)
    with pytest.raises(ValueError, match="`idata_kwargs`"):
        interop.pymc.sample(pymc_model(), idata_kwargs={"dims": {}})


def test_a_subset_of_the_variables() -> None:
    adapted, result = interop.run(interop.adapt(pymc_model()), draws=10, chains=2, progressbar=False, sampler="mala")
    assert set(group(interop.to_arviz(adapted, result, var_names=["mu", "theta"]), "posterior").data_vars) == {
        "mu",
        "theta",
    }
    with pytest.raises(ValueError, match=r"`var_names` must be among .* got \['nu'\]"):
        interop.to_arviz(adapted, result, var_names=["nu"])


def test_point_by_point_where_pytensor_cannot_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import pytensor.graph.replace as replacing

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("no batch")

    x = torch.randn(5, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batched = interop.adapt(pymc_model())
    truth, slope = batched.density.value_and_grad(x)
    variables = batched.constrain(x)
    monkeypatch.setattr(replacing, "vectorize_graph", refuse)
    single = interop.adapt(pymc_model())
    value, grad = single.density.value_and_grad(x)
    assert "point by point" in caplog.text
    assert torch.allclose(value, truth, rtol=1e-12) and torch.allclose(grad, slope, rtol=1e-12)
    assert all(np.allclose(values, variables[name]) for name, values in single.constrain(x).items())
