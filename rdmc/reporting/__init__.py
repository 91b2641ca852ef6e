"""One HTML page about a result or a comparison: what ran, the verdict in words, the figures, the code to repeat it."""

from rdmc.reporting.page import report

__all__ = ["report"]
