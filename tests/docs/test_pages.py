"""Every Python block of the pages runs: page by page, in order, in one namespace."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import rdmc
import rdmc.correct
import rdmc.inner
import rdmc.parameters
from rdmc.diagnostics.convergence import import_arviz
from tests.interop.optional import optional

DOCS = Path(__file__).resolve().parents[2] / "docs"
ELSEWHERE = {"interop.md": "tests/interop/test_docs.py", "scale.md": "tests/cluster/test_docs.py"}
NEEDS = {"two-modes.md": ("blackjax",), "start.md": ("matplotlib", "jinja2")}
NEEDS |= {"error-budget.md": ("matplotlib",), "mode-capturing.md": ("matplotlib",)}
SLOW = {"two-modes.md", "parameters.md", "choosing.md", "distill.md", "guidance.md", "gpu.md", "mode-capturing.md"}
FEW = 300  # draws a population: that a block runs needs no more
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = {path.name: BLOCK.findall(path.read_text()) for path in sorted(DOCS.glob("*.md"))}


def pages() -> list[Any]:
    own = [name for name, blocks in PAGES.items() if blocks and name not in ELSEWHERE]
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in own]


def run(name: str) -> dict[str, Any]:
    """The namespace that the blocks of a page leave behind."""
    space: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(PAGES[name], 1):
        exec(compile(block, f"docs/{name}, block {number}", "exec"), space)
    return space


def closely(result: rdmc.Result, weights: dict[int, float], log_evidence: float) -> None:
    """The truth that a page states is within five standard errors of what its blocks find."""
    assert result.log_evidence is not None
    assert result.log_evidence_mcse is not None
    assert abs(result.log_evidence - log_evidence) < 5 * result.log_evidence_mcse, (result.log_evidence, log_evidence)
    for mode, weight in weights.items():
        row = result.modes[mode]
        assert abs(row["weight"] - weight) < 5 * row["weight_mcse"], (mode, row["weight"], weight)


def claims(name: str, space: dict[str, Any]) -> None:
    """What pages say about the runs on them."""
    if name == "index.md":  # masses 2 pi / 4 e^-2 and 2 pi / 100
        closely(space["result"], {0: 0.7719, 1: 0.2281}, -1.2895)
    elif name == "start.md":
        closely(space["result"], {0: 0.8, 1: 0.2}, 2.061)
    elif name == "faq.md":
        assert abs(space["parameters"].constrain(space["result"].samples)["rate"].mean() - 2) < 5 * 2 / 1200**0.5
        closely(space["result"], {}, 0.6931)
    elif name == "two-modes.md":
        closely(space["ours"], {}, float(space["log_z"]))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", pages())
def test_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in NEEDS.get(name, ()):
        optional(package)
    import_arviz()
    sample = rdmc.sample

    @functools.wraps(sample)
    def few(*arguments: Any, **options: Any) -> rdmc.Result:
        draws = options.pop("draws", 1000)
        return sample(*arguments, draws=min(draws, FEW), **{"progressbar": False, **options})

    monkeypatch.setattr(rdmc, "sample", few)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    space = run(name)
    claims(name, space)
    assert torch.get_num_threads() == threads
    with capsys.disabled():
        print(f"\n{name}: {len(PAGES[name])} blocks, {len(capsys.readouterr().out)} characters printed")


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith("reference")])
def test_names_in_the_text_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", (DOCS / name).read_text(), flags=re.DOTALL)
    space: dict[str, Any] = {"rdmc": rdmc, "GuidedChains": rdmc.inner.GuidedChains}
    for code in re.findall(r"`(rdmc\.[A-Za-z_.]*(?:\([^`]*\))?)`", text):
        if not code.startswith(("rdmc.sample(", "rdmc.RayExecutor(", "rdmc.interop", "rdmc.RDMC(...)")):
            eval(code.replace("=…", "=2"), space)


def test_a_block_that_fails_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "planted.md", ["x = 1\n", "assert x == 2\n"])
    with pytest.raises(AssertionError):
        run("planted.md")


def test_no_block_escapes() -> None:
    assert sum(len(blocks) for blocks in PAGES.values()) >= 30
    for name in ELSEWHERE:
        assert (DOCS.parent / ELSEWHERE[name]).is_file()
    for path in DOCS.glob("*.md"):  # blocks that are indented or named otherwise would not run
        fences = [line for line in path.read_text().splitlines() if line.lstrip().startswith("```py")]
        assert all(line == "```python" for line in fences), path
        assert len(fences) == len(PAGES[path.name])


def test_packages_that_pages_need_are_known() -> None:
    for name, blocks in PAGES.items():
        if name not in ELSEWHERE and any("nuts" in block for block in blocks):
            assert "blackjax" in NEEDS[name]
