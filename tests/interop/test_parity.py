"""One posterior in seven languages: values, gradients and variables agree with the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.interop.schools import BUILDERS, CONSTANT, LETTERS, TARGET, S, Y, order

X = torch.cat(
    [
        torch.randn(500, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        4.0 * torch.randn(523, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
    ]
)  # 1023 points: not a size that batches are padded to


@pytest.mark.parametrize("language", BUILDERS)
def test_values_and_gradients(language: str) -> None:
    model = BUILDERS[language]()
    places = order(model)
    value, grad = model.density.value_and_grad(X[:, places])
    plain = model.density(X[:, places])
    truth, slope = TARGET.value_and_grad(X)
    slope = slope[:, places]
    assert value.dtype == grad.dtype == torch.float64
    off = (value + CONSTANT.get(language, 0.0) - truth).abs() / (1.0 + truth.abs())
    off_grad = (grad - slope).abs() / (1.0 + slope.abs())
    print(f"{language}: value off by {float(off.max()):.2g}, gradient by {float(off_grad.max()):.2g}")
    assert float(off.max()) < 1e-6
    assert float(off_grad.max()) < 1e-6
    assert torch.allclose(plain, value, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("language", BUILDERS)
def test_variables(language: str) -> None:
    model = BUILDERS[language]()
    mu, tau, theta = TARGET.constrained(X[:50])
    values = model.constrain(X[:50][:, order(model)])
    assert np.allclose(values["mu"], mu, rtol=1e-12)
    assert np.allclose(values["theta_tilde"], X[:50, 2:], rtol=1e-12)
    if "numpy" not in language:  # nothing says there how variables follow from the flat vector
        assert np.allclose(values["tau"], tau, rtol=1e-12)
        assert np.allclose(values["theta"], theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("language", ["pymc", "numpyro", "pyro"])
def test_log_likelihood(language: str) -> None:
    model = BUILDERS[language]()
    assert model.log_likelihood is not None
    theta = TARGET.constrained(X[:50])[2].numpy()
    values = model.log_likelihood(X[:50][:, order(model)])
    assert list(values) == ["obs"]
    assert np.allclose(values["obs"], stats.norm.logpdf(Y, theta, S), rtol=1e-9)
    assert np.array_equal(model.observed_data["obs"], Y)


@pytest.mark.parametrize("language", ["pymc", "numpyro", "pyro"])
def test_dims(language: str) -> None:
    model = BUILDERS[language]()
    assert list(model.dims["theta_tilde"]) == ["school"]
    assert list(model.dims["obs"]) == ["school"]
    assert list(model.coords["school"]) == (LETTERS if language == "pymc" else list(range(8)))


@pytest.mark.parametrize("language", ["numpyro", "pyro", "jax"])
def test_float32_is_kept_too(language: str) -> None:
    model = BUILDERS[language]()
    x = X[:5, order(model)]
    value, grad = model.density.value_and_grad(x.float())
    truth, _ = model.density.value_and_grad(x)
    assert value.dtype == grad.dtype == torch.float32
    assert torch.allclose(value.double(), truth, rtol=1e-5)


@pytest.mark.parametrize("language", BUILDERS)
def test_adapters_can_be_sent_to_workers(language: str) -> None:
    import cloudpickle

    model = BUILDERS[language]()
    value = model.density(X[:3])
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(model)).density(X[:3]), value)
