"""Rules about the stages before the populations: each speaks when it should and is silent otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rdmc.diagnostics.stage_rules import (
    evidence_settled,
    jumps_accepted,
    modes_complete,
    modes_in_sight,
    reference_covers,
    unseen,
)
from rdmc.table import Table

NAN = float("nan")


def seen(
    new: float = 0.0, logs: tuple[float, ...] = (1.0,), reference: str = "modes", jump: float = 0.5
) -> SimpleNamespace:
    rows = [{"stage": "locate", "reference": "modes", "components": 7, "unseen": new, "log_evidence": NAN}]
    rows += [
        {"stage": "temper", "reference": reference, "components": 7, "unseen": NAN, "log_evidence": log} for log in logs
    ]
    return SimpleNamespace(stages=Table.from_rows(rows), inner={"jump_acceptance": np.full((4, 2), jump)})


def test_nothing_is_said_of_a_run_without_stages_or_trouble() -> None:
    for result in (seen(), seen(logs=(0.0, 0.1)), SimpleNamespace(stages=Table({}), inner={})):
        assert modes_complete(result) == evidence_settled(result) == jumps_accepted(result) == []
        assert reference_covers(result) == modes_in_sight(result) == []


def test_what_no_draw_shows_is_told_with_what_the_search_could_see() -> None:
    plain = unseen(SimpleNamespace(stages=Table({}), inner={}))
    rows = [
        {"stage": "locate", "overlooked": 0.004, "overlooked_narrow": 0.92},
        {"stage": "temper", "overlooked": NAN, "overlooked_narrow": NAN},
    ]
    told = unseen(SimpleNamespace(stages=Table.from_rows(rows), inner={}))
    assert (
        told.startswith(plain) and "overlooked less than 1% of modes" in told and "92% of those a tenth as wide" in told
    )
    rows[0]["overlooked"] = NAN
    assert unseen(SimpleNamespace(stages=Table.from_rows(rows), inner={})) == plain


def test_modes_that_are_still_being_found() -> None:
    (message,) = modes_complete(seen(new=0.25))
    assert "7 are known" in message and "25%" in message
    assert modes_complete(seen(new=0.04)) == []
    assert modes_complete(seen(new=0.9, reference="product")) == []  # it needs no list of modes


@pytest.mark.parametrize(
    ("overlooked", "unlike", "speaks"), [(0.95, 2.0, True), (0.8, 2.0, False), (1.0, 0.5, False), (NAN, 2.0, False)]
)
def test_unlike_modes_of_which_a_search_sees_few(overlooked: float, unlike: float, speaks: bool) -> None:
    rows = [
        {"stage": "locate", "overlooked": overlooked, "unlike": unlike},
        {"stage": "temper", "overlooked": NAN, "unlike": NAN},
    ]
    found = modes_in_sight(SimpleNamespace(stages=Table.from_rows(rows), inner={}))
    assert bool(found) is speaks
    assert not speaks or ("typically by a factor of 7.4" in found[0] and "overlooked 95% of modes" in found[0])


@pytest.mark.parametrize(("logs", "speaks"), [((-5.0, -1.0), True), ((-5.0, -1.0, -0.9), False), ((-1.0,), False)])
def test_an_evidence_that_moved_in_the_last_round(logs: tuple[float, ...], speaks: bool) -> None:
    found = evidence_settled(seen(logs=logs))
    assert bool(found) is speaks
    assert not speaks or "from -5 to -1" in found[0]


@pytest.mark.parametrize(("reverse", "speaks"), [(0.001, True), (0.1, False)])
def test_an_evidence_that_creeps_up_with_a_reference_that_hardly_serves(reverse: float, speaks: bool) -> None:
    logs = (-9.0, -5.0, -4.7, -4.4)
    rows = [{"stage": "temper", "log_evidence": log, "forward": 0.1, "reverse": reverse, "jump": 0.1} for log in logs]
    found = evidence_settled(SimpleNamespace(stages=Table.from_rows(rows), inner={}))
    assert bool(found) is speaks
    assert not speaks or "from -5 to -4.4" in found[0]


def test_jumps_that_hardly_succeed() -> None:
    (message,) = jumps_accepted(seen(jump=0.01))
    assert "Only 1.0% of the jumps" in message
    assert jumps_accepted(seen(jump=0.04)) == []


@pytest.mark.parametrize(
    ("forward", "reverse", "speaks"), [(0.5, 0.02, True), (0.5, 0.03, False), (0.02, 0.002, False)]
)
def test_a_reference_that_leaves_out_where_particles_have_been(forward: float, reverse: float, speaks: bool) -> None:
    rows = [
        {"stage": "temper", "forward": a, "reverse": b, "jump": 0.6} for a, b in ((0.9, 1e-9), (forward, reverse))
    ]  # the first is not the one that was used
    found = reference_covers(SimpleNamespace(stages=Table.from_rows(rows), inner={}))
    assert bool(found) is speaks
    assert not speaks or "0.5 by its own draws and 0.02" in found[0]
