"""The command line: ``rdmc sample TARGET``, ``rdmc compare TARGET``, ``rdmc report FILE`` and ``rdmc targets``.

Only the standard library and Typer are imported here; torch and the rest come with the command that needs them, so that
``rdmc --help`` answers at once.

Exit codes: 0 fine; 1 the run failed, or ``--strict`` and the result has problems; 2 bad usage, with one line on stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import typer

from rdmc.cli_target import UsageError, is_target, load_target, module_named, pool_for
from rdmc.errors import SamplingWarning

__all__ = ["app", "main"]

app = typer.Typer(
    help="Sample unnormalised multimodal densities by Reverse Diffusion Monte Carlo.",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Needs: TypeAlias = Mapping[str, tuple[str, ...]]  # what a file of that suffix needs to be written
RESULT: Needs = {".nc": ("arviz", "h5netcdf", "h5py"), ".npz": ()}
REPORT: Needs = {".html": ("jinja2", "matplotlib")}
COMPARISON: Needs = {".md": (), ".zip": (), ".png": ("matplotlib",), ".pdf": ("matplotlib",), ".svg": ("matplotlib",)}


@app.callback()
def _root() -> None:
    """Sample unnormalised multimodal densities by Reverse Diffusion Monte Carlo."""


def _fail(message: object, code: int) -> NoReturn:
    typer.echo(f"rdmc: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(code)


def _strict_json(value: Any) -> Any:
    """NaN and infinities as null: what other programs can read."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict_json(entry) for key, entry in value.items()}
    return [_strict_json(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _in_numbers(result: Any, problems: list[str]) -> dict[str, Any]:
    names = (
        "sampler config seed chains draws dim log_evidence log_evidence_mcse gradient_evaluations density_evaluations"
    )
    names += " evaluations_per_draw seconds partial versions"
    found = {name: getattr(result, name) for name in names.split()}
    found |= {"rhat": result.convergence.worst_rhat, "ess": result.convergence.worst_ess}
    return {**found, "modes": list(result.modes), "problems": problems}


def _writable(outs: list[Path], suffixes: Needs) -> None:
    """Refuse before the run what could not be written after it."""
    for out in outs:
        if out.suffix not in suffixes:
            raise UsageError(f"--out must end in {', '.join(suffixes)}, got {str(out)!r}")
        if not out.resolve().parent.is_dir():
            raise UsageError(f"--out must be in an existing folder, got {str(out)!r}")
        if out.is_dir():
            raise UsageError(f"--out must name a file, got the folder {str(out)!r}")
        missing = [name for name in suffixes[out.suffix] if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(f"--out {out} needs {' and '.join(missing)}: pip install 'rdmc[report]'")


def _prepared(target: str, dim: int | None, outs: list[Path], suffixes: Needs) -> tuple[Any, int | None]:
    """The target, if what comes of it can be written."""
    try:
        _writable(outs, suffixes)
        return load_target(target, dim)
    except UsageError as problem:
        _fail(problem, 2)


def _run(
    command: Callable[..., Any], *arguments: Any, keep: Callable[[Any], object] | None = None, **options: Any
) -> Any:
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SamplingWarning)  # a summary lists the problems
                return command(*arguments, **options)
        except Exception as error:
            if keep is not None and (part := getattr(error, "partial", None)) is not None:
                keep(part)  # what was done before
            raise
    except ValueError as error:  # wrong arguments, or a density that breaks its contract
        _fail(error, 2)
    except RuntimeError as error:  # non-finite or improper density
        _fail(f"{type(error).__name__}: {error}", 1)


def _write(write: Callable[[Path], object], out: Path) -> None:
    try:
        write(out)
    except (OSError, ValueError, ImportError) as error:
        _fail(f"writing {out} failed: {error}", 1)
    typer.echo(f"Written to {out}", err=True)


@app.command()
def sample(
    target: Annotated[str, typer.Argument(help="package.module:attribute or file.py:attribute")],
    draws: Annotated[int, typer.Option(min=1, help="Draws per chain.")] = 1000,
    chains: Annotated[int, typer.Option(min=1, help="Independent populations.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    sampler: Annotated[str, typer.Option(help="Name of the sampler.")] = "auto",
    dim: Annotated[int | None, typer.Option(min=1, help="Dimension, for a bare callable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the result: run.nc or run.npz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if the result has problems.")] = False,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Show a progress bar.")] = True,
    checkpoint: Annotated[Path | None, typer.Option(help="File that keeps what is done; run again to go on.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to run populations in.")] = 1,
) -> None:
    """Sample TARGET and print a summary."""
    density, known_dim = _prepared(target, dim, [out] if out else [], RESULT)
    options: dict[str, Any] = {
        "draws": draws,
        "chains": chains,
        "sampler": sampler,
        "seed": seed,
        "progressbar": progress,
    }
    options |= {"checkpoint": checkpoint, "executor": pool_for(target, workers)}

    def save(result: Any) -> None:
        if out is not None:
            netcdf = importlib.import_module("rdmc.export").write_netcdf
            _write(result.save if out.suffix == ".npz" else lambda path: netcdf(result, path), out)

    result = _run(importlib.import_module("rdmc").sample, density, dim=known_dim, keep=save, **options)
    problems = result.check()
    typer.echo(json.dumps(_strict_json(_in_numbers(result, problems)), indent=2) if as_json else result.summary())
    save(result)
    if strict and problems:
        raise typer.Exit(1)


@app.command()
def compare(
    target: Annotated[str, typer.Argument(help="package.module:attribute or file.py:attribute")],
    samplers: Annotated[str, typer.Option(help="Names, separated by commas; by default all.")] = "",
    budget: Annotated[float, typer.Option(help="Gradient evaluations per draw.")] = 1000,
    draws: Annotated[int, typer.Option(min=1, help="Draws per chain.")] = 200,
    chains: Annotated[int, typer.Option(min=1, help="Independent populations.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each sampler.")] = 1,
    dim: Annotated[int | None, typer.Option(min=1, help="Dimension, for a bare callable.")] = None,
    out: Annotated[list[Path] | None, typer.Option(help="Repeatable: x.md, .png, .pdf, .svg, .zip.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress bars.")] = True,
) -> None:
    """Run several samplers on TARGET at one budget and print a table."""
    density, known_dim = _prepared(target, dim, out or [], COMPARISON)
    chosen = [name.strip() for name in samplers.split(",")] if samplers else None
    run = importlib.import_module("rdmc").compare
    options: dict[str, Any] = {"seeds": seeds, "dim": known_dim, "progressbar": progress}
    found = _run(run, density, chosen, budget, draws, chains, seed, **options)
    report = {"settings": found.settings, "table": found.table, "ranking": found.ranking, "notes": found.notes}
    typer.echo(json.dumps(_strict_json(report), indent=2) if as_json else found.to_markdown())
    for path in out or []:
        _write({".md": found.save_markdown, ".zip": found.save}.get(path.suffix, found.plot), path)
    if not found.ranking:
        raise typer.Exit(1)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="What `rdmc sample` wrote as .npz, or `rdmc compare` as .zip.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page about FILE: verdict, modes, figures, and the code to repeat it."""
    try:
        _writable([out], REPORT)
        if not file.is_file():
            raise UsageError(f"no file {str(file)!r}")
    except UsageError as problem:
        _fail(problem, 2)
    write = importlib.import_module("rdmc.reporting").report
    try:
        _run(write, file, out)
    except OSError as error:
        _fail(f"writing {out} failed: {error}", 1)
    typer.echo(f"Written to {out}", err=True)


def _listed() -> Iterable[Any]:
    """Every target of ``targets.ALL``: a mapping or a sequence of targets or of factories without arguments."""
    module = module_named("targets")
    every = getattr(module, "ALL", None)
    if every is None:
        raise UsageError("the package `targets` has no list `ALL`")
    entries = every.values() if isinstance(every, Mapping) else every
    for entry in entries:
        try:
            yield entry if is_target(entry) else entry()
        except ImportError as missing:  # data that an optional package ships
            typer.echo(f"{getattr(entry, '__name__', entry)}: not listed, it needs {missing.name}", err=True)


@app.command()
def targets(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    """List the benchmark targets and what is known about each."""
    from rdmc.table import Table

    columns = ("name", "dim", "exact draws", "log Z", "modes", "source")
    rows = []
    try:
        for target in _listed():
            weights = getattr(target, "mode_weights", None)
            rows.append(
                {
                    "name": target.name,
                    "dim": target.dim,
                    "exact draws": "yes" if getattr(target, "can_sample", False) else "no",
                    "log Z": None if getattr(target, "log_z", None) is None else float(target.log_z),
                    "modes": None if weights is None else len(weights),
                    "source": getattr(target, "source", ""),
                }
            )
    except UsageError as problem:
        _fail(problem, 2)
    if as_json:
        typer.echo(json.dumps(_strict_json(rows), indent=2))
        return
    typer.echo(str(Table.from_rows(rows, columns).select(*columns[:-1])))


def main() -> None:
    """Entry point of the console script."""
    app()
