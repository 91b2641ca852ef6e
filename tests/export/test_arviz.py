"""To ArviZ: the same laws hold for InferenceData (0.x) and DataTree (1.x); run this file under both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rdmc.diagnostics.convergence import convergence, import_arviz
from rdmc.export import to_arviz, write_netcdf
from rdmc.result import Result
from rdmc.table import Table

pytest.importorskip("arviz")
az = import_arviz()
NEW = int(az.__version__.split(".")[0]) >= 1


def group(data: Any, name: str) -> Any:
    return data[name].to_dataset() if NEW else data[name]


def groups(data: Any) -> set[str]:
    return set(data.children) if NEW else set(data.groups())


def result(**changes: Any) -> Result:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4, 50, 3, generator=generator, dtype=torch.float64)
    sigma = np.broadcast_to(np.array([4.0, 1.0, 0.1]), (4, 3))
    fields: dict[str, Any] = {
        "samples": samples,
        "log_density": -0.5 * samples.square().sum(-1),
        "log_evidence": 2.5,
        "log_evidence_mcse": 0.1,
        "gradient_evaluations": 1000,
        "density_evaluations": 10,
        "seconds": 0.5,
        "modes": Table({}),
        "inner": {"sigma": sigma, "ess": np.arange(12.0).reshape(4, 3), "acceptance": np.full((4, 3), np.nan)},
        "sampler": "auto",
        "config": "Auto(rounds=2)",
        "seed": 7,
    }
    return Result(**(fields | changes))


def check_groups(data: Any, given: Result) -> None:
    assert groups(data) == {"posterior", "sample_stats", "inner"}
    posterior = group(data, "posterior")
    assert posterior["x"].dims == ("chain", "draw", "x_dim")
    np.testing.assert_array_equal(posterior["x"].values, given.samples.numpy())
    assert posterior["draw"].values.tolist() == list(range(50))
    stats = group(data, "sample_stats")
    assert set(stats.data_vars) == {"lp"}
    np.testing.assert_array_equal(stats["lp"].values, given.log_density.numpy())
    inner = group(data, "inner")
    assert inner["ess"].dims == ("chain", "level")
    assert inner["sigma"].dims == ("level",)
    assert inner["sigma"].values.tolist() == [4.0, 1.0, 0.1]
    assert "sigma" in inner.coords
    assert np.isnan(inner["acceptance"].values).all()
    assert inner["level"].values.tolist() == [0, 1, 2]


def check_attributes(data: Any) -> None:
    attrs = group(data, "posterior").attrs
    assert attrs["inference_library"] == attrs["creation_library"] == "rdmc"
    assert attrs["sampler"] == "auto"
    assert attrs["config"] == "Auto(rounds=2)"
    assert int(attrs["seed"]) == 7
    assert int(attrs["gradient_evaluations"]) == 1000
    assert float(attrs["sampling_time"]) == 0.5
    assert float(attrs["log_evidence"]) == 2.5
    assert int(attrs["partial"]) == 0
    assert attrs["created_at"].endswith("+00:00")
    assert "torch" in json.loads(attrs["versions"])
    assert {"inference_library_version", "density_evaluations"} <= set(attrs)


def test_type_groups_dims_and_attributes() -> None:
    given = result()
    data = given.to_arviz()
    assert type(data).__name__ == ("DataTree" if NEW else "InferenceData")
    check_groups(data, given)
    check_attributes(data)


def test_netcdf_round_trip(tmp_path: Path) -> None:
    given = result()
    path = write_netcdf(given, tmp_path / "run.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]
    data = az.from_netcdf(str(path))
    check_groups(data, given)
    check_attributes(data)
    if hasattr(data, "close"):
        data.close()


@pytest.mark.parametrize("seed", [None, 2**100, -1])
def test_attributes_that_netcdf_cannot_hold_become_text(tmp_path: Path, seed: int | None) -> None:
    nothing = result(seed=seed, log_evidence=None, log_evidence_mcse=None, seconds=float("nan"), partial=True, inner={})
    path = write_netcdf(nothing, tmp_path / "run.nc")
    data = az.from_netcdf(str(path))
    attrs = group(data, "posterior").attrs
    assert json.loads(str(attrs["seed"])) == seed
    assert "log_evidence" not in attrs
    assert int(attrs["partial"]) == 1
    assert groups(data) == {"posterior", "sample_stats"}
    if hasattr(data, "close"):
        data.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_floating_type_can_be_written(tmp_path: Path, dtype: torch.dtype) -> None:
    given = result(samples=torch.randn(2, 6, 3).to(dtype), log_density=torch.zeros(2, 6, dtype=dtype), inner={})
    write_netcdf(given, tmp_path / "run.nc")
    np.testing.assert_array_equal(group(given.to_arviz(), "posterior")["x"].values, given.samples.float().numpy())


def test_names_make_scalar_variables() -> None:
    given = result(names=("mu", "tau", "theta"))
    for data in (given.to_arviz(), result().to_arviz(names=["mu", "tau", "theta"])):
        posterior = group(data, "posterior")
        assert list(posterior.data_vars) == ["mu", "tau", "theta"]
        assert posterior["tau"].dims == ("chain", "draw")
        np.testing.assert_array_equal(posterior["tau"].values, given.samples[..., 1].numpy())
    assert set(group(given.to_arviz(["a", "b", "c"]), "posterior").data_vars) == {"a", "b", "c"}


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "b"], ["a", "b", "chain"], ["a", "b", ""], "abc", [1, 2, 3]])
def test_wrong_names_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="`names` must be"):
        to_arviz(result(), names)


def test_noise_levels_that_differ_between_populations_stay_per_population() -> None:
    sigma = np.arange(12.0).reshape(4, 3)
    inner = group(result(inner={"sigma": sigma}).to_arviz(), "inner")
    assert inner["sigma"].dims == ("chain", "level")
    np.testing.assert_array_equal(inner["sigma"].values, sigma)


def test_arviz_reads_the_object_as_its_own() -> None:
    given = result()
    data = given.to_arviz()
    assert az.summary(data).shape[0] == 3
    rhat = az.rhat(group(data, "posterior"), method="rank")["x"].values
    np.testing.assert_allclose(rhat, convergence(given.samples).rhat, rtol=1e-12)


def test_a_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="existing folder"):
        write_netcdf(result(), tmp_path / "no" / "run.nc")
    with pytest.raises(ValueError, match="got the folder"):
        write_netcdf(result(), tmp_path)
