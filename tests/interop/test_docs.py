"""The page runs: every section's snippets, in order, in a namespace of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rdmc.diagnostics.convergence import import_arviz
from tests.interop.optional import optional

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interop.md"
NEEDS = {"PyMC": "pymc", "NumPyro": "numpyro", "JAX": "jax", "Pyro": "pyro"}
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"(?<!<!-- not run -->\n)```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.read_text().split("\n## ")[1:]
}


def test_the_page_has_snippets() -> None:
    assert len(SECTIONS) >= 9
    assert [name for name, snippets in SECTIONS.items() if not snippets] == ["Stan"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", SECTIONS)
def test_snippets_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import_arviz()
    if name in NEEDS:
        optional(NEEDS[name])
    space: dict[str, object] = {}
    for snippet in SECTIONS[name]:
        exec(compile(snippet, f"docs/interop.md, {name}", "exec"), space)
    with capsys.disabled():
        print(f"\n{name}: {capsys.readouterr().out.strip()[-400:]}")
