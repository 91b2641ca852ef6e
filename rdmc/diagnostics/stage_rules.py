"""What the stages before the populations say against a run: a list of modes that is not complete, a reference still moving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdmc.correct.judge import Judgement
from rdmc.table import Table

__all__ = [
    "STAGE_RULES",
    "HasStages",
    "evidence_settled",
    "jumps_accepted",
    "modes_complete",
    "modes_in_sight",
    "reference_covers",
    "unseen",
]

_UNSEEN = 0.05
_MOVING = 0.5
_HARDLY = 0.03
_UNSEEN_FROM_INSIDE = 0.05
_OUT_OF_SIGHT = 0.85
_UNLIKE = 1.0  # nats


class HasStages(Protocol):
    """What the rules read of a result."""

    @property
    def stages(self) -> Table:
        """What was tried before the populations ran, possibly nothing."""
        ...

    @property
    def inner(self) -> Mapping[str, NDArray[Any]]:
        """``(chains, stages)`` of the populations."""
        ...


def _trials(result: HasStages) -> list[Mapping[str, Any]]:
    return [row for row in result.stages if row.get("stage") == "temper"]


def _search(result: HasStages) -> Mapping[str, Any]:
    """The row of the search for modes, empty if there was none."""
    return next((row for row in result.stages if row.get("stage") == "locate"), {})


def unseen(result: HasStages) -> str:
    """What no draw can show, and, where a search has told, how much of it there may be."""
    search = _search(result)
    general = "A mode that every population missed cannot be seen from the draws."
    if math.isnan(search.get("overlooked", math.nan)):
        return general
    half, tenth = (_percent(search[name]) for name in ("overlooked", "overlooked_narrow"))
    where = (
        "places in the support"
        if search.get("support") in ("box", "polytope")
        else "places up to 60 of its widths away"
    )
    return (
        f"{general} The search would have overlooked {half} of modes a tenth as heavy and half as wide as the heaviest, and "
        f"{tenth} of those a tenth as wide, at {where}."
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def modes_complete(result: HasStages) -> list[str]:
    """Ascents that kept finding modes, where the reference that was used is a list of modes."""
    trials, search = _trials(result), _search(result)
    if not trials or not search.get("unseen", math.nan) > _UNSEEN:
        return []
    if any(str(row["reference"]).startswith("product") for row in trials):  # it needs no list
        return []
    return [
        f"The search for modes ended before it was complete: {search['components']} are known, and about "
        f"{search['unseen']:.0%} of further ascents would have found a new one. What nobody found is missing from all weights; "
        "raise the pilot's `modes` and `rounds`, or use symmetries of the model to keep one of each."
    ]


def modes_in_sight(result: HasStages) -> list[str]:
    """Modes so unlike that others, of which the search could not have seen most, are to be expected.

    Of modes that are alike none half as wide is expected, and of one alone nothing is known; so both numbers must speak.
    """
    search = _search(result)
    unlike, half = (search.get(name, math.nan) for name in ("unlike", "overlooked"))
    if not (unlike > _UNLIKE and half > _OUT_OF_SIGHT):
        return []
    return [
        f"The modes found differ in volume, typically by a factor of {math.exp(unlike):.2g}, and the search would have overlooked "
        f"{half:.0%} of modes half as wide as the heaviest and a tenth as heavy. Where modes differ so much, narrower ones may be "
        "missing from all weights; raise `effort`, or begin from what you know of the modes (`rdmc.Known`)."
    ]


def evidence_settled(result: HasStages) -> list[str]:
    """Trials whose evidence was still moving when the rounds ended: the last two, or three if the reference hardly serves yet.

    A reference that lacks a place gives too little evidence, and a little more in every round in which it creeps towards it.
    """
    trials = _trials(result)
    window = trials[-3:] if trials and trials[-1].get("reverse", math.nan) < _HARDLY else trials[-2:]
    logs = [float(row["log_evidence"]) for row in window]
    if len(logs) < 2 or not max(logs) - min(logs) > _MOVING:
        return []
    return [
        f"The reference was still changing when the rounds ended: the last {len(logs) - 1} took the log evidence from "
        f"{logs[0]:.4g} to {logs[-1]:.4g}. There may be more mass than was found; allow more `rounds`, or transform the model."
    ]


def reference_covers(result: HasStages) -> list[str]:
    """The reference that was used, if populations have been where it hardly proposes anything.

    Its own draws and draws of the target estimate the same effective share. Of 256 runs on 32 kinds of target, from half of which
    the threshold was chosen, nine had the second below a twentieth of the first: seven that were wrong, and two that were not. The
    other wrong ones lacked a mode that no population saw.
    """
    trials = [row for row in _trials(result) if all(row.get(part, math.nan) >= 0.0 for part in Judgement._fields)]
    if not trials:
        return []
    judgements = [Judgement(*(row[part] for part in Judgement._fields)) for row in trials]
    used = max(judgements, key=lambda judgement: judgement.merit)
    if used.reverse >= _UNSEEN_FROM_INSIDE * used.forward:
        return []
    return [
        f"The reference leaves out places where particles have been: its effective share is {used.forward:.2g} by its own "
        f"draws and {used.reverse:.2g} by those of the target. The weights of these places rest on few particles; raise "
        "`effort`, or transform the model."
    ]


def jumps_accepted(result: HasStages) -> list[str]:
    """Jumps that hardly ever succeed at the target, so that mass hardly moves between regions."""
    if not _trials(result) or "jump_acceptance" not in result.inner:
        return []
    last = float(np.nanmean(result.inner["jump_acceptance"][:, -1]))
    if math.isnan(last) or last >= _HARDLY:
        return []
    return [
        f"Only {last:.1%} of the jumps from the reference are accepted: no reference fits the target, and the weights of "
        "regions rest on resampling alone. Allow more `particles` and `rounds`, transform the model, or compare parallel tempering."
    ]


STAGE_RULES = (modes_complete, modes_in_sight, evidence_settled, reference_covers, jumps_accepted)
"""These rules, gravest first."""
