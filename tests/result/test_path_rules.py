"""Rules about weighted paths and the evidence: silent on paths that fit, loud on paths that don't."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.diagnostics.path_rules import evidence_known, paths_even
from rdmc.locate.survey import Known
from rdmc.mixture import GaussianMixture
from rdmc.path_smc import PathSMC
from tests.result.cases import good

F = torch.float64
TARGET = GaussianMixture.isotropic(
    torch.tensor([[-2.0, 0.0, 1.0], [2.0, 1.0, 0.0]], dtype=F),
    torch.tensor([0.6, 1.0], dtype=F),
    torch.tensor([0.4, 0.6], dtype=F),
)


def ess(values: list[list[float]], **changes: Any) -> rdmc.Result:
    return good(inner={"path_ess": np.array(values)}, **changes)


def weighed(seed: int, surrogate: GaussianMixture) -> rdmc.Result:
    """Paths guided by a mixture that nothing improves, to a target of log evidence 0."""
    sampler = replace(PathSMC(), pilot=Known(surrogate), refit=None, particles=128)
    density = Density(TARGET.log_prob, 3, TARGET.value_and_grad)
    return rdmc.sample(density, draws=128, sampler=sampler, seed=seed, progressbar=False)


def without_a_tail(x: Tensor) -> GaussianMixture:
    """One component, narrow and beside the target's."""
    return GaussianMixture.isotropic(x + 1.5, torch.tensor([0.3], dtype=F), torch.ones(1, dtype=F))


@pytest.mark.parametrize("error", [0.29, math.nan, None])
def test_an_evidence_that_is_known_is_not_spoken_of(error: float | None) -> None:
    assert evidence_known(good(log_evidence_mcse=error)) == []
    assert evidence_known(good(log_evidence=None, log_evidence_mcse=None)) == []


def test_an_evidence_that_is_not_known() -> None:
    (message,) = evidence_known(good(log_evidence_mcse=0.42))
    assert "standard error of 0.42" in message and message in good(log_evidence_mcse=0.42).check()


def test_one_bad_population_is_chance_and_four_are_not() -> None:
    assert paths_even(ess([[0.9, 0.02, 0.7], *[[0.9, 0.3, 0.7]] * 3])) == []
    assert paths_even(ess([[math.nan] * 3] * 4)) == [] and paths_even(ess([[]] * 4)) == [] and paths_even(good()) == []
    result = ess([[0.9, 0.03, 0.7], *[[0.9, 0.11, 0.05]] * 2, [0.9, 0.11, 0.7]])
    (message,) = paths_even(result)
    assert "level 2 of 3" in message and "left 0.09 of" in message and message in result.check()


def test_paths_that_fit_are_quiet_and_paths_that_do_not_are_named() -> None:
    """Five seeds each: the mixture is the target, or one narrow component that lies beside it."""
    fit, apart = [], []
    for seed in range(5):
        result = weighed(seed, TARGET)
        fit.append(bool(paths_even(result) or evidence_known(result)))
        assert result.log_evidence is not None and abs(result.log_evidence) < 0.1
        result = weighed(seed, without_a_tail(TARGET.mean[:1]))
        apart.append(bool(paths_even(result) or evidence_known(result)))
    print(f"flagged: {sum(fit)} of 5 that fit, {sum(apart)} of 5 that do not")
    assert sum(fit) == 0 and sum(apart) >= 4
