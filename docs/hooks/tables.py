"""Tables of the benchmarks are taken from where they are written, so that a page can't show older figures.

A line ``<!-- benchmarks: HEADING, N -->`` becomes the Nth table below that heading (or marker) of ``benchmarks/README.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_HERE = re.compile(r"^<!-- benchmarks: (.+), (\d+) -->$", re.MULTILINE)
_SOURCE = Path(__file__).resolve().parents[2] / "benchmarks" / "README.md"


def table(heading: str, number: int) -> str:
    """The table as Markdown.

    Raises:
        ValueError: If there is none.
    """
    found = re.split(rf"^## {re.escape(heading)}\n", _SOURCE.read_text(), flags=re.MULTILINE)
    if len(found) != 2:
        raise ValueError(f"`heading` must be one of `benchmarks/README.md`, got {heading!r}")
    section = found[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    if not 1 <= number <= len(tables):
        raise ValueError(f"`number` must be between 1 and {len(tables)} below {heading!r}, got {number}")
    return str(tables[number - 1])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the marked lines of a page."""
    return _HERE.sub(lambda match: table(match.group(1), int(match.group(2))), markdown)
