"""Measurements on disk: one JSON line each, so that a long benchmark can stop and go on."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["Store", "environment", "mean_and_error", "pm"]


def environment() -> str:
    """What the figures were measured with, on one line."""
    return f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Average and its standard error (NaN for a single value)."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)


def pm(values: Sequence[float], digits: int = 3) -> str:
    """``mean ± standard error`` for a table."""
    mean, error = mean_and_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


class Store:
    """Records by key, appended to a file as they are made; with no path they are kept in memory only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.records[record["key"]] = record

    def forget(self, beginnings: tuple[str, ...]) -> None:
        """Drop the records whose keys begin with one of these, from the file too."""
        self.records = {key: record for key, record in self.records.items() if not key.startswith(beginnings)}
        if self.path is not None and self.path.exists():
            self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records.values()))

    def get(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of that key, measured now if it was not before."""
        if key not in self.records:
            record = {"key": key, **measure()}
            self.records[key] = record
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
        return self.records[key]
