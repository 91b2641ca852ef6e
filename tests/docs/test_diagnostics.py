"""The page of diagnostics has every rule in its order, with every text that the rule can say."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from rdmc.diagnostics import RULES, convergence

PAGE = Path(__file__).resolve().parents[2] / "docs" / "diagnostics.md"
SECTIONS = dict(section.partition("\n")[::2] for section in PAGE.read_text().split("\n### ")[1:])
SHORT = 12  # a text between two placeholders that is shorter may be written otherwise


def plain(text: str) -> str:
    """One space wherever there is white space; quotation marks of Markdown gone."""
    return re.sub(r"\s+", " ", text.replace("\n> ", " "))


def said(function: Callable[..., object]) -> list[str]:
    """All fixed parts of strings that a function can return, docstring left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    found: list[str] = []
    for statement in tree.body[1:]:
        inside = [node for node in ast.walk(statement) if isinstance(node, ast.JoinedStr)]
        nested = {id(part) for node in inside for part in ast.walk(node) if part is not node}
        for node in ast.walk(statement):
            if id(node) in nested:
                continue
            if isinstance(node, ast.JoinedStr):
                found += [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [plain(part).strip(" :;,.()") for part in found if len(part.strip()) >= SHORT and " " in part.strip()]


def missing(rule: Callable[..., object], section: str) -> list[str]:
    return [part for part in said(rule) if part not in plain(section)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_text_of_a_rule_is_on_the_page(rule: Callable[..., object]) -> None:
    assert rule.__name__ in SECTIONS, f"docs/diagnostics.md has no section `### {rule.__name__}`"
    assert said(rule), "no text was found in the rule's source"
    assert missing(rule, SECTIONS[rule.__name__]) == []


def test_what_cannot_be_judged_is_on_the_page() -> None:
    reasons = [part for part in said(convergence) if not part.startswith("`samples` must")]
    assert len(reasons) >= 4
    page = plain(SECTIONS["populations_agree"]).lower()
    assert [part for part in reasons if part.lower() not in page] == []


def test_rules_are_in_their_order_and_explained() -> None:
    names = [rule.__name__ for rule in RULES]
    assert [name for name in SECTIONS if name in names] == names
    for name in names:
        assert "*When:*" in SECTIONS[name], name
        assert "*What to do:*" in SECTIONS[name], name


def test_a_text_that_is_not_on_the_page_is_seen() -> None:
    section = SECTIONS["enough_draws"].replace("Ask for more draws", "Take more draws")
    assert missing(RULES[[rule.__name__ for rule in RULES].index("enough_draws")], section)
