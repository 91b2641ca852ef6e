"""A process that makes others, each of which it kills at a random moment of a run; prints one line for each.

    python -m tests.survive.victims DIRECTORY KILLS

Children are forked, so that none of them spends its time on imports.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import rdmc.journal
from tests.survive.cases import Mortal, digest, run


def child(path: Path | None, out: Path) -> int:
    """Run in a process of its own; the digest goes to a file."""
    pid = os.fork()
    if pid == 0:
        try:
            out.write_text(digest(run(Mortal(), checkpoint=path)))
        finally:
            os._exit(0)
    return pid


def killed(path: Path, out: Path, moment: float) -> bool:
    """Whether a new run was still there to be killed after so many seconds."""
    pid = child(path, out)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    """Kill, resume, compare."""
    torch.set_num_threads(1)
    rdmc.journal.INTERVAL = 0.0
    directory, kills = Path(sys.argv[1]), int(sys.argv[2])
    out = directory / "digest"
    os.waitpid(child(None, out), 0)
    wanted = out.read_text()
    clock = time.monotonic()
    os.waitpid(child(directory / "whole", out), 0)
    length = time.monotonic() - clock
    moments = random.Random(7)
    for kill in range(kills):
        path = directory / f"run {kill}"
        while not killed(path, directory / "never", length * moments.random()):
            length *= 0.9  # the machine has become faster since
            path.unlink()
        out.unlink()
        os.waitpid(child(path, out), 0)
        print("equal" if out.read_text() == wanted else "DIFFERENT", flush=True)


if __name__ == "__main__":
    main()
