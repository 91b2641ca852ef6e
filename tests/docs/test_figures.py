"""The numbers behind the pictures are those of the code, and the pictures are small and there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from docs.figures import bridge, ladder, laws, lines, noised
from docs.figures.__main__ import NAMES

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = json.loads((DOCS / "figures" / "numbers.json").read_text())
USED = {name for page in DOCS.glob("*.md") for name in re.findall(r"\(figures/([\w.]+)\)", page.read_text())}


def test_noise_and_the_window() -> None:
    found = noised.numbers()
    for name in ("edges", "times of the edges", "decided", "decided at the edges", "weight of the left mode in q_t"):
        np.testing.assert_allclose(found[name], KEPT["noised"][name], rtol=1e-6)
    assert found["peaks of p_t"] == KEPT["noised"]["peaks of p_t"]


def test_the_edges_are_where_the_claims_change() -> None:
    m, s = 3.0, 0.6
    low, high = noised.edges(m, s)
    x = np.linspace(-8.0, 8.0, 20_001)

    def peaks(snr: float) -> int:  # of p_t with equal weights, in units of alpha
        variance = s**2 + 1.0 / snr
        p = np.exp(-0.5 * (x - m) ** 2 / variance) + np.exp(-0.5 * (x + m) ** 2 / variance)
        return int(((p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])).sum())

    def least_curvature(snr: float) -> float:  # of -log q_t over x_0
        log_pi = np.logaddexp(-0.5 * (x - m) ** 2 / s**2, -0.5 * (x + m) ** 2 / s**2)
        return float((-np.gradient(np.gradient(log_pi, x), x))[2:-2].min() + snr)

    assert (peaks(0.99 * low), peaks(1.03 * low)) == (1, 2)
    assert least_curvature(0.99 * high) < 0 < least_curvature(1.01 * high)


def test_tables_behind_the_pictures_are_those_of_the_benchmarks() -> None:
    again = "run `python -m docs.figures bridge laws`"
    assert bridge.numbers() == KEPT["bridge"], again
    assert laws.numbers() == KEPT["laws"], again


def test_the_worked_case_has_three_modes() -> None:
    found = lines.numbers()
    np.testing.assert_allclose(found["weights"], KEPT["lines"]["weights"], rtol=1e-6)
    np.testing.assert_allclose(found["log evidence"], KEPT["lines"]["log evidence"], rtol=1e-9)
    page = (DOCS / "two-modes.md").read_text()
    stated = "| the grid | .810 | .184 | .005 | -52.259 | |"
    assert stated in page
    told = [float(cell) for cell in stated.strip("| ").split("|")[1:]]
    np.testing.assert_allclose(told, [*found["weights"], found["log evidence"]], atol=6e-4)


def test_the_ladder_is_learnt_again() -> None:
    found, kept = ladder.numbers(), KEPT["ladder"]
    np.testing.assert_allclose(found["betas"], kept["betas"], rtol=0.2)  # bits differ between processors
    spread = 5 / ladder.PARTICLES**0.5
    assert abs(found["weight of the left mode"] - 0.7) < spread, found["weight of the left mode"]
    assert abs(kept["weight of the left mode"] - 0.7) < spread, kept["weight of the left mode"]


def test_captions_have_the_numbers_of_the_pictures() -> None:
    def short(value: float, digits: int) -> str:
        return f"{value:.{digits}f}".lstrip("0")

    pictures, index = (DOCS / "how-it-works.md").read_text(), (DOCS / "index.md").read_text()
    assert f"came out as {short(KEPT['ladder']['weight of the left mode'], 3)}" in pictures
    assert f"log evidence as {short(KEPT['ladder']['log evidence'], 3)}" in pictures
    assert f"it is {short(KEPT['noised']['decided at the edges'][0], 2)}:" in pictures
    for name in ("hmc", "auto"):
        found = KEPT["modes"][name]
        assert re.search(rf"{found['evaluations']:.0f} gradients a draw: R-hat is {found['rhat']:.2f}", index)


def test_pages_show_pictures_that_are_small() -> None:
    assert len(USED) >= 7
    for name in USED:
        path = DOCS / "figures" / name
        assert path.stat().st_size < 60_000, name
    drawn = {path.name for path in (DOCS / "figures").glob("*.*g")}
    assert drawn == USED
    assert set(KEPT) == set(NAMES)
