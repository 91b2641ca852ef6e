"""What a page is made of: plain texts, tables and figures, which the template lays out and escapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Plate", "Section", "Sheet", "Verdict", "cell", "sheet", "with_error"]


@dataclass(frozen=True)
class Sheet:
    """A table of texts; the first column names the row.

    Attributes:
        caption: What the table shows.
        columns: Their heads.
        rows: One text a column.
        right: Whether each column holds numbers, which stand right.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]


@dataclass(frozen=True)
class Plate:
    """A figure of panels that stand beside each other where there is room.

    Attributes:
        caption: What is seen, and how to read it.
        panels: SVG elements.
        key: Colour and label of each population.
    """

    caption: str
    panels: tuple[str, ...]
    key: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """A headed part of the page; empty parts are left out.

    Attributes:
        anchor: Its id in the page.
        title: Its heading.
        lead: Paragraphs.
        sheets: Tables.
        plates: Figures.
        items: A list of remarks.
        code: A listing.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    plates: tuple[Plate, ...] = ()
    items: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is known to be wrong, and no more than that.

    Attributes:
        good: Whether no problem is known.
        title: The verdict in a few words.
        lead: What it rests on.
        items: Problems, each with what to do next.
    """

    good: bool
    title: str
    lead: tuple[str, ...]
    items: tuple[str, ...] = ()


def cell(value: Any) -> str:
    """A value for reading: four significant digits, a dash for what does not exist, long sequences cut.

    Example:
        >>> cell(0.123456), cell(None), cell(85367), cell([1.0, 2.0])
        ('0.1235', '-', '85,367', '(1, 2)')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        more = [f"… {len(value)} in all"] if len(value) > 4 else []
        return "(" + ", ".join([*map(cell, value[:4]), *more]) + ")"
    return str(value)


def with_error(value: float, error: float | None) -> str:
    """A number and its standard error, to two digits of the error.

    Example:
        >>> with_error(0.76901, 0.01793), with_error(-1.287, None), with_error(1.0, 0.0)
        ('0.769 ± 0.018', '-1.287', '1 ± 0')
    """
    if error is None or not math.isfinite(error) or not math.isfinite(value):
        return cell(float(value))
    if error <= 0:
        return f"{value:.4g} ± 0"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} ± {error:.{digits}f}" if digits < 10 else f"{value:.4g} ± {error:.2g}"


def sheet(caption: str, rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str] | None = None) -> Sheet:
    """A table from row dicts with the same keys; columns without a single entry are left out.

    Args:
        caption: What the table shows.
        rows: The rows.
        heads: Texts over columns that are not to be headed by their key.
    """
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    right = tuple(not any(isinstance(row[name], str) and _word(row[name]) for row in rows) for name in names)
    texts = tuple(tuple(cell(row[name]) for name in names) for row in rows)
    return Sheet(caption, tuple((heads or {}).get(name, name.replace("_", " ")) for name in names), texts, right)


def _word(text: str) -> bool:
    """Whether a text is more than a formatted number."""
    return text[:1].isalpha() or text[:1] in ("(", "<")
