"""Tables: immutable, lossless through JSON, readable."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch

from rdmc.table import Table, dumps, loads


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "location": [torch.tensor([1.0, -2.5]), [0.1, 1e-300]],
            "weight": np.array([1 / 3, 2 / 3]),
            "name": ["a|b", "<c>"],
            "count": np.array([3, 4]),
            "odd": [math.nan, -math.inf],
        }
    )


def test_rows_columns_and_attributes_agree(table: Table) -> None:
    assert table[0]["weight"] == table["weight"][0] == table.weight[0] == 1 / 3
    assert [row["location"] for row in table] == table.location == [[1.0, -2.5], [0.1, 1e-300]]
    assert table[-1] == table[1]
    assert len(table[:1]) == 1
    assert table[:1].columns == table.columns == ("location", "weight", "name", "count", "odd")
    assert type(table[0]["count"]) is int


def test_json_keeps_every_bit_and_is_strict(table: Table) -> None:
    json.loads(table.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = Table.from_json(table.to_json())
    assert back == table
    assert hash(back) == hash(table)
    assert back.weight == table.weight
    assert math.isnan(back.odd[0])
    assert loads(dumps({"x": [math.inf, {"y": 5e-324}]})) == {"x": [math.inf, {"y": 5e-324}]}


def test_nothing_changes_it(table: Table) -> None:
    before = table.to_json()
    table[0]["location"].append(9.0)
    table["weight"][0] = 9.0
    table.name.clear()
    for change in (lambda: setattr(table, "weight", []), lambda: delattr(table, "_columns")):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    with pytest.raises(TypeError):
        table[0] = {}  # type: ignore[index]
    assert table.to_json() == before


def test_copies_and_pickles(table: Table) -> None:
    assert copy.deepcopy(table) == copy.copy(table) == pickle.loads(pickle.dumps(table)) == table


def test_long_cells_are_as_short_ones() -> None:
    weights = np.arange(100.0) / 7.0
    weights[3] = math.nan
    table = Table({"by chain": [weights, weights[::-1]], "few": [weights[:3], weights[4:6]]})
    columns = {
        "by chain": [weights.tolist(), weights[::-1].tolist()],
        "few": [weights[:3].tolist(), weights[4:6].tolist()],
    }
    plain = Table(columns)
    weights[:] = -1.0  # the caller's own
    assert (
        table == plain == Table.from_json(table.to_json()) == pickle.loads(pickle.dumps(table)) == copy.deepcopy(table)
    )
    assert str(table) == str(plain) and table.to_markdown() == plain.to_markdown()
    assert type(table["by chain"][0]) is type(table[0]["by chain"]) is list and type(table[0]["by chain"][0]) is float
    assert table[0]["by chain"][4:] == plain[0]["by chain"][4:] and table.select("by chain") == plain.select("by chain")
    table[0]["by chain"][0] = 5.0
    assert table[0]["by chain"][0] == 0.0


def test_a_column_can_be_replaced(table: Table) -> None:
    other = table.replaced("count", [7, 8])
    assert other["count"] == [7, 8] and other.columns == table.columns and table["count"] == [3, 4]
    assert other.select("location", "weight", "odd") == table.select("location", "weight", "odd")
    with pytest.raises(KeyError, match="no column 'size'"):
        table.replaced("size", [1, 2])


def test_texts(table: Table) -> None:
    lines = str(table).splitlines()
    assert len(lines) == 3
    assert lines[1].index("0.3333") + len("0.3333") == lines[0].index("weight") + len("weight")
    markdown = table.to_markdown().splitlines()
    assert markdown[1].count("|") == 6
    assert r"a\|b" in markdown[2]
    assert len({len(line) for line in markdown}) == 1
    assert "&lt;c&gt;" in table._repr_html_()
    assert "<c>" not in table._repr_html_()
    assert "12 in all" in str(Table({"x": [list(range(12))]}))
    assert str(Table({})) == "(empty table)"
    assert Table({})._repr_html_().startswith("<table>")
    assert Table.from_rows([], ["a", "b"]).columns == ("a", "b")


def test_dataframe(table: Table) -> None:
    pytest.importorskip("pandas")
    frame = table.to_dataframe()
    assert list(frame.columns) == list(table.columns)
    assert frame.weight.tolist() == table.weight


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table({"a": [1], "b": [1, 2]}), "same length.*'a': 1.*'b': 2"),
        (lambda: Table({"a": [object()]}), "cell must be.*got object"),
        (lambda: Table({1: [1]}), "named by texts, got 1"),
        (lambda: Table.from_rows([{"a": 1}, {"b": 1}]), "keys"),
        (lambda: Table.from_json("[1]"), "object of columns"),
        (lambda: Table.from_json("{"), "."),
    ],
)
def test_wrong_input_is_named(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_keys_are_named(table: Table) -> None:
    with pytest.raises(KeyError, match="no column 'wieght'; there are location, weight"):
        table["wieght"]
    with pytest.raises(AttributeError, match="wieght"):
        _ = table.wieght
    with pytest.raises(IndexError):
        table[2]
