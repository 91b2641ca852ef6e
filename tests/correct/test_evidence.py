"""Evidence put together from blocks whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rdmc.assembly import joined_draws, joined_evidence, joined_inner, measured_units
from rdmc.sampler import Block, Unit
from tests.laws.cases import F, generator


def block(value: float | None, variance: float | None = None) -> Block:
    one = None if value is None else torch.tensor([value], dtype=F)
    return Block(
        torch.zeros(1, 1, 1, dtype=F),
        log_evidence=one,
        evidence_variance=None if variance is None else torch.tensor([variance], dtype=F),
    )


def blocks(chains: list[list[float]], variance: float | None = None) -> list[tuple[Unit, Block]]:
    return [
        (Unit(chain, shard, 1), block(math.log(value) if value else -math.inf, variance))
        for chain, shards in enumerate(chains)
        for shard, value in enumerate(shards)
    ]


def test_parts_give_the_same_draws_however_they_were_batched() -> None:
    x = torch.randn(6, 5, 2, generator=generator(0), dtype=F)
    units = tuple(Unit(chain, 0, 1) for chain in range(6))
    whole = joined_draws([(units, Block(x))], 5)
    apart = [((unit,), Block(x[i : i + 1])) for i, unit in enumerate(units)]
    assert torch.equal(whole, x) and torch.equal(joined_draws(apart[::-1], 5), x)
    assert torch.equal(joined_draws([(units, Block(x))], 3), x[:, :3])
    shards = [((Unit(1, 1, 2),), x[2:4]), ((Unit(0, 0, 3), Unit(1, 0, 1)), x[[0, 1, 4, 5]])]
    joined = joined_draws([(own, Block(part[:, :1])) for own, part in shards], 3)
    assert torch.equal(joined, torch.stack([x[[0, 1, 4], 0], x[[5, 2, 3], 0]]))


def test_units_without_measurements_are_not_told_apart() -> None:
    units = (Unit(0, 0, 1), Unit(1, 0, 1))
    assert list(measured_units([(units, Block(torch.zeros(2, 1, 1)))])) == []
    inner = {"a": np.array([[1.0], [2.0]]), "b": np.array([3.0])}
    both = measured_units([(units, Block(torch.zeros(2, 1, 1), inner, torch.tensor([0.5, 0.25])))])
    assert [unit for unit, _ in both] == list(units)
    assert [float(block.log_evidence) for _, block in both if block.log_evidence is not None] == [0.5, 0.25]
    assert joined_inner(both)["a"].tolist() == [[1.0], [2.0]] and joined_inner(both)["b"].tolist() == [[3.0], [3.0]]


def test_the_mean_is_that_of_the_evidences_and_the_error_its_delta_method() -> None:
    log, error = joined_evidence(blocks([[1.0], [2.0], [6.0]]))
    assert log == pytest.approx(math.log(3.0))
    assert error == pytest.approx(math.sqrt(7.0) / 3.0 / math.sqrt(3.0))


def test_shards_of_a_chain_are_averaged_first() -> None:
    log, error = joined_evidence(blocks([[1.0, 3.0], [3.0, 5.0]]))
    assert log == pytest.approx(math.log(3.0))
    assert error == pytest.approx(math.sqrt(2.0) / 3.0 / math.sqrt(2.0))


def test_what_is_known_within_counts_four_times() -> None:
    """Between: 7 / 9 / 3. Within: .12 / 3."""
    _, error = joined_evidence(blocks([[1.0], [2.0], [6.0]], 0.12))
    assert error == pytest.approx(math.sqrt((7.0 / 27.0 + 4.0 * 0.04) / 5.0))
    _, sharded = joined_evidence(blocks([[1.0, 3.0], [3.0, 5.0]], 0.12))
    assert sharded == pytest.approx(math.sqrt((2.0 / 9.0 / 2.0 + 4.0 * 0.03) / 5.0))


def test_one_chain_has_only_what_it_knows_within() -> None:
    assert joined_evidence(blocks([[2.0]])) == (pytest.approx(math.log(2.0)), None)
    assert joined_evidence(blocks([[2.0]], 0.09)) == (pytest.approx(math.log(2.0)), pytest.approx(0.3))


def test_huge_and_tiny_evidences_do_not_overflow() -> None:
    for offset in (-5000.0, 5000.0):
        found = [(Unit(c, 0, 1), block(offset + math.log(z))) for c, z in enumerate((1.0, 2.0, 6.0))]
        log, error = joined_evidence(found)
        assert log == pytest.approx(offset + math.log(3.0))
        assert error == pytest.approx(math.sqrt(7.0 / 27.0))


def test_unfinished_blocks_are_left_out() -> None:
    found = [*blocks([[1.0], [2.0], [6.0]]), (Unit(3, 0, 1), block(math.nan, math.nan)), (Unit(4, 0, 1), block(None))]
    assert joined_evidence(found, partial=True) == joined_evidence(blocks([[1.0], [2.0], [6.0]]))
    assert joined_evidence(found[3:], partial=True) == (None, None)


def test_the_error_is_that_of_repeated_runs() -> None:
    """2000 runs of four chains, each off by 5%, which each also knows: the mean square error is the mean of the squares told."""
    z = 1.0 + 0.05 * torch.randn(2000, 4, generator=generator(0), dtype=F)
    told = [joined_evidence(blocks([[float(value)] for value in row], 0.05**2)) for row in z]
    log = torch.tensor([value for value, _ in told], dtype=F)
    square = torch.tensor([error**2 for _, error in told if error is not None], dtype=F)
    # relative error of a variance of 2000 numbers: (2 / 2000)^(1/2) = .032; five of these
    assert float(log.square().mean() / square.mean()) == pytest.approx(1.0, abs=0.16)


def test_a_population_without_any_weight_counts() -> None:
    """Its evidence is 0, which the mean over populations has to know."""
    log, _ = joined_evidence(blocks([[2.0], [0.0]]))
    assert log == pytest.approx(0.0)
    assert joined_evidence(blocks([[0.0], [0.0]])) == (-math.inf, None)
