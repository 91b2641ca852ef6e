"""Libraries that may not be there, imported without the notices that they show at the first import."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

__all__ = ["optional"]


def optional(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module)
