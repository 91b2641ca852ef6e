"""The site is built without a warning, needs nothing from elsewhere, and documents every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rdmc
import rdmc.interop
import targets
from docs.hooks.tables import table

ROOT = Path(__file__).resolve().parents[2]
REMOTE = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b(?![^>]*rel=\"canonical\")[^>]*\bhref=\"(?:https?:)?//"
)
IMPORTS = re.compile(r"@import[^;]*(?:https?:)?//|url\(['\"]?(?:https?:)?//")


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs").glob("reference*.md"))
    listed = {line.rsplit(".", 1)[-1] for line in re.findall(r"^::: (.+)$", text, re.MULTILINE)}
    assert set(rdmc.__all__) - {"__version__"} <= listed, set(rdmc.__all__) - listed


@pytest.mark.parametrize("package", ["kernels", "steps", "inner", "correct", "baselines", "diagnostics"])
def test_every_part_is_in_the_reference(package: str) -> None:
    module = __import__(f"rdmc.{package}", fromlist=["__all__"])
    text = "".join(page.read_text() for page in (ROOT / "docs").glob("reference*.md"))
    left = {name for name in module.__all__ if not re.search(rf"^::: rdmc\.{package}\.{name}$", text, re.MULTILINE)}
    assert left <= {"Denoiser", "Law", "Proposal", "RULES", "ResultLike"}  # types, and a tuple with a page of its own


def test_every_front_end_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference-interop.md").read_text()
    assert [name for name in rdmc.interop.__all__ if f"::: rdmc.interop.{name}" not in text] == []


def test_files_named_to_contributors_are_there() -> None:
    named = set(
        re.findall(r"`((?:tests|rdmc|targets|docs|benchmarks)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    )
    assert len(named) >= 15
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_tables_that_pages_take_are_there() -> None:
    found = 0
    for page in (ROOT / "docs").glob("*.md"):
        for heading, number in re.findall(r"^<!-- benchmarks: (.+), (\d+) -->$", page.read_text(), re.MULTILINE):
            assert table(heading, int(number)).count("\n") > 2
            found += 1
    assert found >= 8
    with pytest.raises(ValueError, match="`number` must be between"):
        table("Calibration", 99)


@pytest.mark.parametrize(
    ("tag", "remote"),
    [
        ('<script src="https://unpkg.com/iframe-worker/shim"></script>', True),
        ('<link rel="stylesheet" href="//fonts.googleapis.com/css">', True),
        ('<img alt="x" src="http://example.org/x.png">', True),
        ('<script src="assets/bundle.js"></script>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
        ('<a href="https://arxiv.org/abs/2307.02037">', False),
    ],
)
def test_what_comes_from_elsewhere_is_seen(tag: str, remote: bool) -> None:
    assert bool(REMOTE.search(tag)) is remote


@pytest.mark.slow
def test_the_site_builds_strictly_and_offline(tmp_path: Path) -> None:
    """Into the folder that the variable SITE names, if it does."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    site = ROOT / os.environ.get("SITE", tmp_path / "site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {
        **os.environ,
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        assert not REMOTE.search(text), (page.name, REMOTE.search(text))
        assert "arithmatex" not in text, f"{page.name}: a formula was left as it is"
    reference = (site / "reference-targets.html").read_text()
    left = [name for name in targets.ALL if not re.search(rf'id="targets\.(?:{name}\.)?{name}"', reference)]
    assert left == []
    for sheet in site.rglob("*.css"):
        assert not IMPORTS.search(sheet.read_text()), sheet.name
