"""Tables and figure of the records of ``benchmarks.quality``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.store import mean_and_error

__all__ = ["compact", "figure", "full_table", "insert", "matrix", "silent"]

Record = dict[str, Any]

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("evaluations", "evaluations per draw", ",.0f"),
    ("seconds", "seconds", ".1f"),
    ("rhat", "R-hat", ".2f"),
    ("ess", "ESS", ",.0f"),
    ("ks_ratio", "KS / floor", ".2f"),
    ("tv", "TV", ".3f"),
    ("tv_iid", "TV floor", ".3f"),
    ("evidence_error", "log evidence error", "+.3f"),
    ("evidence_mcse", "its reported se", ".3f"),
    ("problems", "problems", ".1f"),
)
WRONG = 3.0
"""A run is called wrong if its KS or TV is more than this many times the floor of exact draws."""


def compact(records: Sequence[Record]) -> str:
    """Matrices of KS and TV over their floors, of evidence, and who was wrong in silence."""
    parts = [
        "KS distance over that of as many exact draws, mean over seeds:\n\n" + matrix(records, ks_of),
        "Mode-weight TV over that of as many exact draws, mean over seeds:\n\n" + matrix(records, tv_of),
        "Log evidence, error (reported standard error), by seed:\n\n" + evidence(records),
        f"Runs more than {WRONG:g} times off a floor, and those of them for which `check()` was silent:\n\n"
        + silent(records),
    ]
    return "\n\n".join(parts)


def insert(path: Path, name: str, text: str) -> None:
    """Put a text between the lines ``<!-- name -->`` and ``<!-- end of name -->`` of a file."""
    before, rest = path.read_text().split(f"<!-- {name} -->\n", 1)
    after = rest.split(f"<!-- end of {name} -->\n", 1)[1]
    path.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->\n{after}")


def ks_of(record: Record) -> float | None:
    """KS distance in units of the floor."""
    return record.get("ks_ratio")


def tv_of(record: Record) -> float | None:
    """Total variation in units of the floor."""
    return None if record.get("tv") is None else record["tv"] / record["tv_iid"]


def grouped(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by target and sampler."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["target"], record["sampler"]), []).append(record)
    return groups


def summary(records: Sequence[Record], value: Callable[[Record], float | None]) -> tuple[float, list[str]]:
    """Mean over the runs that have the value, NaN if none does, and the reasons of those that failed."""
    failed = [record["failed"].split(":")[0] for record in records if "failed" in record]
    values = [v for record in records if "failed" not in record and (v := value(record)) is not None]
    return (sum(values) / len(values) if values else math.nan), failed


def matrix(records: Sequence[Record], value: Callable[[Record], float | None]) -> str:
    """A row a target, a column a sampler; a failure is named."""
    names, samplers, groups = _axes(records, value)
    rows = ["| target | " + " | ".join(samplers) + " |", "|---" * (len(samplers) + 1) + "|"]
    for name in names:
        texts = []
        for sampler in samplers:
            mean, failed = summary(groups.get((name, sampler), []), value)
            text = "" if math.isnan(mean) else f"{mean:.2f}" if mean < 10.0 else f"{mean:.0f}"
            texts.append(" ".join([text, *([f"({len(failed)} failed: {failed[0]})"] if failed else [])]).strip())
        rows.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def evidence(records: Sequence[Record]) -> str:
    """A row a target, a column a sampler that estimates the evidence."""
    known = [r for r in records if r.get("evidence_error") is not None]
    samplers = _unique(r["sampler"] for r in known)
    rows = ["| target | " + " | ".join(samplers) + " |", "|---" * (len(samplers) + 1) + "|"]
    groups = grouped(known)
    for name in _unique(r["target"] for r in known):
        texts = []
        for sampler in samplers:
            own = groups.get((name, sampler), [])
            texts.append(", ".join(f"{r['evidence_error']:+.3f} ({r['evidence_mcse'] or math.nan:.3f})" for r in own))
        rows.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def wrong(record: Record) -> bool:
    """Whether the draws are off the truth by more than ``WRONG`` floors."""
    return max(ks_of(record) or 0.0, tv_of(record) or 0.0) > WRONG


def silent(records: Sequence[Record]) -> str:
    """How often each sampler was wrong, how often without a word, and on what."""
    rows = ["| sampler | runs | failed | wrong | wrong and silent | on |", "|---|---|---|---|---|---|"]
    for sampler in _unique(r["sampler"] for r in records):
        own = [r for r in records if r["sampler"] == sampler]
        bad = [r for r in own if "failed" not in r and wrong(r)]
        mute = [r for r in bad if r["problems"] == 0]
        where = ", ".join(_unique(r["target"] for r in mute))
        rows.append(
            f"| {sampler} | {len(own)} | {sum('failed' in r for r in own)} | {len(bad)} | {len(mute)} | {where} |"
        )
    return "\n".join(rows)


def full_table(records: Sequence[Record]) -> str:
    """Every column, mean ± standard error over seeds."""
    rows = ["| target | sampler | seeds | " + " | ".join(title for _, title, _ in COLUMNS) + " |"]
    rows.append("|---" * (len(COLUMNS) + 3) + "|")
    for (name, sampler), own in grouped(records).items():
        good = [r for r in own if "failed" not in r]
        failed = [r["failed"].split(":")[0] for r in own if "failed" in r]
        seeds = f"{len(good)}" + (f", {len(failed)} failed: {failed[0]}" if failed else "")
        texts = [_cell([r[key] for r in good if r.get(key) is not None], form) for key, _, form in COLUMNS]
        rows.append(f"| {name} | {sampler} | {seeds} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def figure(records: Sequence[Record], path: Path) -> Path:
    """Two heat maps on a logarithmic scale: KS and TV over their floors; 1 is as good as exact draws."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.colors import LogNorm

    values = {"KS distance / floor": ks_of, "mode-weight TV / floor": tv_of}
    shapes = [_axes(records, value) for value in values.values()]
    sizes = [max(1, len(samplers)) for _, samplers, _ in shapes]
    rows = max(len(names) for names, _, _ in shapes)
    fig, axes = plt.subplots(
        1,
        2,
        figsize=(3.5 + 0.75 * sum(sizes), 2.0 + 0.36 * rows),
        gridspec_kw={"width_ratios": sizes},
        layout="constrained",
    )
    for ax, (title, value), (names, samplers, groups) in zip(axes, values.items(), shapes, strict=True):
        found = [[summary(groups.get((n, s), []), value) for s in samplers] for n in names]
        table = np.array([[mean for mean, _ in row] for row in found], dtype=float).reshape(len(names), len(samplers))
        image = ax.imshow(table.clip(min=0.7), norm=LogNorm(0.7, 30.0), cmap="RdYlGn_r", aspect="auto")
        for i, row in enumerate(found):
            for j, (mean, failed) in enumerate(row):
                text = "failed" if math.isnan(mean) and failed else "" if math.isnan(mean) else f"{mean:.2g}"
                dark = mean < 1.1 or mean > 14.0  # the ends of the scale
                label = text + ("*" if failed and text != "failed" else "")
                ax.text(j, i, label, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        ax.set_xticks(range(len(samplers)), samplers, rotation=60, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_facecolor("0.9")
        ax.set_title(title, fontsize=10)
    fig.colorbar(image, ax=axes, label="times the distance of as many exact draws", shrink=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path


def _axes(
    records: Sequence[Record], value: Callable[[Record], float | None]
) -> tuple[list[str], list[str], dict[tuple[str, str], list[Record]]]:
    """Targets for which any run has the value, samplers, and the records of both."""
    with_value = {r["target"] for r in records if "failed" not in r and value(r) is not None}
    names = [name for name in _unique(r["target"] for r in records) if name in with_value]
    return names, _unique(r["sampler"] for r in records), grouped(records)


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _cell(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    mean, error = mean_and_error([float(v) for v in values])
    return f"{mean:{form}}" + ("" if math.isnan(error) or error == 0.0 else f" ± {error:{form.lstrip('+')}}")
