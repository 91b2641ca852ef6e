"""Every example runs with few draws, writes its figure, and says something true."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch

import rdmc
import targets

pytest.importorskip("blackjax")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem not in ("__init__", "gallery"))


def run(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, rdmc.Result], str]:
    """Results and what was printed."""
    results = importlib.import_module(f"examples.{name}").main(["--smoke", "--out", str(folder)])
    printed = capsys.readouterr().out
    assert (folder / f"{name}.png").stat().st_size > 10_000
    for result in results.values():
        assert bool(torch.isfinite(result.samples).all())
        assert sum(result.modes["weight"]) == pytest.approx(1.0)
        assert all(problem.split()[0] in printed for problem in result.check()), "a problem was not printed"
    return results, printed


def assert_evidence(result: rdmc.Result, truth: float, allowance: float = 0.0) -> None:
    """The log evidence within five of its own errors."""
    assert result.log_evidence is not None and result.log_evidence_mcse is not None
    print(f"log evidence {result.log_evidence:.3f}, truth {truth:.3f}, error {result.log_evidence_mcse:.3f}")
    assert abs(result.log_evidence - truth) < 5.0 * result.log_evidence_mcse + allowance


def assert_weights(result: rdmc.Result, target: targets.Target) -> None:
    """Every mode's share within five errors: those of independent draws, or of the spread between chains."""
    assert target.mode_weights is not None
    label = target.mode_of(result.samples.flatten(0, 1)).view(result.chains, result.draws)
    by_chain = torch.stack([(label == k).double().mean(1) for k in range(len(target.mode_weights))])
    truth, mean = target.mode_weights, by_chain.mean(1)
    error = torch.maximum((truth * (1 - truth) / label.numel()).sqrt(), by_chain.std(1) / result.chains**0.5)
    print("weights", mean, "truth", truth, "error", error)
    assert bool(((mean - truth).abs() < 5.0 * error + 1.0 / label.numel()).all())


@pytest.mark.slow
def test_galaxies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = run("galaxies", tmp_path, capsys)
    assert_weights(results["rdmc"], targets.galaxies())  # six labellings, each 1/6
    assert_evidence(results["rdmc"], -225.470, allowance=0.03)  # ordered means, 4 x 1000 draws, error .009
    assert results["NUTS"].convergence.worst_rhat > 1.5
    assert any("populations disagree" in problem for problem in results["NUTS"].check())


@pytest.mark.slow
def test_eight_schools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = run("eight_schools", tmp_path, capsys)
    target = targets.eight_schools()
    assert_evidence(results["rdmc"], float(target.log_z))
    small = (results["rdmc"].samples[..., 1] < 0.0).double().mean()
    truth = target.log_tau.probability(target.log_tau.nodes < 0.0)
    assert abs(float(small) - truth) < 5.0 * math.sqrt(
        truth * (1 - truth) / 400
    )  # half of the 800 draws as good as independent
    assert_evidence(results["rdmc, centred"], float(target.log_z))  # though the density has no upper bound


@pytest.mark.slow
def test_sensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = run("sensors", tmp_path, capsys)
    target = targets.sensor_network()
    assert_evidence(results["tempered SMC"], float(target.log_z))
    assert_weights(results["tempered SMC"], target)
    assert results["rdmc"].check(), "the arcs are beyond the default, which must say so"


@pytest.mark.slow
def test_spike_and_slab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = run("spike_and_slab", tmp_path, capsys)
    target = targets.spike_and_slab()
    assert_evidence(results["rdmc"], float(target.log_z), allowance=0.05)  # known within .001; 800 draws leave a bias
    assert_weights(results["rdmc"], target)


@pytest.mark.slow
def test_radial_velocity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, printed = run("radial_velocity", tmp_path, capsys)
    target = targets.radial_velocities()
    assert_evidence(results["rdmc"], float(target.log_z))
    assert_weights(results["rdmc"], target)
    assert "period 4.229" in printed and "0.274" in printed
    assert results["NUTS"].convergence.worst_rhat > 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian_process", "star_cluster"])
def test_two_explanations(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, _ = run(name, tmp_path, capsys)
    target = targets.ALL[name]()
    assert_evidence(results["rdmc"], float(target.log_z or math.nan))
    assert_weights(results["rdmc"], target)


@pytest.mark.slow
def test_galaxy_components(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, printed = run("galaxy_components", tmp_path, capsys)
    assert_evidence(results["K = 1"], -251.2784)  # two-dimensional quadrature
    one, other = results["K = 3"], results["K = 3, ordered"]  # two systems of coordinates, one evidence
    error = math.hypot(one.log_evidence_mcse or math.nan, other.log_evidence_mcse or math.nan)
    print(f"{one.log_evidence:.3f} and {other.log_evidence:.3f}, error of the difference {error:.3f}")
    assert abs((one.log_evidence or math.nan) - (other.log_evidence or math.nan)) < 5.0 * error
    shown = [float(p) for p in printed.split("K = 1, 2, 3, 4: ")[1].split("\n")[0].split(", ")]
    assert sum(shown) == pytest.approx(1.0, abs=2e-3) and shown[0] < 1e-3


def test_every_example_has_a_test_and_a_line_in_the_readme() -> None:
    assert len(NAMES) == 8
    text, here = (ROOT / "examples" / "README.md").read_text(), Path(__file__).read_text()
    assert all(name in text and f'"{name}"' in here for name in NAMES)


def test_files_are_small() -> None:
    assert all(len(path.read_text().splitlines()) <= 300 for path in (ROOT / "examples").glob("*.py"))
