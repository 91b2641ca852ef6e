"""The eight schools, not centred, in every language: one posterior, whose density and draws `targets` knows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdmc import interop
from rdmc.interop import Model
from targets import eight_schools
from targets.schools import EFFECTS, ERRORS
from tests.interop.optional import optional

TARGET = eight_schools(centred=False)
Y, S = np.array(EFFECTS), np.array(ERRORS)
LETTERS = list("ABCDEFGH")


def build_pymc_model() -> Any:
    pm = optional("pymc")
    with pm.Model(coords={"school": LETTERS}) as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        theta_tilde = pm.Normal("theta_tilde", 0.0, 1.0, dims="school")
        theta = pm.Deterministic("theta", mu + tau * theta_tilde, dims="school")
        pm.Normal("obs", theta, S, observed=Y, dims="school")
    return model


@functools.cache
def pymc_model() -> Any:
    return build_pymc_model()


@functools.cache
def from_pymc() -> Model:
    return interop.adapt(pymc_model())


@functools.cache
def from_numpyro() -> Model:
    numpyro = optional("numpyro")
    dist = optional("numpyro.distributions")

    def model(y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
        with numpyro.plate("school", 8):
            theta_tilde = numpyro.sample("theta_tilde", dist.Normal(0.0, 1.0))
            theta = numpyro.deterministic("theta", mu + tau * theta_tilde)
            numpyro.sample("obs", dist.Normal(theta, S), obs=y)

    return interop.numpyro.density(model, y=Y)


@functools.cache
def from_pyro() -> Model:
    pyro = optional("pyro")
    dist = optional("pyro.distributions")

    def model(s: Tensor, y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("school", 8):
            theta_tilde = pyro.sample("theta_tilde", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * theta_tilde)
            pyro.sample("obs", dist.Normal(theta, s), obs=y)

    return interop.pyro.density(model, torch.tensor(ERRORS), y=torch.tensor(EFFECTS))


@functools.cache
def from_jax() -> Model:
    jax = optional("jax")
    jnp = jax.numpy

    def log_density(position: Any) -> Any:
        mu, tau, eta = position["mu"], jnp.exp(position["tau"]), position["theta_tilde"]
        logpdf = jax.scipy.stats.norm.logpdf
        prior = logpdf(mu, 0.0, 5.0) + logpdf(eta).sum() + jnp.log(2.0) + jax.scipy.stats.cauchy.logpdf(tau, 0.0, 5.0)
        return prior + position["tau"] + logpdf(Y, mu + tau * eta, S).sum()

    def transform(position: Any) -> Any:
        tau = jnp.exp(position["tau"])
        return {**position, "tau": tau, "theta": position["mu"] + tau * position["theta_tilde"]}

    shape = {"mu": 0.0, "tau": 0.0, "theta_tilde": np.zeros(8)}
    return interop.jax.density(log_density, shape, transform=transform, dims={"theta_tilde": ["school"]})


@np.errstate(over="ignore", invalid="ignore")
def by_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient, written out again."""
    mu, tau, eta = x[:, :1], np.exp(x[:, 1:2]), x[:, 2:]
    pull = (Y - mu - tau * eta) / S**2
    normal = -0.5 * (((Y - mu - tau * eta) / S) ** 2 + eta**2).sum(1) - 0.5 * (x[:, 0] / 5.0) ** 2
    constant = -8.5 * np.log(2.0 * np.pi) - np.log(S).sum() - np.log(5.0)
    of_tau = np.log(2.0 / (5.0 * np.pi)) - np.log1p((tau[:, 0] / 5.0) ** 2) + x[:, 1]
    by_mu = pull.sum(1, keepdims=True) - mu / 25.0
    by_log_tau = tau * (pull * eta).sum(1, keepdims=True) + 1.0 - 2.0 * (tau / 5.0) ** 2 / (1.0 + (tau / 5.0) ** 2)
    return normal + constant + of_tau, np.concatenate([by_mu, by_log_tau, tau * pull - eta], axis=1)


@functools.cache
def from_numpy() -> Model:
    names, shapes = ("mu", "tau", "theta_tilde"), ((), (), (8,))
    return interop.arrays.density(lambda x: by_numpy(x)[0], lambda x: by_numpy(x)[1], 10, names=names, shapes=shapes)


@functools.cache
def from_numpy_by_point() -> Model:
    names, shapes = ("mu", "tau", "theta_tilde"), ((), (), (8,))
    return interop.arrays.density(
        lambda x: by_numpy(x[None])[0][0], lambda x: by_numpy(x[None])[1][0], 10, names=names, shapes=shapes
    )


class FakeStan:
    """The part of BridgeStan's ``StanModel`` that the adapter uses, for the eight schools; BridgeStan needs a C++ toolchain.

    As Stan does, it throws where the density is not defined, and leaves a half Cauchy without its factor of 2.
    """

    calls: tuple[bool, bool] = (False, False)

    def param_unc_num(self) -> int:
        return 10

    def param_unc_names(self) -> list[str]:
        return ["mu", "tau", *(f"theta_tilde.{i + 1}" for i in range(8))]

    def param_names(self, *, include_tp: bool = False, include_gq: bool = False) -> list[str]:
        theta = [f"theta.{i + 1}" for i in range(8)] if include_tp else []
        return [*self.param_unc_names(), *theta, *(["m.1.1", "m.2.1", "m.1.2", "m.2.2"] if include_gq else [])]

    def param_constrain(
        self, theta_unc: Any, *, include_tp: bool = False, include_gq: bool = False, rng: Any = None
    ) -> Any:
        tau = np.exp(theta_unc[1])
        theta = theta_unc[0] + tau * theta_unc[2:] if include_tp else []
        own = [11.0, 21.0, 12.0, 22.0] if include_gq and rng is not None else []
        return np.concatenate([theta_unc[:1], [tau], theta_unc[2:], theta, own])

    def new_rng(self, seed: int) -> object:
        return object()

    def log_density(self, theta_unc: Any, *, propto: bool = True, jacobian: bool = True) -> float:
        return self.log_density_gradient(theta_unc, propto=propto, jacobian=jacobian)[0]

    def log_density_gradient(self, theta_unc: Any, *, propto: bool = True, jacobian: bool = True) -> Any:
        if theta_unc[1] > 700.0:
            raise RuntimeError("normal_lpdf: Location parameter[1] is inf, but must be finite!")
        value, grad = by_numpy(theta_unc[None])
        grad[0, 1] -= 0.0 if jacobian else 1.0
        return float(value[0] - np.log(2.0) - (5.0 if propto else 0.0) - (0.0 if jacobian else theta_unc[1])), grad[0]


FakeStan.__module__, FakeStan.__name__, FakeStan.__qualname__ = "bridgestan.model", "StanModel", "StanModel"


@functools.cache
def from_stan() -> Model:
    return interop.adapt(FakeStan())


BUILDERS = {
    "pymc": from_pymc,
    "numpyro": from_numpyro,
    "pyro": from_pyro,
    "jax": from_jax,
    "numpy": from_numpy,
    "numpy by point": from_numpy_by_point,
    "stan": from_stan,
}
CONSTANT = {"stan": np.log(2.0)}  # what Stan leaves out


def order(model: Model) -> Tensor:
    """``(10,)`` where the coordinates of the model are among those of the target: mu, log tau, eta."""
    home = {"mu": [0], "tau": [1], "tau_log__": [1], "theta_tilde": list(range(2, 10))}
    return torch.tensor([place for name in model.names for place in home[name]])
