"""Whole runs from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import rdmc
from rdmc.cli import app
from rdmc.result import load

ROOT = Path(__file__).parents[2]
MODEL = """
import torch
LEFT = 3.0
def off(x, centre): return -0.5 * (x - centre).square().sum(-1)
def log_density(x): return torch.logaddexp(off(x, -LEFT), off(x, 3.0))
calls = 0
def dying(x):
    global calls
    calls += 1
    if x.shape[0] == 256 and calls > %d:
        raise ArithmeticError("the model failed")
    return log_density(x)
"""


def here(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, ["sample", *arguments, "--no-progress"])


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from rdmc.cli import main; main()", "sample", *arguments, "--no-progress"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_workers_and_a_checkpoint_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two_humps.py").write_text(MODEL % 10**9)
    common = ("two_humps.py:log_density", "--dim", "2", "--draws", "40", "--chains", "2", "--sampler", "rdmc")
    plain = here(*common, "--out", "plain.npz")
    spread = alone(tmp_path, *common, "--out", "spread.npz", "--workers", "2", "--checkpoint", "run.ck")
    assert plain.exit_code == spread.returncode == 0, plain.stderr + spread.stderr
    one, two = load(tmp_path / "plain.npz"), load(tmp_path / "spread.npz")
    assert torch.equal(one.samples, two.samples) and one.log_evidence == two.log_evidence
    other = here(*common, "--checkpoint", "run.ck", "--seed", "1")
    assert other.exit_code == 2 and "belongs to another run: seed was 0 and is 1" in other.stderr, other.stderr


def test_what_was_done_before_an_error_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {}
    exec(MODEL % 10**9, whole)
    rdmc.sample(whole["dying"], 8, 40, 3, progressbar=False)
    Path("mortal.py").write_text(MODEL % (whole["calls"] - 4))
    done = here("mortal.py:dying", "--dim", "8", "--draws", "40", "--chains", "3", "--out", "part.npz")
    assert done.exit_code != 0 and "the model failed" in str(done.exception) and "Written to part.npz" in done.stderr
    part = load(tmp_path / "part.npz")
    assert part.partial and part.samples.shape[0] == 2 and torch.isfinite(part.samples).all()
