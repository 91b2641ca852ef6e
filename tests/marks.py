"""Cases that the default run leaves to the long one (``pytest -m slow``): more seeds and sizes of laws that it tests anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Each as a case of the long run."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow) for v in values]


def crossed(rows: Sequence[Any], columns: Sequence[Any], row: type, column: type) -> list[Any]:
    """Every row with the one column and every column with the one row, which cross; the rest of the table for the long run."""
    return [
        pytest.param(
            a,
            b,
            id=f"{type(a).__name__}-{type(b).__name__}",
            marks=[] if isinstance(a, row) or isinstance(b, column) else [pytest.mark.slow],
        )
        for a in rows
        for b in columns
    ]
