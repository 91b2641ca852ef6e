"""The figure: it comes out for every kind of input, and leaves matplotlib's global state alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rdmc.plot import figure
from rdmc.result import Result
from rdmc.table import Table

matplotlib = pytest.importorskip("matplotlib")


class Truth:
    can_sample = True
    mode_weights = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        side = torch.where(torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.3, -3.0, 3.0)
        return side + torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def mode_of(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] > 0).long()


def result(dim: int = 2, chains: int = 4, **changes: Any) -> Result:
    samples = torch.randn(chains, 100, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fields = {"samples": samples, "log_density": samples[..., 0], "gradient_evaluations": 4000, "seconds": 1.0}
    return Result(**(fields | changes))


def table(k: int, dim: int) -> Table:
    return Table({"weight": [1 / k] * k, "weight_mcse": [0.01] * k, "location": [[0.0] * dim] * k})


def test_a_page_has_a_row_per_sampler_and_shared_axes(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    page = figure({"auto": result(), "hmc": result(chains=10, modes=table(3, 2))}, tmp_path / "a.png", Truth())
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert len(page.axes) == 6
    assert page.axes[0].get_xlim() == page.axes[3].get_xlim() == page.axes[1].get_xlim()
    assert page.axes[1].get_ylim() == page.axes[4].get_ylim()
    assert page.axes[0].get_title("left") == "auto"
    assert "10 gradients per draw" in page.axes[1].get_title("left")
    heights = [bar.get_height() for bar in page.axes[2].patches]
    assert sum(heights) == pytest.approx(1.0)
    figure({"auto": result()}, tmp_path / "a.svg", Truth())


@pytest.mark.parametrize(
    ("dim", "options", "changes"),
    [
        (1, {}, {}),
        (5, {"view": (3, 1)}, {"modes": table(2, 5), "names": tuple("abcde")}),
        (5, {"view": lambda x: torch.stack([x.norm(dim=-1), x[..., 0]], -1), "axis_names": ("radius", "x")}, {}),
        (2, {}, {"modes": table(40, 2), "seconds": float("nan")}),
        (2, {}, {"samples": torch.full((2, 100, 2), float("nan")), "log_density": torch.zeros(2, 100)}),
        (2, {}, {"samples": torch.ones(1, 1, 2), "log_density": torch.zeros(1, 1)}),
    ],
)
def test_odd_inputs_draw(dim: int, options: dict, changes: dict) -> None:
    page = figure({"one": result(dim, **changes)}, **options)
    page.canvas.draw()
    if changes.get("names"):
        assert page.axes[0].get_xlabel() == "d"


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="`results` must hold"):
        figure({})
    with pytest.raises(ValueError, match="`view` must be two coordinates below 2"):
        figure({"a": result()}, view=(0, 2))
    with pytest.raises(ValueError, match="`view` must map"):
        figure({"a": result()}, view=lambda x: x[0])
