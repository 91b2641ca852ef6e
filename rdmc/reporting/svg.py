"""A matplotlib panel as an SVG element that lives inside a page: its text in the page's font and colours."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rdmc.panels import INK, LINE, PALE, POPULATIONS, TRUTH, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CARD", "label", "on_page", "panel"]

SIZE = (3.4, 2.35)
DPI = 170
CARD = "#FEFEFE"
"""Stands for the colour behind the panel."""

_COLOURS = {INK: "currentColor", TRUTH: "currentColor", LINE: "var(--line)", PALE: "var(--pale)", CARD: "var(--card)"}
_COLOURS |= {POPULATIONS[0]: "var(--p0)", POPULATIONS[6]: "var(--p6)"}  # too dark on black and too light on white
_LONGEST = 28


def label(text: str, longest: int = _LONGEST) -> str:
    r"""A user's text as matplotlib and XML can show it: no formulas, no control characters, not too long.

    Example:
        >>> label("a$b$"), label("x" * 40, 8)
        ('a\\$b\\$', 'xxxxxxx…')
    """
    plain = _printable(text)
    plain = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return re.sub(r"\\*\$", r"\\$", plain)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def panel(draw: Callable[[Axes], None], alt: str, title: str = "", size: tuple[float, float] = SIZE) -> str:
    """Draw one panel.

    Args:
        draw: Draws on the axes it is given.
        alt: What the panel shows, for those who do not see it.
        title: Heading inside the panel.
        size: Width and height in inches.

    Returns:
        An ``<svg>`` element without fixed size, whose ids occur in no other panel, and which fetches nothing. Inks are
        ``currentColor`` and variables of the page, so the panel follows its light or dark colours.
    """
    from matplotlib import style

    alt = _printable(alt)
    buffer = io.StringIO()
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": alt}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's own font has it
        page = _drawn(draw, title, size)
        page.savefig(buffer, format="svg", transparent=True, dpi=DPI, metadata={"Date": None})
    return _inline(buffer.getvalue(), alt)


def _drawn(draw: Callable[[Axes], None], title: str, size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    page = Figure(figsize=size)
    page.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    axes = page.subplots()
    axes.set_facecolor("none")
    tidy(axes)
    draw(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set(fontsize=7, color=INK)
        axis.label.set(fontsize=8.5, color=INK)
    if title:
        axes.set_title(label(title), loc="left", fontsize=9, fontweight="bold", color=INK)
    return page


def on_page(style: str) -> str:
    """The style with matplotlib's font and colours replaced by those of the page."""
    style = re.sub(r"(font: [^;']*px) [^;]*", r"\1 var(--sans)", style)
    return re.sub(r"#[0-9a-fA-F]{6}", lambda found: _COLOURS.get(found[0].upper(), found[0]), style)


def _inline(text: str, alt: str) -> str:
    root = ElementTree.fromstring(text)
    prefix = "p" + hashlib.sha256(f"{alt}{text}".encode()).hexdigest()[:10] + "-"
    for parent in root.iter():
        for child in list(parent):
            local = child.tag.rpartition("}")[2]
            if local == "metadata" or (local == "defs" and child.find("{*}style") is not None):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        found = {key.rpartition("}")[2]: value for key, value in node.attrib.items()}
        node.attrib.clear()
        for key, value in found.items():
            if key == "id":
                value = prefix + value
            elif key == "href" and value.startswith("#"):
                value = f"#{prefix}{value[1:]}"
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{prefix}")
            node.set(key, on_page(value) if key in ("style", "fill", "stroke") else value)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode")
