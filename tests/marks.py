"""Cases that the default run leaves to the long one (``pytest -m slow``): more seeds and sizes of laws that it tests anyway."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Each as a case of the long run."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow) for v in values]
