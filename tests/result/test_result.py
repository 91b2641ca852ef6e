"""Results: what a file gives back, which files are refused, and what the texts say."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import rdmc.result as module
from rdmc.result import Result, load
from tests.result.cases import good, inner


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("levels", [0, 5])
def test_save_and_load_give_back_every_bit(tmp_path: Path, dtype: torch.dtype, levels: int) -> None:
    samples = torch.randn(2, 7, 3, dtype=torch.float64).to(dtype)
    samples[0, 0] = torch.tensor([float("nan"), -0.0, float("inf")], dtype=dtype)
    before = Result(
        samples=samples.transpose(0, 1).contiguous().transpose(0, 1),  # not contiguous
        log_density=samples[..., 0].double(),
        log_evidence=float("nan"),
        modes=good(draws=20).modes,
        inner=inner(2, levels),
        names=("a", "b", "ü"),
        seed=2**70,
        partial=True,
    )
    path = before.save(tmp_path / "run.result")
    assert [file.name for file in tmp_path.iterdir()] == ["run.result"]
    after = load(path)
    for name in ("samples", "log_density"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.dtype == other.dtype
        assert (
            one.contiguous().numpy(force=True).tobytes() == other.numpy().tobytes() if dtype != torch.bfloat16 else True
        )
        assert torch.equal(one.contiguous().view(torch.uint8), other.view(torch.uint8))
    assert list(after.inner) == list(before.inner)
    for name, values in before.inner.items():
        assert after.inner[name].dtype == values.dtype
        assert after.inner[name].tobytes() == np.ascontiguousarray(values).tobytes()
    assert after.modes == before.modes
    assert np.isnan(after.log_evidence)
    for name in ("names", "seed", "partial", "versions", "config", "sampler", "log_evidence_mcse"):
        assert getattr(after, name) == getattr(before, name), name
    assert {field.name for field in dataclasses.fields(Result)} == set(vars(after)) - {"convergence", "trace"}


def test_files_that_are_not_results_are_refused(tmp_path: Path) -> None:
    path = good(draws=20).save(tmp_path / "run.npz")
    content = path.read_bytes()
    bad = {
        "empty": b"",
        "text": b"hello, this is not a result",
        "truncated": content[: len(content) // 2],
        "flipped": content[:900] + bytes([content[900] ^ 1]) + content[901:],
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            load(tmp_path / name)
    np.savez(tmp_path / "foreign.npz", samples=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "pickle.npz", meta=np.array([{"format": "rdmc.Result"}], dtype=object))
    for name in ("foreign.npz", "array.npy", "pickle.npz"):
        with pytest.raises(ValueError, match=r"written by `Result\.save`"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "part.npz", "w") as part:
        for name in archive.namelist():
            if name != "log_density.npy":
                part.writestr(name, archive.read(name))
    with pytest.raises(ValueError, match="complete result"):
        load(tmp_path / "part.npz")


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    path = good(draws=20).save(tmp_path / "run.npz")
    monkeypatch.setattr(module, "FORMAT_VERSION", 1)
    with pytest.raises(ValueError, match=r"format version 2.*newer rdmc"):
        load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good(draws=20).save(tmp_path / "run.npz")
    before = path.read_bytes()
    (tmp_path / "link.npz").hardlink_to(path)
    good(seed=2, draws=20).save(path)
    assert (tmp_path / "link.npz").read_bytes() == before  # a reader of the old file still has it whole
    (tmp_path / "link.npz").unlink()
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        args[0].write(b"half")  # type: ignore[attr-defined]
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        good(seed=1, draws=20).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]
    with pytest.raises(ValueError, match="existing folder"):
        good(draws=20).save(tmp_path / "no" / "run.npz")


def test_trace_pools_over_populations() -> None:
    result = good(draws=20)
    trace, raw = result.trace, result.inner
    assert len(trace) == 5
    assert trace.columns[:7] == ("t", "sigma", "ess", "mcse", "acceptance", "evaluations", "seconds")
    np.testing.assert_allclose(trace.ess, raw["ess"].min(0))
    np.testing.assert_allclose(trace.mcse, np.sqrt((raw["mcse"] ** 2).mean(0)))
    np.testing.assert_allclose(trace.evaluations, 4000)
    np.testing.assert_allclose(trace.seconds, 1.0)
    np.testing.assert_allclose(trace.rhat, raw["rhat"].max(0))
    assert np.isnan(trace.acceptance[0])
    assert np.isnan(trace.jump_acceptance).all()
    empty = good(draws=20, inner={}).trace
    assert len(empty) == 0
    assert "sigma" in empty.columns


def test_texts_say_what_matters() -> None:
    result = good(names=("mu", "tau", "theta"))
    text = result.summary()
    for part in ("auto: 4 populations x 500 draws in 3 dimensions, seed 7", "10.0 gradients per draw", "1.5 s"):
        assert part in text
    for part in ("Log evidence: 0.25 +- 0.01", "Modes (3)", "4 of 4", "+-", "R-hat", "mu", "No problems found"):
        assert part in text
    assert str(result) == repr(result)
    assert len(str(result)) < 160
    assert "No problems" in result._repr_html_()
    assert "interrupted" in good(partial=True).summary()
    assert result.evaluations_per_draw == 10.0
    assert (result.chains, result.draws, result.dim) == (4, 500, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": torch.zeros(4, 3)}, r"`samples` must have shape \(chains, draws, dim\).*\(4, 3\)"),
        ({"log_density": torch.zeros(4, 3)}, r"`log_density`.*\(4, 20\).*\(4, 3\)"),
        ({"inner": {"ess": np.zeros((3, 5))}}, r"`inner`.*\(4, levels\).*\(3, 5\)"),
        ({"inner": {"ess": np.full((4, 5), None)}}, "`inner` must hold numbers"),
        ({"names": ("a", "b")}, "`names` must be 3"),
        ({"names": ("a", "b", "b")}, "`names` must be distinct"),
    ],
)
def test_wrong_fields_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        good(draws=20, **changes)


def test_scalars_of_numpy_and_torch_are_taken(tmp_path: Path) -> None:
    result = good(draws=20, log_evidence=torch.tensor(0.5), gradient_evaluations=np.int64(5), seconds=np.float32(0.5))
    assert load(result.save(tmp_path / "r.npz")).gradient_evaluations == 5
