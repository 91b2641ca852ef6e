"""What a page is about: one result, or the runs of a comparison, from memory or from a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rdmc.comparison import Comparison
from rdmc.result import Result, load

__all__ = ["Subject", "subject_of"]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a page is about.

    Attributes:
        results: Name of each sampler to the run that is shown; of several seeds, the first.
        comparison: The comparison they come from, or None.
        dated: When the file was written, or None if there is no file.
    """

    results: Mapping[str, Result]
    comparison: Comparison | None = None
    dated: str | None = None

    @property
    def truth(self) -> Any:
        """The target with its ground truth, where the comparison still holds it."""
        return None if self.comparison is None else self.comparison.truth

    @property
    def best(self) -> Result | None:
        """The result, or the first run of the best sampler; None if nothing ran."""
        ranked = self.comparison.ranking if self.comparison is not None else ()
        return next((self.results[name] for name in (*ranked, *self.results) if name in self.results), None)

    def title(self, name: str) -> str:
        """What a panel of that sampler is headed by: nothing where there is only one."""
        return "" if self.comparison is None else name


def subject_of(source: Result | Comparison | str | os.PathLike[str]) -> Subject:
    """What to write about, read from its file if a path is given.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is neither a saved result nor a saved comparison.
    """
    if isinstance(source, Result):
        return Subject({source.sampler: source})
    if isinstance(source, Comparison):
        return Subject({name: runs[0] for name, runs in source.results.items() if runs}, source)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"`source` must be a Result, a Comparison or the path of one, got {type(source).__name__}")
    path = Path(source)
    dated = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    found = subject_of(_read(path))
    return Subject(found.results, found.comparison, dated)


def _read(path: Path) -> Result | Comparison:
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
    except zipfile.BadZipFile:
        members = set()
    if "comparison.json" in members:
        return Comparison.load(path)
    if "meta.npy" in members:
        return load(path)
    raise ValueError(
        f"`source` must be a file written by `Result.save` (.npz) or `Comparison.save` (.zip), {str(path)!r} is neither"
    )
