"""A small immutable table: rows for people, columns for code, JSON for files; standard library only."""

from __future__ import annotations

import html
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "dumps", "loads"]


_SCALARS = {bool, float, int, str, type(None)}
_LONG = 64


@dataclass(frozen=True)
class _Floats:
    """A long cell of numbers, kept as bytes until it is read: thousands of chains have a weight each in every mode."""

    data: bytes

    def tolist(self) -> list[float]:
        """The numbers."""
        return array("d", self.data).tolist()


def _plain(value: Any) -> Any:
    """A cell as Python's own types, sequences as tuples: nothing a caller holds can change the table afterwards."""
    if isinstance(value, _Floats):
        return value
    if hasattr(value, "tobytes") and value.dtype == "float64" and value.ndim == 1 and value.size >= _LONG:
        return _Floats(value.tobytes())
    if hasattr(value, "tolist"):  # numpy scalar or array, torch tensor
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        if set(map(type, value)) <= _SCALARS:  # a weight of each of thousands of chains
            return tuple(value)
        return tuple(_plain(entry) for entry in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a table cell must be a number, a text, None or a sequence of those, got {type(value).__name__}")


def _thaw(value: Any) -> Any:
    if isinstance(value, _Floats):
        return value.tolist()
    if not isinstance(value, tuple):
        return value
    return [_thaw(entry) for entry in value] if {tuple, _Floats} & set(map(type, value)) else list(value)


def _encode(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}  # strict JSON has no NaN and no infinity
    if isinstance(value, Mapping):
        return {str(key): _encode(entry) for key, entry in value.items()}
    if isinstance(value, _Floats):
        value = value.tolist()
    return [_encode(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def dumps(value: Any) -> str:
    """Strict JSON of nested dicts, lists and scalars, in which every float survives, NaN and infinities included.

    Example:
        >>> dumps({"a": float("nan")}), loads(dumps([1.5, float("inf")]))
        ('{"a": {"$float": "nan"}}', [1.5, inf])
    """
    return json.dumps(_encode(value), allow_nan=False)


def loads(text: str) -> Any:
    """The inverse of :func:`dumps`; raises ValueError on anything that is not JSON."""
    return json.loads(text, object_hook=lambda item: float(item["$float"]) if set(item) == {"$float"} else item)


class Table(Sequence[dict[str, Any]]):
    """An immutable sequence of rows that also knows its columns.

    Args:
        columns: Name to values, all of one length. Cells are numbers, texts, None, or (nested) sequences of those;
            numpy and torch values become Python's own.

    Raises:
        ValueError: If lengths differ, a name is not a text, or a cell is of another kind.

    Example:
        >>> table = Table({"mode": ["left", "right"], "weight": [0.25, 0.75]})
        >>> table[1]
        {'mode': 'right', 'weight': 0.75}
        >>> table["weight"], table.weight, len(table)
        ([0.25, 0.75], [0.25, 0.75], 2)
        >>> print(table)
         mode  weight
         left    0.25
        right    0.75
    """

    _columns: dict[str, tuple[Any, ...]]

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        frozen: dict[str, tuple[Any, ...]] = {}
        for name, values in columns.items():
            if not isinstance(name, str):
                raise ValueError(f"`columns` must be named by texts, got {name!r}")
            frozen[name] = tuple(_plain(value) for value in values)
        lengths = {name: len(values) for name, values in frozen.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"`columns` must all have the same length, got {lengths}")
        object.__setattr__(self, "_columns", frozen)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Table:
        """From row dicts; ``columns`` fixes the order (default: that of the first row), also of an empty table.

        Raises:
            ValueError: If a row has other keys than the columns.
        """
        names = list(columns) if columns is not None else list(rows[0]) if rows else []
        for row in rows:
            if set(row) != set(names):
                raise ValueError(f"`rows` must all have the keys {names}, got {list(row)}")
        return cls({name: [row[name] for row in rows] for name in names})

    @classmethod
    def from_json(cls, text: str) -> Table:
        """The table that :meth:`to_json` wrote.

        Raises:
            ValueError: If the text is not such JSON.
        """
        columns = loads(text)
        if not isinstance(columns, dict) or not all(isinstance(values, list) for values in columns.values()):
            raise ValueError("`text` must be a JSON object of columns, each a list")
        return cls(columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def _row(self, index: int) -> dict[str, Any]:
        return {name: _thaw(values[index]) for name, values in self._columns.items()}

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Table: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            if key not in self._columns:
                raise KeyError(f"no column {key!r}; there are {', '.join(self._columns) or 'none'}")
            return _thaw(self._columns[key])
        if isinstance(key, slice):
            return Table({name: values[key] for name, values in self._columns.items()})
        if not -len(self) <= key < len(self):
            raise IndexError(f"row {key} of a table with {len(self)} rows")
        return self._row(key)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._row(index) for index in range(len(self)))

    def __getattr__(self, name: str) -> list[Any]:
        columns = self.__dict__.get("_columns", {})  # absent while a copy is being unpickled
        if name not in columns:
            raise AttributeError(f"Table has no column or attribute {name!r}; columns: {', '.join(columns) or 'none'}")
        values: list[Any] = _thaw(columns[name])
        return values

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Table is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Table is immutable: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        # by text, so that NaN equals NaN and a saved table equals its original
        return self.to_json() == other.to_json() if isinstance(other, Table) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._columns]

    def replaced(self, name: str, values: Sequence[Any]) -> Table:
        """The table with other values in one of its columns.

        Raises:
            KeyError: If there is no such column.
        """
        if name not in self._columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(self._columns) or 'none'}")
        return Table({**self._columns, name: values})

    def select(self, *names: str) -> Table:
        """The table of these columns only, in this order."""
        return Table({name: self[name] for name in names})

    def to_json(self) -> str:
        """Strict JSON ``{column: [cells]}``; :meth:`from_json` gives the same table back, every float to the bit."""
        return dumps(self._columns)

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas DataFrame (pandas is imported here)."""
        import pandas as pd

        return pd.DataFrame({name: self[name] for name in self.columns}, columns=list(self.columns))

    def to_markdown(self) -> str:
        """A GitHub-flavoured Markdown table; numbers are aligned right."""
        if not self.columns:
            return ""
        cells = [[text.replace("|", "\\|") for text in column] for column in self._texts()]
        widths = [max(3, *map(len, column)) for column in cells]
        right = [self._numeric(name) for name in self.columns]
        rule = ["-" * (width - 1) + ":" if r else "-" * width for width, r in zip(widths, right, strict=True)]
        lines = [self._line(row, widths, right, " | ") for row in zip(*cells, strict=True)]
        return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(rule), *lines[1:]])

    def __str__(self) -> str:
        if not self.columns:
            return "(empty table)"
        cells = self._texts()
        widths = [max(map(len, column)) for column in cells]
        right = [True] * len(widths)
        return "\n".join(self._line(row, widths, right, "  ").rstrip() for row in zip(*cells, strict=True))

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        head, *rows = zip(*self._texts(), strict=True) if self.columns else [()]
        top = "".join(f"<th>{html.escape(text)}</th>" for text in head)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:right">{html.escape(text)}</td>' for text in row) + "</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"

    def _numeric(self, name: str) -> bool:
        return all(isinstance(value, (int, float)) or value is None for value in self._columns[name])

    def _texts(self) -> list[list[str]]:
        """For each column its name and its cells as texts."""
        return [[name, *map(_text, values)] for name, values in self._columns.items()]

    @staticmethod
    def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool], gap: str) -> str:
        fields = zip(row, widths, right, strict=True)
        return gap.join(text.rjust(width) if r else text.ljust(width) for text, width, r in fields)


def _text(value: Any) -> str:
    """A cell for reading: four significant digits, long sequences cut."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, _Floats):
        value = tuple(value.tolist())
    if isinstance(value, tuple):
        shown = [_text(entry) for entry in value[:4]]
        return "(" + ", ".join([*shown, f"... {len(value)} in all"] if len(value) > 4 else shown) + ")"
    return str(value)
