"""Named draws in ArviZ: the same laws for InferenceData (0.x) and DataTree (1.x); run this file under both."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rdmc.diagnostics.convergence import import_arviz
from rdmc.parameters import Parameter, Parameters
from rdmc.result import Result
from tests.parameters.cases import F

pytest.importorskip("arviz")
az = import_arviz()
NEW = int(az.__version__.split(".")[0]) >= 1

PARAMETERS = Parameters(
    mu=Parameter((2, 3), dims=("side", "component")),
    tau=Parameter((), "positive"),
    weight=Parameter((2, 3), "simplex", dims=("side", "component")),
    factor=Parameter((2, 2), "corr_cholesky"),
    coords={"component": ["a", "b", "c"]},
)


def group(data: Any, name: str) -> Any:
    return data[name].to_dataset() if NEW else data[name]


def result(parameters: Parameters = PARAMETERS, **changes: Any) -> Result:
    samples = torch.randn(4, 50, parameters.dim, generator=torch.Generator().manual_seed(0), dtype=F)
    fields: dict[str, Any] = {
        "samples": samples,
        "log_density": samples.sum(-1),
        "inner": {"sigma": np.ones((4, 3)), "ess": np.arange(12.0).reshape(4, 3)},
        "sampler": "auto",
        "seed": 7,
    }
    return Result(**(fields | changes))


def check(data: Any, given: Result) -> None:
    assert set(data.children if NEW else data.groups()) == {
        "posterior",
        "unconstrained_posterior",
        "sample_stats",
        "inner",
    }
    posterior, real = group(data, "posterior"), group(data, "unconstrained_posterior")
    values = PARAMETERS.constrain(given.samples)
    assert {name: tuple(posterior[name].dims[2:]) for name in posterior.data_vars} == {
        "mu": ("side", "component"),
        "tau": (),
        "weight": ("side", "component"),
        "factor": ("factor_dim_0", "factor_dim_1"),
    }
    assert all(posterior[name].dims[:2] == ("chain", "draw") for name in posterior.data_vars)
    for name, value in values.items():
        np.testing.assert_array_equal(posterior[name].values, value.numpy())
    assert posterior["component"].values.tolist() == ["a", "b", "c"] and posterior["side"].values.tolist() == [0, 1]
    assert posterior["factor_dim_1"].values.tolist() == [0, 1] and posterior["draw"].values.tolist() == list(range(50))
    assert {name: tuple(real[name].dims[2:]) for name in real.data_vars} == {
        "tau": (),
        "weight": ("side", "weight_unconstrained_dim_0"),
        "factor": ("factor_unconstrained_dim_0",),
    }
    for name, part in PARAMETERS.slices.items():
        if name != "mu":
            np.testing.assert_array_equal(real[name].values.reshape(4, 50, -1), given.samples[..., part].numpy())
    np.testing.assert_array_equal(group(data, "sample_stats")["lp"].values, given.log_density.numpy())
    assert posterior.attrs["sampler"] == real.attrs["sampler"] == "auto" and int(posterior.attrs["seed"]) == 7


def test_type_groups_names_dims_coordinates_and_attributes() -> None:
    for given in (result(), result(names=[f"z{i}" for i in range(PARAMETERS.dim)])):
        data = PARAMETERS.to_arviz(given)
        assert type(data).__name__ == ("DataTree" if NEW else "InferenceData")
        check(data, given)


def test_a_pickled_copy_does_the_same() -> None:
    check(pickle.loads(pickle.dumps(PARAMETERS)).to_arviz(result()), result())


def test_netcdf_round_trip(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    given = result()
    PARAMETERS.to_arviz(given).to_netcdf(str(tmp_path / "run.nc"), engine="h5netcdf")
    data = az.from_netcdf(str(tmp_path / "run.nc"))
    check(data, given)
    if hasattr(data, "close"):
        data.close()


def test_arviz_reads_the_object_as_its_own() -> None:
    summary = az.summary(PARAMETERS.to_arviz(result()), var_names=["weight", "tau"])
    assert list(summary.index) == [f"weight[{i}, {c}]" for i in (0, 1) for c in "abc"] + ["tau"]


def test_without_constraints_nothing_is_unconstrained() -> None:
    parameters = Parameters(mu=Parameter(3), nu=Parameter())
    data = parameters.to_arviz(result(parameters))
    assert set(data.children if NEW else data.groups()) == {"posterior", "sample_stats", "inner"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_floating_type_can_be_exported(dtype: torch.dtype) -> None:
    parameters = Parameters(mu=Parameter(3), tau=Parameter(2, "positive"))
    given = result(parameters)
    less = result(parameters, samples=given.samples.to(dtype), log_density=given.log_density.to(dtype))
    data = group(parameters.to_arviz(less), "posterior")
    assert data["tau"].values.dtype == np.float32
    np.testing.assert_allclose(
        data["tau"].values, group(parameters.to_arviz(given), "posterior")["tau"].values, rtol=0.05
    )


def test_other_values_take_the_place_of_the_draws() -> None:
    given = result()
    values = PARAMETERS.constrain(given.samples)
    swapped = values | {"weight": values["weight"].flip(-1).numpy()}
    data = PARAMETERS.to_arviz(given, swapped)
    assert set(data.children if NEW else data.groups()) == {"posterior", "sample_stats", "inner"}
    posterior = group(data, "posterior")
    np.testing.assert_array_equal(posterior["weight"].values, values["weight"].flip(-1).numpy())
    np.testing.assert_array_equal(posterior["mu"].values, values["mu"].numpy())
    assert posterior["component"].values.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"`values` must hold 'tau' of shape \(4, 50\), got nothing"):
        PARAMETERS.to_arviz(given, {name: value for name, value in values.items() if name != "tau"})
    with pytest.raises(ValueError, match=r"'tau' of shape \(4, 50\), got \(4, 49\)"):
        PARAMETERS.to_arviz(given, values | {"tau": values["tau"][:, :49]})


def test_a_run_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="`result` must be a run of these parameters: wanted 12 coordinates, got 3"):
        PARAMETERS.to_arviz(result(Parameters(mu=Parameter(3))))
