"""Mode tables, pooled inner diagnostics and distances against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rdmc.diagnostics import (
    iid_floor,
    ks_projected,
    mode_table,
    mode_weight_tv,
    pooled_ess,
    pooled_rhat,
    sliced_w2,
)
from rdmc.table import Table
from tests.result.cases import MEANS, MIXTURE, WEIGHTS, exact


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table_of(samples: Tensor, **options: Any) -> Table:
    return mode_table(samples, MIXTURE.log_prob(samples), MIXTURE, **options)


def test_weights_of_a_known_mixture_are_within_their_errors() -> None:
    z = []
    for seed in range(60):
        table = table_of(exact(2000, generator(seed)).reshape(4, 500, 3))
        assert table["weight"] == sorted(table["weight"], reverse=True)
        assert sum(table["weight"]) == pytest.approx(1.0)
        truth = WEIGHTS.sort(descending=True).values.tolist()
        z += [(w - t) / e for w, t, e in zip(table["weight"], truth, table["weight_mcse"], strict=True)]
    size = torch.tensor(z).square().mean().sqrt()
    assert 0.7 < size < 1.1, size  # the larger of two errors is a little conservative
    assert torch.tensor(z).abs().max() < 4.5


def test_location_and_log_density_belong_to_the_densest_draw_of_the_mode() -> None:
    samples = exact(2000, generator(1)).reshape(4, 500, 3)
    table = table_of(samples)
    for row in table:
        here = torch.tensor(row["location"], dtype=torch.float64)
        assert float(MIXTURE.log_prob(here)) == row["log_density"]
        assert float((here - MEANS).norm(dim=1).min()) < 0.6
        assert row["chains_found"] == 4


def test_populations_stuck_in_different_modes_have_the_error_of_their_spread() -> None:
    samples = MEANS[torch.tensor([0, 0, 1, 1])][:, None] + 0.1 * torch.randn(4, 300, 3, generator=generator())
    table = table_of(samples)
    assert table["weight"] == [0.5, 0.5]
    assert table["chains_found"] == [2, 2]
    assert table["weight_mcse"][0] == pytest.approx(math.sqrt(1 / 3) / 2)
    assert sorted(table["weight_by_chain"]) == [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]


def test_components_can_share_a_mode_and_broken_draws_have_none() -> None:
    samples = exact(2000, generator(2)).reshape(4, 500, 3)
    apart = table_of(samples)
    joined = table_of(samples, group=[5, 5, 1])
    assert joined["weight"][0] == pytest.approx(apart["weight"][0] + apart["weight"][1])
    broken = samples.clone()
    broken[:, :50] = math.nan
    assert sum(table_of(broken)["weight"]) == pytest.approx(0.9)
    outside = mode_table(samples, torch.full((4, 500), -math.inf), MIXTURE)
    assert outside["log_density"] == [-math.inf] * 3
    with pytest.raises(ValueError, match="`group`"):
        table_of(samples, group=[0])
    with pytest.raises(ValueError, match="`samples` and `log_density`"):
        mode_table(samples, torch.zeros(4, 3), MIXTURE)


def chains_of(values: Tensor) -> tuple[float, float]:
    return float(pooled_rhat(values)), float(pooled_ess(values))


def test_independent_inner_draws_are_converged_and_count_fully() -> None:
    rhat, ess = chains_of(3.0 + torch.randn(4, 16, 300, 3, generator=generator(), dtype=torch.float64))
    assert rhat == pytest.approx(1.0, abs=0.01)
    assert ess == pytest.approx(64, rel=0.1)


def test_particles_of_different_place_and_scale_pool() -> None:
    spread = torch.linspace(0.1, 5.0, 300, dtype=torch.float64)[:, None]
    rhat, ess = chains_of(
        50 * spread + spread * torch.randn(4, 16, 300, 2, generator=generator(1), dtype=torch.float64)
    )
    assert rhat == pytest.approx(1.0, abs=0.02)
    assert ess == pytest.approx(64, rel=0.15)


def test_chains_stuck_in_different_modes_show() -> None:
    values = torch.randn(4, 16, 300, 3, generator=generator(), dtype=torch.float64)
    values[..., 1] += 3.0 * torch.randn(4, 1, 300, generator=generator(1), dtype=torch.float64).sign()
    rhat, ess = chains_of(values)
    assert rhat > 1.2
    assert ess < 8
    drift = torch.randn(4, 16, 300, 1, generator=generator(2), dtype=torch.float64)
    drift[:, 8:] += 2.0  # a common drift: only splitting the chains sees it
    assert float(pooled_rhat(drift)) > 1.2


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_autoregressive_chains_have_the_effective_size_of_theory(rho: float) -> None:
    noise = torch.randn(4, 400, 200, 1, generator=generator(), dtype=torch.float64)
    values = noise.clone()
    for i in range(1, 400):
        values[:, i] = rho * values[:, i - 1] + math.sqrt(1 - rho**2) * noise[:, i]
    assert float(pooled_ess(values)) == pytest.approx(1600 * (1 - rho) / (1 + rho), rel=0.08)


def test_short_chains_have_it_too() -> None:
    rho, draws = 0.5, 12
    noise = torch.randn(4, draws + 30, 3000, 1, generator=generator(), dtype=torch.float64)
    values = noise.clone()
    for i in range(1, draws + 30):
        values[:, i] = rho * values[:, i - 1] + math.sqrt(1 - rho**2) * noise[:, i]
    # 7 % below theory: draws at the ends, which make up the long lags, are less tied to the mean than corrected for
    assert float(pooled_ess(values[:, 30:])) == pytest.approx(4 * draws * (1 - rho) / (1 + rho), rel=0.1)


def test_degenerate_inner_chains() -> None:
    still = torch.ones(4, 8, 5, 2, dtype=torch.float64)
    assert chains_of(still) == (math.inf, 0.0)
    assert all(map(math.isnan, chains_of(still[:, :3])))
    for statistic in (pooled_rhat, pooled_ess):
        with pytest.raises(ValueError, match="`values`"):
            statistic(still[0])
        assert statistic(torch.empty(4, 8, 5, 2, device="meta")).shape == ()  # no host reads


def test_sliced_w2_of_shifted_gaussians_is_the_closed_form() -> None:
    x = torch.randn(9_000, 3, generator=generator(), dtype=torch.float64)
    shift = torch.tensor([2.0, -1.0, 4.0], dtype=torch.float64)
    value = float(sliced_w2(x, x + shift, 800, generator(1)))
    assert value == pytest.approx(float(shift.norm()) / math.sqrt(3), rel=0.04)
    y = torch.randn(7001, 3, generator=generator(2), dtype=torch.float64) + shift
    assert float(sliced_w2(x, y, 800, generator(1))) == pytest.approx(float(shift.norm()) / math.sqrt(3), rel=0.04)
    assert float(sliced_w2(x, x, 10, generator())) == 0.0


def test_sliced_w2_of_different_sizes_is_the_transport_cost() -> None:
    x = torch.randn(6, 1, generator=generator(), dtype=torch.float64)
    y = torch.randn(4, 1, generator=generator(1), dtype=torch.float64)
    # 12 = lcm(6, 4) copies of equal weight make both samples equally large without changing their laws
    same = sliced_w2(x.repeat_interleave(2, 0), y.repeat_interleave(3, 0), 3, generator(2))
    assert float(sliced_w2(x, y, 3, generator(2))) == pytest.approx(float(same), rel=1e-12)
    assert float(sliced_w2(x, x.repeat(3, 1), 3, generator(2))) == pytest.approx(0.0, abs=1e-12)


def test_ks_sees_a_weight_and_mode_weight_tv_counts_it() -> None:
    far = torch.tensor([[0.0], [1e6]], dtype=torch.float64)
    x, y = far[torch.tensor([0] * 70 + [1] * 30)], far[torch.tensor([0] * 50 + [1] * 50)]
    assert float(ks_projected(x, y, 5, generator())) == pytest.approx(0.2)
    assert float(ks_projected(x, x, 5, generator())) == 0.0
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert float(mode_weight_tv(torch.tensor([[0] * 7 + [1] * 3]), truth)) == pytest.approx(0.2)
    assert float(mode_weight_tv(torch.tensor([0, 1, -1, -1]), truth)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="`labels` must be below"):
        mode_weight_tv(torch.tensor([2]), truth)


def test_the_floor_is_what_exact_draws_show() -> None:
    def ks(x: Tensor, y: Tensor) -> Tensor:
        return ks_projected(x, y, 16, generator(9))

    floor = iid_floor(exact, 400, ks, 40, generator(), m=1600)
    assert floor.shape == (40,)
    assert float(floor.mean()) == pytest.approx(0.87 * math.sqrt((400 + 1600) / (400 * 1600)), rel=0.1)
    wrong = exact(400, generator(3), torch.tensor([0.5, 0.49, 0.01], dtype=torch.float64))
    assert float(ks(wrong, exact(1600, generator(4)))) > 2 * float(floor.max())
    with pytest.raises(ValueError, match="`repeats`"):
        iid_floor(exact, 10, ks, 0, generator())
    for wrong_size in (
        (exact(3, generator()), exact(3, generator())[:, :2]),
        (exact(3, generator()), exact(3, generator())[:0]),
    ):
        with pytest.raises(ValueError, match="`x` and `y`"):
            sliced_w2(*wrong_size, 3, generator())
