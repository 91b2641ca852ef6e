"""Libraries that come with an extra, imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, extra: str, user: str) -> Any:
    """Import an optional library on first use.

    Args:
        module: Dotted name of the module.
        extra: The extra of this package that brings it.
        user: What needs it, for the message.

    Raises:
        ImportError: If it isn't there, with the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{user} needs the package `{package}`, which is not installed or does not load ({error}): pip install 'rdmc[{extra}]'"
        ) from error
