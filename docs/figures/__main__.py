"""``python -m docs.figures`` measures everything anew and draws it; ``python -m docs.figures noised laws`` only these."""

from __future__ import annotations

import importlib
import json
import sys

import matplotlib as mpl
import torch

from docs.figures.base import HERE, STYLE

NAMES = ("modes", "lines", "noised", "bridge", "ladder", "laws", "guided", "budget", "capture", "distilled")


def main(names: list[str]) -> None:
    """Measure, keep the numbers, draw."""
    torch.set_num_threads(1)
    kept = HERE / "numbers.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for name in names or NAMES:
        module = importlib.import_module(f"docs.figures.{name}")
        found[name] = module.numbers()
        with mpl.rc_context(STYLE):
            for path in module.draw(found[name]):
                print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")
    kept.write_text(json.dumps({name: found[name] for name in sorted(found)}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
