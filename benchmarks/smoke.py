"""Every benchmark in miniature, to see that it runs: one after the other in one process, which imports the library once.

    python -m benchmarks.smoke [NAME ...]

``speed_peers``, which spends most of a minute on compiling BlackJAX's samplers, is run when it is named.
"""

from __future__ import annotations

import importlib
import sys
import time

NAMES = (
    *("sbc", "distill", "unlike", "auto", "calibration", "speed", "path_weights", "published", "quality", "peers"),
    *("speed_float32", "bounded", "scale", "precision", "closed_form", "control_variate", "gpu"),
)


def main() -> None:
    """Run those named, or all."""
    for name in sys.argv[1:] or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"== benchmarks.{name} --smoke", flush=True)
        sys.argv = [str(module.__file__), "--smoke"]
        clock = time.perf_counter()
        module.main()
        print(f"== benchmarks.{name}: {time.perf_counter() - clock:.0f} s", flush=True)


if __name__ == "__main__":
    main()
