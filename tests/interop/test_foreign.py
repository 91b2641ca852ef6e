"""JAX, NumPyro and Pyro: float64 is never lost silently, global state stays, discrete variables are refused, runs are right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rdmc import interop
from rdmc.errors import DensityError
from rdmc.interop.arviz import group
from tests.interop.optional import optional
from tests.interop.schools import TARGET, from_numpyro, from_pyro
from tests.stats import assert_within

SIZES = [0, 1, 2, 63, 64, 65, 200, 20_000]


@pytest.mark.parametrize("size", SIZES)
def test_jax_padding_and_chunks_change_nothing(size: int) -> None:
    jnp = optional("jax").numpy
    model = interop.jax.density(lambda x: -0.5 * jnp.sum((x - 1.0) ** 2), 2)
    x = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    value, grad = model.value_and_grad(x)  # type: ignore[misc]
    assert torch.allclose(value, -0.5 * (x - 1.0).square().sum(-1), rtol=1e-14)
    assert torch.equal(grad, 1.0 - x)
    assert torch.allclose(model.log_density(x), value, rtol=1e-14)
    assert model.constrain(x)["x"].shape == (size, 2)


def test_jax_keeps_float64_with_the_switch_off_and_leaves_it_off() -> None:
    jax = optional("jax")
    assert not jax.config.jax_enable_x64
    centre = np.array([1.0 + 1e-12, 2.0])
    model = interop.adapt(jax.jit(lambda x: -0.5 * jax.numpy.sum((x - centre) ** 2)), 2)
    value = model.density(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    assert float(value[0]) == pytest.approx(-0.5e-24, rel=1e-3)
    assert not jax.config.jax_enable_x64
    assert jax.numpy.zeros(1).dtype == "float32"


@pytest.mark.parametrize("back", [False, True], ids=["returned in float32", "widened again"])
def test_jax_that_loses_float64_is_told_what_to_do(back: bool) -> None:
    jax = optional("jax")

    def log_density(x: Any) -> Any:
        value = -0.5 * jax.numpy.sum(x.astype("float32") ** 2)
        return value.astype(x.dtype) if back else value

    with pytest.raises(DensityError, match=r"must keep float64.*jax_enable_x64"):
        interop.jax.density(log_density, 3)
    assert jax.numpy.zeros(1).dtype == "float32"


def test_jax_pytrees_names_and_transforms() -> None:
    jnp = optional("jax").numpy
    point = {"b": {"scale": 0.0}, "a": [np.zeros((2, 2)), 0.0]}

    def log_density(p: Any) -> Any:
        return -0.5 * (jnp.sum(p["a"][0] ** 2) + 4.0 * p["a"][1] ** 2) - jnp.exp(p["b"]["scale"]) + p["b"]["scale"]

    model = interop.jax.density(
        log_density, point, transform=lambda p: {"rate": jnp.exp(p["b"]["scale"]), "a": p["a"][0]}
    )
    assert model.names == ("a.0", "a.1", "b.scale")
    assert model.shapes == ((2, 2), (), ())
    x = torch.arange(6.0, dtype=torch.float64)[None] / 10.0
    values = model.constrain(x)
    assert np.allclose(values["rate"], math.exp(0.5)) and np.allclose(values["a"], [[[0.0, 0.1], [0.2, 0.3]]])
    assert float(model.density(x)[0]) == pytest.approx(-0.5 * (0.14 + 4.0 * 0.16) - math.exp(0.5) + 0.5)


def test_jax_vector_values_are_refused() -> None:
    optional("jax")
    with pytest.raises((DensityError, TypeError), match="scalar"):
        interop.jax.density(lambda x: -0.5 * x**2, 3)


def test_numpyro_refuses_discrete_variables() -> None:
    numpyro, dist = optional("numpyro"), optional("numpyro.distributions")

    def model() -> None:
        numpyro.sample("x", dist.Normal())
        numpyro.sample("z", dist.Bernoulli(0.3))

    with pytest.raises(ValueError, match=r"continuous latent variables only, got the discrete \['z'\]"):
        interop.numpyro.density(model)
    with pytest.raises(ValueError, match="at least one latent variable"):
        interop.numpyro.density(lambda: None)


def test_numpyro_widens_arguments() -> None:
    jax, numpyro, dist = optional("jax"), optional("numpyro"), optional("numpyro.distributions")

    def model(y: Any, n: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu * n, 0.1), obs=y / 3.0)  # a third is no float32

    adapted = interop.numpyro.density(model, jax.numpy.array([1.5, 0.75]), n=2)
    x = torch.tensor([[0.1]], dtype=torch.float64)
    expected = -0.5 * 0.01 - 0.5 * (0.3**2 + 0.05**2) / 0.01 - 1.5 * math.log(2 * math.pi) - 2 * math.log(0.1)
    assert float(adapted.density(x)[0]) == pytest.approx(expected, rel=1e-12)


def test_pyro_refuses_discrete_variables() -> None:
    pyro, dist = optional("pyro"), optional("pyro.distributions")

    def model() -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("z", dist.Bernoulli(0.3))

    with pytest.raises(ValueError, match=r"continuous latent variables only, got the discrete \['z'\]"):
        interop.pyro.density(model)
    with pytest.raises(ValueError, match="at least one latent variable"):
        interop.pyro.density(lambda: None)


def test_pyro_constants_are_float64_and_float32_data_are_refused() -> None:
    pyro, dist = optional("pyro"), optional("pyro.distributions")
    hidden = torch.tensor([0.1, 0.2])  # float32, out of reach

    def with_constants() -> None:
        pyro.sample("x", dist.HalfCauchy(0.1))

    def with_hidden() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x * hidden, 0.3).to_event(1), obs=hidden)

    z = torch.tensor([[0.3]], dtype=torch.float64)
    tau = math.exp(0.3)
    expected = math.log(2.0 / (math.pi * 0.1 * (1.0 + (tau / 0.1) ** 2))) + 0.3
    assert float(interop.pyro.density(with_constants).density(z)[0]) == pytest.approx(expected, rel=1e-13)
    with pytest.raises(DensityError, match=r"must keep float64.*x.double\(\)"):
        interop.pyro.density(with_hidden)


def test_pyro_leaves_global_state_alone() -> None:
    pyro, dist = optional("pyro"), optional("pyro.distributions")

    def model() -> None:
        pyro.sample("x", dist.Gamma(2.0, 3.0))

    before = torch.get_rng_state()
    validates = torch.distributions.Distribution._validate_args
    adapted = interop.pyro.density(model)
    x = torch.zeros(3, 1, dtype=torch.float64)
    adapted.density.value_and_grad(x)
    adapted.density.value_and_grad(x.float())
    adapted.constrain(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
    assert torch.distributions.Distribution._validate_args == validates
    assert pyro.infer.util.is_validation_enabled()


def test_pyro_modules_are_recognised() -> None:
    optional("pyro")
    import pyro.distributions as dist
    from pyro.nn import PyroModule, PyroSample

    class Prior(PyroModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3]).to_event(1))

        def forward(self) -> Any:
            return self.weight.sum()

    model = interop.adapt(Prior())
    x = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    assert float(model.density(x)[0]) == pytest.approx(-2.5 - 1.5 * math.log(2.0 * math.pi))


@pytest.mark.slow
@pytest.mark.parametrize("build", [from_numpyro, from_pyro], ids=["numpyro", "pyro"])
def test_schools_end_to_end(build: Any) -> None:
    data = interop.sample(build(), draws=1000, seed=1, progressbar=False, log_likelihood=True)
    posterior = group(data, "posterior")
    exact = TARGET.sample(400_000, torch.Generator().manual_seed(0))
    _, tau, theta = (part.numpy() for part in TARGET.constrained(exact))
    from rdmc.diagnostics.convergence import import_arviz

    az = import_arviz()
    for label, values, truth in [
        *((f"theta[{j}]", posterior["theta"].values[..., j], theta[:, j].mean()) for j in range(8)),
        ("log tau", np.log(posterior["tau"].values), np.log(tau).mean()),
    ]:
        ess = float(az.ess(values))
        assert_within(values.mean(), truth, values.std() / ess**0.5, ess, label=label)
    assert_within(posterior.attrs["log_evidence"], TARGET.log_z, posterior.attrs["log_evidence_mcse"], label="evidence")
    assert posterior["theta_tilde"].dims == ("chain", "draw", "school")
    assert group(data, "log_likelihood")["obs"].shape == (4, 1000, 8)
    assert group(data, "observed_data")["obs"].dims == ("school",)
