"""What the site does to docstrings and formulas."""

from __future__ import annotations

import pytest

ROLES = [
    ("the :class:`rdmc.Result` of :math:`x_t`", "the `rdmc.Result` of $x_t$"),
    ("see :func:`~rdmc.sample`, ``(B, d)``", "see `rdmc.sample`, `(B, d)`"),
    (".. math:: a = b,\n          c = d\n\nLaw", "\n$$ a = b, c = d $$\n\n\nLaw"),
    ("Example:\n    >>> [1]", "Examples:\n    >>> [1]"),
    ("Raises:\n    Nothing of its own.", "Raises nothing of its own."),
]


@pytest.mark.parametrize(("text", "wanted"), ROLES)
def test_docstrings_become_markdown(text: str, wanted: str) -> None:
    pytest.importorskip("griffe")
    from docs.hooks.roles import markdown

    assert markdown(text) == wanted


def test_formulas_become_mathml() -> None:
    pytest.importorskip("latex2mathml")
    from docs.hooks.formulas import on_page_content

    found = on_page_content('<p>a <span class="arithmatex">\\(x_0 \\sim p\\)</span></p>')
    assert found.startswith("<p>a <math ")
    assert "arithmatex" not in found
    assert "<msub><mi>x</mi><mn>0</mn></msub><mo>&#x0223C;</mo><mi>p</mi>" in found
    block = on_page_content('<div class="arithmatex">\\[a &lt; b\\]</div>')
    assert 'display="block"' in block
    assert "<mo>&lt;</mo>" in block or "&#x0003C;" in block
