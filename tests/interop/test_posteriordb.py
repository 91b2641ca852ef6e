"""The benchmark on posteriordb reads its layout, and tells draws of the posterior from draws of another law."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rdmc
from benchmarks import posteriordb
from rdmc.interop import stan
from targets import eight_schools
from tests.interop.schools import FakeStan

THETA = [f"theta[{i + 1}]" for i in range(8)]


def archive(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path.with_suffix(".json.zip"), "w") as file:
        file.writestr(path.with_suffix(".json").name, json.dumps(value))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of one posterior with draws of another run for a reference, and of one without any."""
    adapted = stan.density(FakeStan())
    result = rdmc.sample(eight_schools(), draws=500, seed=7, progressbar=False)
    own = posteriordb.scalars(adapted.constrain(result.samples.reshape(-1, 10)))
    chains = [{name: own[name][i::4].tolist() for name in ["mu", "tau", *THETA]} for i in range(4)]
    archive(tmp_path / "reference_posteriors/draws/draws/schools-reference", chains)
    archive(tmp_path / "data/data/schools", {"J": 8})
    (tmp_path / "posteriors").mkdir()
    for name, reference in (("schools-centred", "schools-reference"), ("other", None), ("lost", "not-there")):
        about = {"model_name": "m", "data_name": "schools", "reference_posterior_name": reference}
        (tmp_path / "posteriors" / f"{name}.json").write_text(json.dumps(about))
    return tmp_path


@pytest.mark.slow
def test_the_benchmark_measures_and_goes_on_where_it_stopped(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def load(folder: Path, about: Any) -> FakeStan:
        asked.append(json.loads(posteriordb.unzipped(folder / "data" / "data" / f"{about['data_name']}.json.zip")))
        return FakeStan()

    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["-", "--database", str(database), "--seeds", "1", "--out", str(out)])
    posteriordb.main(load)
    record = json.loads((out / "posteriordb.jsonl").read_text())
    assert asked == [{"J": 8}] and record["key"] == "schools-centred/0"
    assert record["scalars"] == 10 and record["dim"] == 10
    assert record["ks_ratio"] < 1.5 and record["z_rms"] < 2.0
    posteriordb.main(load)
    assert len(asked) == 1 and "1 posteriors, 1 runs" in capsys.readouterr().out


def test_draws_of_another_law_are_told() -> None:
    rng = np.random.default_rng(0)
    reference = {"a": rng.normal(size=10_000), "b[1]": rng.normal(size=10_000)}
    same = posteriordb.compare({"a": rng.normal(size=1000), "c": rng.normal(size=1000)}, reference)
    moved = posteriordb.compare({"a": rng.normal(size=1000), "b[1]": 0.3 + rng.normal(size=1000)}, reference)
    assert same["scalars"] == 1 and same["ks_ratio"] < 1.7 and same["z_worst"] < 3.5
    assert moved["ks_worst"] > 2.5 and moved["worst"] == "b[1]" and moved["z_worst"] > 6.0
    with pytest.raises(ValueError, match=r"must share names with the model, which has \['x'\]"):
        posteriordb.compare({"x": rng.normal(size=10)}, reference)
