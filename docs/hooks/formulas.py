"""Formulas become MathML while the site is built, so that a page needs no script and no font from elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match.group(1) == "div" else "inline"
    found = convert(html.unescape(match.group(2)).strip(), display=display)
    found = re.sub(r"(<mi>(?:log|exp)</mi>)(?!<mo)", r'\1<mspace width="0.17em"/>', found)
    return found.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")


def on_page_content(content: str, **_: Any) -> str:
    """Replaces what the Markdown extension `arithmatex` marked."""
    return _FOUND.sub(_mathml, content)
