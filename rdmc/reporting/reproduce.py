"""The code that repeats a run, from what the result remembers; nothing that a file holds is executed."""

from __future__ import annotations

import ast
import importlib
import pkgutil

import rdmc
from rdmc.comparison import Comparison
from rdmc.registry import SAMPLERS
from rdmc.reporting.parts import Section
from rdmc.reporting.subject import Subject
from rdmc.result import Result

__all__ = ["code_section"]

_HOMES = (  # to look in first
    *("rdmc", "rdmc.baselines", "rdmc.inner", "rdmc.kernels", "rdmc.steps", "rdmc.score", "rdmc.schedule"),
    *(
        "rdmc.start",
        "rdmc.process",
        "rdmc.rate",
        "rdmc.grid",
        "rdmc.locate.pilot",
        "rdmc.coordinates",
        "rdmc.inner.base",
    ),
)
_OURS = "your log density, or an object with `dim` and `log_density`: it is not saved with the draws"


def code_section(subject: Subject) -> Section:
    """The listing, and what has to be known to use it."""
    if subject.comparison is not None:
        code = _comparison_code(subject.comparison)
    else:
        code = _result_code(next(iter(subject.results.values())))
    lead = "The same seed gives the same bits with the same versions, on the same kind of machine."
    return Section("code", "Code to reproduce it", (lead,), code=code)


def _versions(result: Result | None) -> str:
    known = {} if result is None else result.versions
    return "".join(f"# {name} {' '.join(version.split())}\n" for name, version in known.items())


def _result_code(result: Result) -> str:
    imports, sampler = _sampler(result.sampler, result.config)
    arguments = [f"dim={result.dim}", f"draws={result.draws}", f"chains={result.chains}"]
    if result.seed is not None:
        arguments.append(f"seed={result.seed}")
    arguments.append(f"sampler={sampler}")
    if result.names is not None:
        arguments.append(f"names={list(result.names)!r}")
    dtype = str(result.samples.dtype)
    if dtype != "torch.float64":
        imports = ["import torch", *imports]
        arguments.append(f"dtype={dtype}")
    body = "".join(f"    {argument},\n" for argument in ("log_density", *arguments))
    note = "# the run was interrupted: this repeats the whole of it\n" if result.partial else ""
    return (
        f"{_versions(result)}{''.join(line + chr(10) for line in imports)}import rdmc\n\n"
        f"log_density = ...  # {_OURS}\n{note}result = rdmc.sample(\n{body})\nprint(result.summary())\n"
    )


def _comparison_code(comparison: Comparison) -> str:
    settings = comparison.settings
    known = [name for name in comparison.samplers if name in SAMPLERS]
    own = [name for name in comparison.samplers if name not in SAMPLERS]
    arguments = [repr(known)]
    arguments += [
        f"{name}={settings[name]!r}"
        for name in ("budget", "draws", "chains", "seed", "seeds", "dim")
        if settings.get(name) is not None
    ]
    body = "".join(f"    {argument},\n" for argument in ("target", *arguments))
    note = f"# and, built from their configurations above: {', '.join(map(repr, own))}\n" if own else ""
    target = f"{str(settings.get('target', 'unknown'))!r}: {_OURS}"
    first = next((run for runs in comparison.results.values() for run in runs), None)
    return (
        f"{_versions(first)}import rdmc\n\ntarget = ...  # {target}\n{note}"
        f"comparison = rdmc.compare(\n{body})\nprint(comparison)\n"
    )


def _sampler(name: str, config: str) -> tuple[list[str], str]:
    """Imports and the expression of the sampler: its name where that says it all, else its configuration."""
    if name in SAMPLERS and (not config or repr(SAMPLERS[name]()) == config):
        return [], repr(name)
    try:
        tree = ast.parse(config, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return [f"# the sampler {name!r} has the configuration above"], "..."
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"inf", "nan"})
    homes = {found: _home(found) for found in names}
    if not isinstance(tree, ast.Call) or not names or not all(homes.values()):
        return [f"# the sampler {name!r} has the configuration above"], "..."
    imports = [f"from {home} import {found}" for found, home in sorted(homes.items(), key=lambda pair: str(pair[1]))]
    return imports, _call(tree)


def _call(tree: ast.Call) -> str:
    """The call with one argument a line."""
    arguments = [*map(ast.unparse, tree.args), *(f"{word.arg}={ast.unparse(word.value)}" for word in tree.keywords)]
    return f"{ast.unparse(tree.func)}(\n" + "".join(f"        {argument},\n" for argument in arguments) + "    )"


def _home(name: str) -> str | None:
    """The module of ours that exports a class of this name."""
    found = [f"rdmc.{module.name}" for module in pkgutil.iter_modules(rdmc.__path__)]
    rest = [home for home in found if home not in _HOMES and not home.startswith(("rdmc.cli", "rdmc.reporting"))]
    for home in (*_HOMES, *rest):
        module = importlib.import_module(home)
        if name in getattr(module, "__all__", ()) and isinstance(getattr(module, name, None), type):
            return home
    return None
