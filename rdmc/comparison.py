"""What a comparison of samplers found: one row a sampler, every run behind it, and what the numbers can't say."""

from __future__ import annotations

import io
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdmc.export import atomic_path
from rdmc.result import Result
from rdmc.result import load as load_result
from rdmc.table import Table, dumps, loads

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["COLUMNS", "STATISTICS", "Comparison"]

STATISTICS = (
    *("evaluations", "seconds", "rhat", "ess_bulk", "ess_tail", "ess_per_1000", "modes", "log_evidence"),
    *("log_evidence_mcse", "sliced_w2", "sliced_w2_floor", "mode_tv", "mode_tv_floor", "ksd", "ksd_floor"),
    *("agreement", "problems"),
)
"""The numbers of a run, each None where it doesn't exist; :func:`rdmc.compare` documents them."""

COLUMNS = ("sampler", "status", *STATISTICS, "first_problem")
"""Columns of :attr:`Comparison.table`; several seeds add ``<column>_se`` for each number but the floors."""

_FORMAT = "rdmc.Comparison"
_FORMAT_VERSION = 1
_SHOWN = 100  # characters of a problem in a table for reading


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Comparison:
    """Several samplers on one target at one budget.

    Attributes:
        measures: One row a sampler and seed: the columns of the table, with ``seed`` after ``sampler``.
        results: Name of each sampler to the results of its seeds; one that failed or wasn't run has fewer, or none.
        notes: What has to be known to read the table, in sentences.
        settings: What was asked for: target, dim, budget, draws, chains, seed, seeds.
        truth: The target, if it has ground truth for :meth:`plot` to show; it is not saved.

    Raises:
        ValueError: If ``measures`` lacks a column.
    """

    measures: Table
    results: Mapping[str, tuple[Result, ...]]
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    truth: Any = None

    def __post_init__(self) -> None:
        missing = sorted({"seed", *COLUMNS} - set(self.measures.columns))
        if missing:
            raise ValueError(f"`measures` must have the columns seed, {', '.join(COLUMNS)}, got none of {missing}")
        object.__setattr__(self, "results", {name: tuple(runs) for name, runs in self.results.items()})
        object.__setattr__(self, "settings", dict(self.settings))

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of the samplers, in the order of the table."""
        return tuple(dict.fromkeys(self.measures["sampler"]))

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row a sampler, numbers averaged over the seeds that ran, with their standard errors if there are several."""
        return [self._row(name) for name in self.samplers]

    @property
    def ranking(self) -> tuple[str, ...]:
        """The samplers that ran, best first.

        With ground truth by the worst of ``sliced_w2``, ``mode_tv`` and ``ksd`` in units of their floors, where up to 2 counts
        as equal; else by problems and then agreement. After that by effective draws per evaluation.
        """

        def key(row: dict[str, Any]) -> tuple[float, ...]:
            known = [name for name in ("sliced_w2", "mode_tv") if row[name] is not None]
            ratios = [
                row[name] / row[f"{name}_floor"] for name in (*known, "ksd") if row[name] and row[f"{name}_floor"]
            ]
            truth = [max(2.0, *ratios)] if known and ratios else []
            apart = math.inf if row["agreement"] is None else row["agreement"]
            return (*(truth or [float(row["problems"] > 0), apart]), -(row["ess_per_1000"] or 0.0))

        return tuple(row["sampler"] for row in sorted((r for r in self.table if r["problems"] is not None), key=key))

    def _row(self, name: str) -> dict[str, Any]:
        runs = [run for run in self.measures if run["sampler"] == name]
        worst = [status for status in ("failed", "not run", "partial") if any(run["status"] == status for run in runs)]
        bad = sum(run["status"] == worst[0] for run in runs) if worst else 0
        row: dict[str, Any] = {"sampler": name, "status": "ok"}
        if worst:
            row["status"] = worst[0] if bad == len(runs) else f"{worst[0]} {bad} of {len(runs)}"
        for column in STATISTICS:
            values = [run[column] for run in runs if run[column] is not None]
            mean = sum(values) / len(values) if values else None
            row[column] = values[0] if len(values) == 1 else mean
            if self.settings.get("seeds", 1) > 1 and not column.endswith("_floor"):
                row[f"{column}_se"] = _standard_error(values)
        row["first_problem"] = next((run["first_problem"] for run in runs if run["first_problem"]), None)
        return row

    def _shown(self) -> Table:
        """The table for reading: errors beside their numbers, long problems cut, and no column without an entry."""

        def cell(row: dict[str, Any], column: str) -> Any:
            value, error = row[column], row.get(f"{column}_se")
            if column == "first_problem":
                short = " ".join((value or "").split())
                return short if len(short) <= _SHOWN else f"{short[: _SHOWN - 3]}..."
            return value if error is None else f"{value:.4g} ± {float(f'{error:.2g}'):g}"

        rows = self.table
        kept = [column for column in COLUMNS if any(row[column] is not None for row in rows)]
        return Table({column: [cell(row, column) for row in rows] for column in kept})

    def to_markdown(self) -> str:
        """The table and the notes in Markdown."""
        notes = "".join(f"\n- {note}" for note in self.notes)
        return self._shown().to_markdown() + (f"\n{notes}" if notes else "")

    def save_markdown(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_markdown` to a file."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_markdown() + "\n", encoding="utf-8")
        return Path(path)

    def to_dataframe(self) -> pd.DataFrame:
        """:attr:`table` as a pandas DataFrame (pandas is imported here)."""
        return Table.from_rows(self.table).to_dataframe()

    def to_arviz(self, run: int = 0) -> dict[str, Any]:
        """The draws of each sampler that has any, as ``InferenceData`` (ArviZ 0.x) or ``DataTree`` (1.x).

        Args:
            run: Which of a sampler's runs, by the order of their seeds.
        """
        return {name: runs[run].to_arviz() for name, runs in self.results.items() if run < len(runs)}

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Figure:
        """One row a sampler: draws, marginals and mode weights of its first run; see :func:`rdmc.plot.figure`.

        Args:
            path: File to write (png, pdf, svg, ...), or None.
            **options: ``view`` and ``axis_names``.

        Raises:
            ValueError: If no sampler has draws.
        """
        from rdmc.plot import figure

        return figure({name: runs[0] for name, runs in self.results.items() if runs}, path, self.truth, **options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one zip file of JSON and the results' own ``.npz`` files, in one piece or not at all, without pickle.

        Args:
            path: File to write or replace, under exactly this name.

        Raises:
            ValueError: If the folder does not exist.
        """
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "measures": {name: self.measures[name] for name in self.measures.columns},
            "results": [[name, len(runs)] for name, runs in self.results.items()],
            "notes": list(self.notes),
            "settings": self.settings,
        }
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "x") as archive:
            archive.writestr("comparison.json", dumps(header))
            with tempfile.TemporaryDirectory() as folder:
                for i, runs in enumerate(self.results.values()):
                    for j, result in enumerate(runs):
                        archive.write(result.save(Path(folder) / "result.npz"), _member(i, j))
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """The comparison that :meth:`save` wrote, to the bit; ``truth`` is None.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, was written by something else, or by a newer version of the format.
        """
        content = io.BytesIO(Path(path).read_bytes())
        try:
            with zipfile.ZipFile(content) as archive, tempfile.TemporaryDirectory() as folder:
                header = loads(archive.read("comparison.json").decode())
                if header["format"] != _FORMAT or header["format_version"] > _FORMAT_VERSION:
                    raise ValueError(f"{header['format']} of format version {header['format_version']}")
                results = {}
                for i, (name, count) in enumerate(header["results"]):
                    results[name] = tuple(_read(archive, _member(i, j), Path(folder)) for j in range(count))
                return cls(
                    measures=Table(header["measures"]),
                    results=results,
                    notes=tuple(header["notes"]),
                    settings=header["settings"],
                )
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"`path` must be a file written by `Comparison.save` of this version ({_FORMAT_VERSION}) or an older one; "
                f"{str(path)!r} is not, or is damaged ({error})"
            ) from error

    def __repr__(self) -> str:
        ran = sum(bool(runs) for runs in self.results.values())
        return f"Comparison({ran} of {len(self.samplers)} samplers ran: {', '.join(self.samplers)})"

    def __str__(self) -> str:
        return "\n".join([str(self._shown()), *self.notes])

    def _repr_html_(self) -> str:
        return self._shown()._repr_html_()


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    squares = sum(
        (value - mean) * (value - mean) for value in values
    )  # ** would raise where this overflows to infinity
    error = math.sqrt(squares / (len(values) - 1) / len(values))
    return error if math.isfinite(error) else None


def _member(sampler: int, run: int) -> str:
    return f"results/{sampler}-{run}.npz"


def _read(archive: zipfile.ZipFile, member: str, folder: Path) -> Result:
    file = folder / "result.npz"
    file.write_bytes(archive.read(member))
    return load_result(file)
