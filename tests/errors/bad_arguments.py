"""Arguments that are out of range, of another type, or meant for something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import rdmc
from rdmc.baselines import Ensemble, LongChains, ParallelTempering
from rdmc.correct.refine import Refinement
from rdmc.correct.temper import Tempering
from rdmc.kernels import HMC, MALA, ULA
from rdmc.locate.pilot import Pilot
from tests.errors.bad_day import Refused, normal

__all__ = ["ACCEPTED", "OBJECTS", "REFUSED"]


def row(argument: str, value: Any, wanted: str, got: str | None = None, error: type[Exception] = ValueError) -> Refused:
    """A value that must be refused by name, with what was wanted and what came."""
    message = rf"`{argument}` must be {wanted}, got {repr(value) if got is None else got}"
    options = {} if argument == "dim" else {argument: value}
    dim = value if argument == "dim" else 2
    return Refused(f"{argument}={value!r:.40}", lambda: normal, message, error, dim, lambda: options)


COUNT, SEED, POSITIVE = "an integer of at least 1", "an integer of at least 0", "a positive integer"
SAMPLERS = r"a sampler object or one of \['annealed-langevin', .*'ula'\]"
NAMES = "2 non-empty texts, one per coordinate"

REFUSED = [
    *(row("dim", value, POSITIVE) for value in (0, -1, 2.5, True, "2")),
    Refused(
        "dim=None", lambda: normal, r"`dim` is required for a bare callable: wanted .*, got None", ValueError, dim=None
    ),
    *(row("draws", value, COUNT) for value in (0, -5, 2.0, True, "10", None)),
    *(row("chains", value, COUNT) for value in (0, -1, 1.5, False)),
    *(row("seed", value, SEED) for value in (-1, 1.5, None, True)),
    *(row("dtype", value, "a real floating type") for value in (torch.int64, torch.complex64)),
    *(row("dtype", value, "float32 or float64 of torch") for value in (torch.float16, torch.bfloat16, "float32")),
    *(row("dtype", value, "float32 or float64 of torch", "<class") for value in (int, np.float32)),
    row("device", "nonsense", "one that torch can use here", "'nonsense': "),
    row("device", 1.5, "one that torch can use here", "1.5: "),
    row("device", "meta", "one whose tensors hold values"),
    *([] if torch.cuda.is_available() else [row("device", "cuda", "one that torch can use here", "'cuda': .*CUDA")]),
    row("names", ("a",), NAMES, r"\('a',\)"),
    row("names", ("a", ""), NAMES, r"\('a', ''\)"),
    row("names", (1, 2), NAMES, r"\(1, 2\)"),
    row("names", "ab", NAMES),
    row("names", ("a", "a"), "distinct and none of chain, draw, .*", r"\['a', 'a'\]"),
    row("names", ("chain", "a"), "distinct and none of chain, draw, .*", r"\['chain', 'a'\]"),
    row("sampler", "nutz", SAMPLERS),
    row("sampler", None, SAMPLERS),
    row("sampler", 3, SAMPLERS),
    row("sampler", rdmc.Auto, "a sampler object .*", "the class Auto"),
    Refused("draw=3", lambda: normal, r"unexpected keyword argument 'draw'", TypeError, options=lambda: {"draw": 3}),
]

OBJECTS: list[tuple[str, Callable[[], object]]] = [
    *(("effort", lambda value=value: rdmc.Auto(effort=value)) for value in (0.0, -1.0, math.nan, math.inf)),
    *(("starts", lambda value=value: Pilot(starts=value)) for value in (0, -1, 2.5, True)),
    ("rounds", lambda: Pilot(rounds=0)),
    ("unseen", lambda: Pilot(unseen=-0.1)),
    ("unseen", lambda: Pilot(unseen=math.nan)),
    *(
        ("radii", lambda value=value: Pilot(radii=value))  # type: ignore[arg-type]
        for value in ((1.0, 0.1), (0.0, 1.0), (1.0, math.inf), (1.0,), 5.0)
    ),
    *(("budget", lambda value=value: LongChains(budget=value)) for value in (0, -10, math.nan)),
    ("budget", lambda: ParallelTempering(budget=-1)),
    ("budget", lambda: Ensemble(budget=-1)),
    ("walkers", lambda: Ensemble(walkers=7)),
    ("step_size", lambda: MALA(step_size=-0.1)),
    ("step_size", lambda: ULA(step_size=math.nan)),
    ("leapfrogs", lambda: HMC(leapfrogs=0)),
    ("particles", lambda: Refinement(particles=3)),
    ("goal", lambda: Refinement(goal=1.0)),
    ("keep", lambda: Tempering(keep=0.0)),
    ("last", lambda: Tempering(last=(3, 1))),
]
"""Name of the argument that the message must have, and how to make the object."""

ACCEPTED: list[dict[str, Any]] = [
    {"draws": np.int64(20)},
    {"chains": np.int32(2)},
    {"seed": np.uint64(7)},
    {"seed": 2**70},
    {"draws": 1, "chains": 1},
    {"device": torch.device("cpu")},
    {"dtype": torch.float32},
    {"names": ["a", "b"]},
]
"""Arguments that are unusual and right."""
