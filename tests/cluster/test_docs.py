"""Every snippet of the page runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL)
NEEDS = ("loky", "distributed", "ray", "mpi4py")

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.mark.parametrize("code", SNIPPETS, ids=lambda code: code.splitlines()[0])
def test_snippet(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    missing = [
        name for name in NEEDS if re.search(rf"(import|from) {name}", code) and not importlib.util.find_spec(name)
    ]
    if missing:
        pytest.skip(f"needs the package {missing[0]}")
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script)]
    if "mpi4py" in code:
        mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
        if mpiexec is None:
            pytest.skip("needs mpiexec")
        command = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 chains x 1000 draws" in done.stdout
