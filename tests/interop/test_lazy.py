"""What is missing is named with its extra."""

from __future__ import annotations

import subprocess
import sys

from rdmc.interop.model import require

CALLS = [
    ("interop.pymc.density()", "pymc", "pymc"),
    ("interop.numpyro.density(print)", "numpyro", "jax"),
    ("interop.jax.density(print, 2)", "jax", "jax"),
    ("interop.pyro.density(print)", "pyro", "pyro"),
]


def test_what_is_missing_is_named() -> None:
    code = ["import sys", "sys.modules.update({name: None for name in ('pymc', 'numpyro', 'jax', 'pyro')})"]
    code += ["from rdmc import interop"]
    code += [f"try:\n    {call}\nexcept ImportError as error:\n    print(error)" for call, _, _ in CALLS]
    out = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    for line, (_, package, extra) in zip(out.stdout.splitlines(), CALLS, strict=True):
        assert f"the package `{package}`" in line
        assert f"pip install 'rdmc[{extra}]'" in line


def test_require_gives_the_module() -> None:
    assert require("math", "none").pi > 3.0
