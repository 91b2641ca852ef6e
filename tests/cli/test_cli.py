"""The command line: what TARGET may be, exit codes, and one-line messages; sampling itself is a fake."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import rdmc
from rdmc.cli import app
from rdmc.errors import DensityError, NonFiniteDensityError
from rdmc.result import Result, load

ROOT = Path(__file__).parents[2]
MODEL = """
import torch, helper
class Model:
    name, dim, source = "model", 3, "nowhere"
    def log_density(self, x): return -x.square().sum(-1)
target = Model()
def factory(): return Model()
def sized(dim, scale=1.0):
    m = Model(); m.dim = dim; return m
def density(x): return -x.square().sum(-1)
def broken(): raise RuntimeError("no data file")
def wrong(): return 3
number = 3
class inside:
    target = target
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces ``rdmc.sample`` by one that writes its arguments down."""
    seen: list[dict[str, Any]] = []

    def sample(log_density: Any, dim: int | None = None, draws: int = 1000, chains: int = 4, **options: Any) -> Result:
        seen.append({"log_density": log_density, "dim": dim, "draws": draws, "chains": chains, **options})
        width = dim or log_density.dim
        samples = torch.randn(chains, draws, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return Result(samples=samples, log_density=samples[..., 0], sampler=options["sampler"], seed=options["seed"])

    monkeypatch.setattr(rdmc, "sample", sample, raising=False)
    return seen


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "bad.py").write_text("import torch\n1 / 0\n")
    (tmp_path / "needs.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    for name in ("my_model", "helper", "bad", "needs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("my_model", "helper", "bad", "needs"):
        sys.modules.pop(name, None)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("target", "options", "dim"),
    [
        ("my_model.py:target", [], 3),
        ("my_model:target", [], 3),
        ("my_model:inside.target", [], 3),
        ("my_model.py:factory", [], 3),
        ("my_model.py:sized", ["--dim", "5"], 5),
        ("my_model.py:density", ["--dim", "2"], 2),
    ],
)
def test_what_a_target_may_be(calls: list, folder: Path, target: str, options: list[str], dim: int) -> None:
    before = list(sys.path)
    done = run("sample", target, *options, "--draws", 200, "--chains", 2, "--seed", 9, "--no-progress")
    assert done.exit_code == 0, done.output
    assert "2 populations x 200 draws" in done.stdout
    (call,) = calls
    assert (call["dim"] or call["log_density"].dim) == dim
    assert {name: call[name] for name in ("draws", "chains", "seed", "sampler", "progressbar")} == {
        "draws": 200,
        "chains": 2,
        "seed": 9,
        "sampler": "auto",
        "progressbar": False,
    }
    assert sys.path == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_model.py"], "package.module:attribute or file.py:attribute"),
        (["absent.py:target"], "no file 'absent.py'"),
        (["absent:target"], "no module 'absent'"),
        (["my_model.absent:target"], "my_model"),
        (["needs.py:x"], "a_module_that_is_not_there"),
        (["bad.py:x"], "importing 'bad.py' failed: ZeroDivisionError"),
        (["my_model.py:tarjet"], "no attribute 'tarjet'; there are"),
        (["my_model.py:number"], "must be a target or callable, got int"),
        (["my_model.py:density"], "say --dim"),
        (["my_model.py:broken"], "RuntimeError: no data file"),
        (["my_model.py:wrong"], "must return a target, got int"),
        (["my_model.py:target", "--out", "run.csv"], "--out must end in .nc"),
        (["my_model.py:target", "--out", "no/run.nc"], "existing folder"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(calls: list, folder: Path, arguments: list[str], message: str) -> None:
    done = run("sample", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("rdmc: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert calls == []


@pytest.mark.parametrize(
    "arguments", [["sample"], ["sample", "a:b", "--draws", "0"], ["sample", "a:b", "--nope"], ["nope"]]
)
def test_wrong_options_are_code_2(calls: list, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DensityError("`log_density` must map\n(M, d) to (M,)"), 2),
        (ValueError("`sampler` must be one of auto, got nope"), 2),
        (NonFiniteDensityError("too many NaN"), 1),
    ],
)
def test_errors_of_a_run_are_one_line(monkeypatch: Any, folder: Path, error: Exception, code: int) -> None:
    def sample(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rdmc, "sample", sample, raising=False)
    done = run("sample", "my_model.py:target")
    assert done.exit_code == code
    assert done.stderr.count("\n") == 1
    assert str(error).split()[-1] in done.stderr


def test_strict_turns_problems_into_code_1(calls: list, folder: Path) -> None:
    assert run("sample", "my_model.py:target", "--strict", "--no-progress").exit_code == 0
    lone = run("sample", "my_model.py:target", "--chains", 1, "--strict", "--out", "run.npz")
    assert lone.exit_code == 1
    assert "Problems (1)" in lone.stdout
    assert (folder / "run.npz").exists()
    assert run("sample", "my_model.py:target", "--chains", 1).exit_code == 0


def test_files_and_json(calls: list, folder: Path) -> None:
    done = run("sample", "my_model.py:target", "--draws", 50, "--out", "run.npz", "--json", "--no-progress")
    assert done.exit_code == 0
    report = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (report["draws"], report["chains"], report["seed"], report["seconds"]) == (50, 4, 0, None)
    assert {"rhat", "ess", "modes", "problems", "log_evidence", "gradient_evaluations"} <= set(report)
    assert "Written to run.npz" in done.stderr
    assert load("run.npz").draws == 50
    pytest.importorskip("arviz")
    assert run("sample", "my_model.py:target", "--draws", 50, "--out", "run.nc").exit_code == 0
    assert (folder / "run.nc").stat().st_size > 0


def test_a_file_that_cannot_be_written_does_not_lose_the_summary(calls: list, folder: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Result, "save", full)
    done = run("sample", "my_model.py:target", "--out", "run.npz")
    assert done.exit_code == 1
    assert "4 populations" in done.stdout
    assert "No space left" in done.stderr


def test_targets_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def target(name: str, **known: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(name=name, dim=2, log_density=len, source="a paper", **known)

    every = [target("ring", log_z=0.5), lambda: target("pair", mode_weights=torch.ones(2), can_sample=True)]
    for listed in (every, {str(i): entry for i, entry in enumerate(every)}):
        monkeypatch.setitem(sys.modules, "targets", types.SimpleNamespace(ALL=listed))
        done = run("targets")
        assert done.exit_code == 0, done.output
        assert done.stdout.split() == [
            *("name", "dim", "exact", "draws", "log", "Z", "modes"),
            *("ring", "2", "no", "0.5", "-"),
            *("pair", "2", "yes", "-", "2"),
        ]
    rows = json.loads(run("targets", "--json").stdout)
    assert rows[0]["source"] == "a paper"
    monkeypatch.setitem(sys.modules, "targets", types.SimpleNamespace())
    assert run("targets").exit_code == 2


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['rdmc', '--help']\n"
        "from rdmc.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'arviz', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert "sample" in done.stdout
    assert "targets" in done.stdout
    assert best < 2.0  # 0.25 s on an idle machine; the law is the import list above
