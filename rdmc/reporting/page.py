"""The page itself: every part in its order, laid out by the template and written in one piece."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdmc.comparison import Comparison
from rdmc.export import atomic_path
from rdmc.reporting.coordinates import Choice, choose
from rdmc.reporting.course import course_section, stages_section
from rdmc.reporting.draws import draws_section, ranks_section
from rdmc.reporting.evidence import evidence_section
from rdmc.reporting.parts import Section
from rdmc.reporting.reproduce import code_section
from rdmc.reporting.subject import Subject, subject_of
from rdmc.reporting.weights import modes_section, weights_section
from rdmc.reporting.words import comparison_section, configurations, facts, headline, verdict, warnings_section
from rdmc.result import Result, library_versions

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["report"]

TEMPLATES = Path(__file__).parent / "templates"
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # may not stand in HTML, or not in UTF-8


def report(source: Result | Comparison | str | os.PathLike[str], path: str | os.PathLike[str] = "report.html") -> Path:
    """Write one HTML page about a result or a comparison, with everything inline: it needs no network and no script.

    It holds what ran, the verdict of :meth:`Result.check` in words, the modes, the draws, ranks over populations, weights
    by population, evidence, the course of the run, all warnings and the code to repeat it. Of a comparison with several
    seeds the figures show the first.

    Args:
        source: A result, a comparison, or the file that ``save`` of either wrote.
        path: File to write or replace, under exactly this name.

    Returns:
        The path.

    Cost: one to four seconds and about a megabyte; nothing is evaluated.

    Raises:
        FileNotFoundError: If there is no such file to read.
        ValueError: If ``source`` is neither a result nor a comparison nor the file of one, or the folder of ``path`` does
            not exist.
        ImportError: If jinja2 or matplotlib is not installed.
    """
    _needed()
    subject = subject_of(source)
    with atomic_path(path) as temporary:
        temporary.write_text(_render(subject), encoding="utf-8")
    return Path(path)


def _needed() -> None:
    """Refuse before the work begins what could not be written after it."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"a report needs {error.name}: pip install 'rdmc[report]'", name=error.name) from error


def sections(subject: Subject) -> list[Section]:
    """All parts below the verdict, in their order; parts that are about draws only if there are any."""
    made: list[Section | None] = []
    if subject.comparison is not None:
        made.append(comparison_section(subject.comparison))
    best = subject.best
    if best is not None:
        dims = {result.dim for result in subject.results.values()}
        choice = choose(best) if len(dims) == 1 else Choice((0,), "")
        made += [
            modes_section(subject, choice),
            draws_section(subject, choice),
            ranks_section(subject, choice),
            weights_section(subject),
            evidence_section(subject),
            course_section(subject),
            stages_section(subject),
        ]
    made += [warnings_section(subject), code_section(subject)]
    return [section for section in made if section is not None]


def _marked(text: str) -> Markup:
    """Escaped text in which what stood between backticks is code."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no markup
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def _render(subject: Subject) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, **options)
    environment.filters["marked"] = _marked
    page = environment.get_template("report.html.j2").render(
        headline=headline(subject),
        facts=facts(subject),
        configurations=configurations(subject),
        verdict=verdict(subject),
        sections=sections(subject),
        written=f"{datetime.now():%Y-%m-%d %H:%M}",
        version=library_versions()["rdmc"],
    )
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", page)
