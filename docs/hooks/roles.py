"""Docstrings are written with a few reStructuredText roles; the site reads Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_BLOCK = re.compile(r"^([ \t]*)\.\. math::[ \t]*(.*(?:\n\1[ \t]+\S.*)*)", re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`")


def markdown(text: str) -> str:
    r"""Formulas between dollars, references as code.

    Example:
        >>> markdown("the :class:`rdmc.Result` of :math:`x_t`")
        'the `rdmc.Result` of $x_t$'
    """

    def block(match: re.Match[str]) -> str:
        formula = " ".join(line.strip() for line in textwrap.dedent(match.group(2)).splitlines())
        return f"{match.group(1)}\n{match.group(1)}$$ {formula} $$\n"

    text = re.sub(r":math:`([^`]*)`", r"$\1$", _BLOCK.sub(block, text))
    text = re.sub(
        r"^([ \t]*)Example:$", r"\1Examples:", text, flags=re.MULTILINE
    )  # a section of its own: code, not links
    text = re.sub(r"^([ \t]*)Raises:\n[ \t]*Nothing", r"\1Raises nothing", text, flags=re.MULTILINE)
    return _ROLE.sub(r"`\1`", text).replace("``", "`")


class Roles(Extension):
    """Rewrites every docstring before it is rendered."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
