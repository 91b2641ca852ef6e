"""The structure holds: one-way layers, small files, and an import that is quick."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import smoke

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    (
        "errors",
        "optional",
        "typing",
        "arguments",
        "contract",
        "rng",
        "table",
        "progress",
        "linear",
        "archive",
        "checkpoint",
    ),
    (
        "density",
        "coordinates",
        "supports",
        "rate",
        "process",
        "grid",
        "look",
        "mixture",
        "conditioned",
        "student",
        "particles",
        "journal",
        "tape",
        "memory",
        "compiling",
        "parameters",
        "relabelling",
    ),
    ("posterior", "kernels", "locate"),
    ("inner", "steps"),
    ("score",),
    ("schedule", "start", "sampler", "job", "spread", "assembly", "capture"),
    ("correct", "path"),
    ("budget",),
    ("level",),
    ("reverse", "guidance", "baselines", "auto", "refit", "path_smc"),
    ("diagnostics", "registry"),
    ("export",),
    ("result",),
    ("run",),
    ("sampling",),
    ("panels",),
    ("network", "plot", "plot_levels", "stein"),
    ("comparison",),
    ("comparing", "reporting"),
    ("cli_target", "interop"),
    ("cli",),
)
HOME = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted((ROOT / "rdmc").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, also inside functions but not for type checking alone."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found


def home(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "rdmc" and len(parts) > 1 and parts[1] in HOME else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(ROOT / "rdmc").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in HOME, f"{own} has no layer"
    for dotted in imports(path):
        assert not dotted.startswith(("targets", "benchmarks", "tests")), f"{path.name} imports {dotted}"
        other = home(dotted)
        if other is not None and other != own:
            assert HOME[other] < HOME[own] or (HOME[other] == HOME[own] and not _cycle(own, other)), (
                f"{own} (layer {HOME[own]}) imports {other} (layer {HOME[other]})"
            )


@pytest.mark.parametrize("package", sorted({path.parent.name for path in MODULES} - {"rdmc"}))
def test_a_package_has_no_cycles(package: str) -> None:
    files = {f"rdmc.{package}.{path.stem}": path for path in (ROOT / "rdmc" / package).glob("*.py")}
    parts = {name: path for name, path in files.items() if path.stem != "__init__"}
    graphlib.TopologicalSorter({name: imports(path) & parts.keys() for name, path in parts.items()}).prepare()


def _cycle(own: str, other: str) -> bool:
    """Whether `other`, in the same layer, imports `own` back."""
    base = ROOT / "rdmc" / other
    files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    return any(home(dotted) == own for file in files for dotted in imports(file))


@pytest.mark.parametrize("path", sorted((ROOT / "targets").rglob("*.py")), ids=lambda path: path.name)
def test_targets_stand_alone(path: Path) -> None:
    assert all(not name.startswith("rdmc") or name.startswith("rdmc.typing") for name in imports(path))


@pytest.mark.parametrize("folder", ["rdmc", "targets", "benchmarks", "tests", "examples", "docs"])
def test_files_are_small(folder: str) -> None:
    long = {str(path): n for path in (ROOT / folder).rglob("*.py") if (n := len(path.read_text().splitlines())) > 300}
    assert not long


def test_every_benchmark_is_tried() -> None:
    own = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if 'add_argument("--smoke"' in path.read_text()}
    assert own - {"speed_peers"} == set(smoke.NAMES)


def test_import_is_light() -> None:
    """Nothing of another library is imported before it is asked for, and torch not before it is needed."""
    code = (
        "import sys, rdmc; rdmc.__version__; early = 'torch' in sys.modules\n"
        "import rdmc.cli, rdmc.interop as interop, rdmc.plot, rdmc.progress\n"
        "for name in interop.__all__: getattr(interop, name)\n"
        "interop.adapt((lambda x: -0.5 * (x**2).sum(-1), lambda x: -x), dim=2), rdmc.sample, rdmc.SAMPLERS\n"
        "heavy = ('arviz', 'blackjax', 'bridgestan', 'emcee', 'jax', 'matplotlib', 'numpyro', 'pandas', 'pymc', 'pyro', "
        "'pytensor', 'scipy', 'sklearn', 'xarray')\n"
        "print(early, [m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "False []"
