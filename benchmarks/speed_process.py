"""What a fresh process takes: cost per draw and memory of large runs, and the time until something is there.

``python -m benchmarks.speed_process SAMPLER DRAWS [--device cuda]`` makes one run and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["large_run", "startup"]

_DIM = 10
_ROOT = Path(__file__).resolve().parents[1]
_MIB = 1024.0  # of ru_maxrss, which is in KiB on Linux
_FIRST = (
    "import torch; torch.set_num_threads(1); import rdmc, targets; "
    "rdmc.sample(targets.four_modes(), draws=250, chains=4, progressbar=False)"
)


def environment() -> dict[str, str]:
    """One thread, and modules from here."""
    path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH")) if p)
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def large_run(sampler: str, draws: int, device: str) -> dict[str, Any]:
    """One run in a process of its own: seconds and gradients per draw after the pilot, and peak memory beyond the imports'."""
    command = [sys.executable, "-m", "benchmarks.speed_process", sampler, str(draws), "--device", device]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), cwd=_ROOT)
    record: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return record


def startup(repeats: int) -> dict[str, Any]:
    """Medians of the seconds that each command takes, one after the other in every round."""
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "import torch, rdmc": [sys.executable, "-c", "import torch, rdmc"],
        "import torch, rdmc; rdmc.sample": [sys.executable, "-c", "import torch, rdmc; rdmc.sample"],
        "rdmc --help": [sys.executable, "-m", "rdmc.cli", "--help"],
        "auto on four_modes, in a new process": [sys.executable, "-c", _FIRST],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            clock = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True, env=environment(), cwd=_ROOT)
            seconds[name].append(time.perf_counter() - clock)
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def _peak(device: str) -> float:
    """Most memory so far, in MiB: of the process, or what torch had allocated on a GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def main(arguments: Sequence[str] | None = None) -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sampler", choices=("auto", "rdmc", "mala"))
    parser.add_argument("draws", type=int)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args(arguments)
    import torch

    import rdmc
    import targets
    from benchmarks.speed_overhead import CHAINS, Counted, Timed, clock_of
    from rdmc.baselines import LongChains
    from rdmc.kernels import MALA

    torch.set_num_threads(1)
    clock = clock_of(a.device)
    counted = Counted(targets.two_modes(_DIM).to(device=a.device))
    chains = min(CHAINS, a.draws) if a.sampler == "mala" else 1
    engine = {"auto": rdmc.Auto, "rdmc": rdmc.RDMC, "mala": lambda: LongChains(MALA(), budget=10.0)}[a.sampler]()
    timed = Timed(engine, counted, clock)
    before, began = _peak(a.device), clock()
    # `mala` runs many chains side by side, each of as many draws as it takes
    result = rdmc.sample(counted, None, a.draws // chains, chains, timed, 0, device=a.device, progressbar=False)
    seconds = clock() - began
    pilot = sum(size * times for size, times in timed.pilot_sizes.items())
    n = result.samples.shape[0] * result.samples.shape[1]
    record = {
        "sampler": a.sampler,
        "draws": n,
        "seconds": round(seconds, 3),
        "pilot_seconds": round(timed.pilot, 3),
        "microseconds_per_draw": round(1e6 * (seconds - timed.pilot) / n, 2),
        "gradients_per_draw": round((result.gradient_evaluations - pilot) / n, 2),
        "peak_mib": round(_peak(a.device) - before),
        "result_mib": round(result.samples.nbytes / 2**20),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
