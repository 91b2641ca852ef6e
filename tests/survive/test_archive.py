"""Values come back from bytes as they were, and bytes can't make anything else."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdmc.archive import pack, unpack
from rdmc.errors import ArchiveError
from rdmc.kernels import MALA, State
from rdmc.rng import Streams
from rdmc.table import Table


@dataclass(frozen=True)
class Foreign:
    """A class of data of another package."""

    x: int


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    """Equality that tells types, NaN's and signs of zeros apart."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return same(list(a.items()), list(b.items()))
    return a == b


@given(plain)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_plain_values_come_back(value: object) -> None:
    assert same(unpack(pack(value)), value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_tensors_keep_bits_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (100.0 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    y = unpack(pack(x))
    assert y.dtype == dtype and y.shape == shape and torch.equal(x, y)


def test_strides_are_kept() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    for layout in (x.transpose(0, 2), x.permute(1, 2, 0), x[0, 0].expand(2, 5, 4), torch.zeros(()).expand(3, 2)):
        back = unpack(pack(layout))
        assert torch.equal(back, layout) and back.stride() == layout.stride(), (back.stride(), layout.stride())


def test_not_a_number_keeps_its_bits() -> None:
    x = torch.tensor([math.nan, -math.inf, -0.0, 5e-324], dtype=torch.float64)
    assert torch.equal(unpack(pack(x)).view(torch.int64), x.view(torch.int64))


def test_random_streams_go_on_where_they_were() -> None:
    rng = Streams.seeded(3, [5, 2], [(0, 0), (1, 0)])
    rng.normal((7, 2))
    back = unpack(pack(rng))
    assert torch.equal(back.normal((7, 3)), rng.normal((7, 3)))


def test_objects_of_the_library_come_back() -> None:
    state = State(torch.ones(2, 1), torch.zeros(2), torch.ones(2, 1))
    table = Table({"name": ["a", "b"], "value": [1.5, math.inf]})
    kernel, found, rows, array = unpack(pack((MALA(0.4), state, table, np.arange(3.0))))
    assert kernel == MALA(0.4) and isinstance(found, State) and rows == table
    assert torch.equal(found.x, state.x) and np.array_equal(array, np.arange(3.0))


def test_classes_of_other_packages_are_refused_both_ways() -> None:
    data = pack(Foreign(1))
    with pytest.raises(ArchiveError, match=r"a class outside the packages .*Foreign"):
        unpack(data)
    assert unpack(data, packages=("tests",)) == Foreign(1)


@pytest.mark.parametrize("name", ["os:system", "rdmc.sampling:sample", "rdmc.rng:np.save", "rdmc.archive:io"])
def test_nothing_but_data_is_made(name: str) -> None:
    data = pack(Foreign(1)).replace(b"tests.survive.test_archive:Foreign", name.ljust(34).encode()[:34])
    with pytest.raises(ArchiveError):
        unpack(data, packages=("rdmc", "tests"))


@pytest.mark.parametrize("value", [lambda: 0, object(), {1, 2}, np.array([object()]), 1j])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ArchiveError, match="can't be packed"):
        pack(value)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"not an archive at all", pack(1.0)[:-30]])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(ArchiveError, match="no archive of this library, or damaged"):
        unpack(damage)
