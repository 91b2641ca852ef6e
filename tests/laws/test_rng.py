"""Laws of random streams: reproducible, independent of grouping, private."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rdmc.rng import Streams
from tests.stats import assert_moments

KINDS = ["normal", "uniform", "log_uniform"]


def draw(streams: Streams, kind: str, lead: tuple[int, ...] = (2,)) -> torch.Tensor:
    """One draw of each kind, with its particle axis where it is by default."""
    shape = (*lead, streams.particles, 3) if kind == "normal" else (*lead, streams.particles)
    return torch.as_tensor(getattr(streams, kind)(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_grouping_does_not_matter(kind: str) -> None:
    sizes, keys = [3, 1, 4], [(0, 0), (0, 1), (2, 5)]
    together = Streams.seeded(9, sizes, keys)
    rounds = [draw(together, kind) for _ in range(3)]
    axis, begin = (-2 if kind == "normal" else -1), 0
    for size, key in zip(sizes, keys, strict=True):
        alone = Streams.seeded(9, [size], [key])
        for part in rounds:
            assert torch.equal(part.narrow(axis, begin, size), draw(alone, kind))
        begin += size


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_key_decide_the_bits(kind: str) -> None:
    first = draw(Streams.seeded(1, [4], [(0, 1)]), kind)
    assert torch.equal(first, draw(Streams.seeded(1, [4], [(0, 1)]), kind))
    for seed, key in ((2, (0, 1)), (1, (0, 2)), (1, (1, 1)), (1, (0, 1, 0)), (1, ())):
        assert not torch.equal(first, draw(Streams.seeded(seed, [4], [key]), kind))


def global_numpy() -> str:
    """The state of numpy's global generator, which is what has to stay the same."""
    return str(np.random.get_state()[1].tolist())  # type: ignore[index, union-attr]  # noqa: NPY002


@pytest.mark.parametrize("kind", KINDS)
def test_no_global_generator_is_read_or_written(kind: str) -> None:
    before, numpy_before = torch.get_rng_state(), global_numpy()
    first = draw(Streams.seeded(1, [4]), kind)
    assert torch.equal(torch.get_rng_state(), before)
    assert global_numpy() == numpy_before
    torch.manual_seed(123)
    assert torch.equal(first, draw(Streams.seeded(1, [4]), kind))


def test_laws() -> None:
    streams = Streams.seeded(0, [500, 500], [(0,), (1,)])
    assert_moments(streams.normal((20, 1000, 2)).flatten(0, 1), 0.0, 1.0, label="normal")
    assert_moments(streams.uniform((20, 1000)).flatten()[:, None], 0.5, 1.0 / 12.0, label="uniform")
    assert_moments(streams.log_uniform((20, 1000)).flatten()[:, None], -1.0, 1.0, label="log uniform")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_uniform_is_finite_in_any_precision(dtype: torch.dtype) -> None:
    draws = Streams.seeded(0, [1000], dtype=dtype).log_uniform((500, 1000))
    assert draws.dtype == dtype and bool(torch.isfinite(draws).all()) and bool((draws <= 0.0).all())


def test_integers_are_uniform_and_never_too_large_in_any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Streams.seeded(0, [1000], [(0,)]).integers((100, 1000), 7)
    assert found.dtype == torch.int64
    share = found.flatten().bincount() / 1e5
    assert share.shape == (7,) and float((share - 1 / 7).abs().max()) < 5 * (6 / 49 / 1e5) ** 0.5
    for dtype in (torch.float32, torch.float64):
        streams = Streams.seeded(0, [1], [(0,)], dtype=dtype)
        last = torch.nextafter(torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype))
        monkeypatch.setattr(Streams, "uniform", lambda self, shape, axis, last=last: last.expand(shape))
        for below in (7, 147_456, 2**24 + 3):
            assert below - 2 <= int(streams.integers((1,), below)) < below


def test_a_copy_gives_the_same_and_takes_nothing() -> None:
    rng = Streams.seeded(3, [5, 2], [(0,), (1,)])
    rng.normal((7, 1))
    copy = rng.copy()
    told = copy.uniform((7,))
    assert torch.equal(told, rng.uniform((7,))) and not torch.equal(told, rng.uniform((7,)))
    assert Streams.seeded(3, [2], device="meta").copy().generators == (None,)


def test_shard_of_particle() -> None:
    assert Streams.seeded(0, [2, 0, 3], [(0,), (1,), (2,)]).shard_of_particle().tolist() == [0, 0, 2, 2, 2]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="`keys` must have one entry per shard: wanted 2, got 1"):
        Streams.seeded(0, [2, 3])
    with pytest.raises(ValueError, match=r"`shape` must have 5 particles along axis 0, got \(4, 3\)"):
        Streams.seeded(0, [2, 3], [(0,), (1,)]).normal((4, 3))
