"""Laws of every baseline: moments, budget, seeds, global state, missing libraries, refusals."""

from __future__ import annotations

import builtins
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

import rdmc
from rdmc.assembly import joined_evidence
from rdmc.baselines import NUTS, AnnealedLangevin, Ensemble, ParallelTempering, TemperedSMC
from rdmc.sampler import Block, Unit
from tests.baselines.cases import BASELINES, BaselineCase, run
from tests.laws.cases import SKEWED_MEAN, SKEWED_VARIANCE, skewed
from tests.stats import assert_within

NEW = [case for case in BASELINES if case.name not in ("ula", "mala", "hmc")]


def cost(result: rdmc.Result) -> float:
    return result.gradient_evaluations + 0.5 * result.density_evaluations


# one dimension for all but those of BlackJAX, which are mostly compiling and are held against BlackJAX's own chains elsewhere
MOMENTS = [
    pytest.param(
        case, dim, id=f"{case.name}-{dim}", marks=[pytest.mark.slow] if dim != 3 or case.extra == "blackjax" else []
    )
    for case in BASELINES
    for dim in (1, 3, 10)
]


@pytest.mark.parametrize(("case", "dim"), MOMENTS)
def test_moments_of_a_skewed_law_and_the_budget(case: BaselineCase, dim: int) -> None:
    if case.extra:
        pytest.importorskip(case.extra)
    result = run(case, skewed(dim), seed=dim)
    x = result.samples
    for power, truth, allowance in ((1, SKEWED_MEAN, case.allowance[0]), (2, SKEWED_VARIANCE, case.allowance[1])):
        values = x if power == 1 else (x - SKEWED_MEAN).square()
        per_chain = values.mean((1, 2))  # coordinates are alike, chains independent
        mcse = per_chain.std() / len(per_chain) ** 0.5
        assert_within(
            per_chain.mean(),
            truth,
            mcse,
            len(per_chain),
            allowance=allowance,
            label=f"{case.name} d={dim} moment {power}",
        )
    if result.log_evidence is not None:
        assert_within(
            result.log_evidence, 0.0, result.log_evidence_mcse or 0.0, label=f"{case.name} d={dim} log evidence"
        )
    # the pilot and the checks come on top; a draw's own log density is evaluated once at the end
    on_top = 6000.0 + case.chains * case.draws
    assert cost(result) <= 1.2 * case.budget * case.draws * case.chains + on_top
    assert cost(result) >= 0.7 * case.budget * case.draws * case.chains


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.extra == "blackjax" else []) for c in NEW]
)
def test_a_seed_fixes_the_bits_and_nothing_global_is_touched(case: BaselineCase) -> None:
    if case.extra:
        pytest.importorskip(case.extra)
    if case.extra == "blackjax":
        import jax

        before_jax = (jax.config.jax_enable_x64, jax.config.jax_default_device)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what must not be touched
    before_numpy, before_torch = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    small = {"draws": 20, "chains": 2, "budget": 40.0}
    first, again, other = (run(case, skewed(2), seed, **small) for seed in (4, 4, 5))
    assert first.samples.dtype == torch.float64 and first.samples.shape == (2, 20, 2)
    assert torch.equal(first.samples, again.samples) and first.log_evidence == again.log_evidence
    assert not torch.equal(first.samples, other.samples)
    assert not torch.equal(first.samples[0], first.samples[1])
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before_torch)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    if case.extra == "blackjax":
        assert (jax.config.jax_enable_x64, jax.config.jax_default_device) == before_jax
    assert isinstance(first.check(), list) and len(first.trace) >= 0


@pytest.mark.parametrize(("name", "package"), [("nuts", "blackjax"), ("tempered-smc", "blackjax"), ("emcee", "emcee")])
def test_a_missing_library_is_named_with_the_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sample = builtins.__import__, rdmc.sample

    def absent(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {module!r}")
        return real(module, *args, **kwargs)

    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ImportError, match=rf'sampler "{name}" needs the package `{package}`.*rdmc\[baselines\]'):
        sample(skewed(2), sampler=name, draws=5, progressbar=False)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: AnnealedLangevin(budget=1), "budget"),
        (lambda: AnnealedLangevin(levels=1), "levels"),
        (lambda: AnnealedLangevin(step_size=0.0), "step_size"),
        (lambda: ParallelTempering(budget=3), "budget"),
        (lambda: ParallelTempering(warmup=1.0), "warmup"),
        (lambda: ParallelTempering(explore=0), "explore"),
        (lambda: ParallelTempering(replicas=(2, 4)), "replicas"),
        (lambda: ParallelTempering(inflation=0.5), "inflation"),
        (lambda: NUTS(budget=0), "budget"),
        (lambda: NUTS(doublings=0), "doublings"),
        (lambda: NUTS(warmup=0.0), "warmup"),
        (lambda: NUTS(target_acceptance=1.0), "target_acceptance"),
        (lambda: TemperedSMC(budget=-1), "budget"),
        (lambda: TemperedSMC(target_ess=1.0), "target_ess"),
        (lambda: TemperedSMC(leapfrogs=0), "leapfrogs"),
        (lambda: TemperedSMC(inflation=0.9), "inflation"),
        (lambda: Ensemble(budget=0), "budget"),
        (lambda: Ensemble(warmup=-0.1), "warmup"),
        (lambda: Ensemble(walkers=9), "walkers"),
    ],
)
def test_bad_arguments_are_named(build: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, got "):
        build()


@pytest.mark.parametrize("name", ["nuts", "tempered-smc", "emcee"])
def test_a_type_that_the_library_lacks_is_refused(name: str) -> None:
    pytest.importorskip("blackjax")
    pytest.importorskip("emcee")
    with pytest.raises(ValueError, match="`dtype` must be float32 or float64"):
        rdmc.sample(lambda x: -x.square().sum(-1), 2, sampler=name, dtype=torch.bfloat16, draws=5, progressbar=False)


def test_evidence_is_the_log_of_the_mean_over_chains() -> None:
    logs = torch.tensor([1.0, 1.2, 0.7], dtype=torch.float64) + 5000.0
    blocks = [(Unit(c, 0, 1), Block(torch.zeros(1, 1, 1), {}, logs[c : c + 1])) for c in range(3)]
    z = (logs - 5000.0).exp()
    value, error = joined_evidence(blocks)
    assert value == pytest.approx(5000.0 + float(z.mean().log()))
    assert error == pytest.approx(float(z.std() / 3**0.5 / z.mean()))
    assert joined_evidence(blocks[:1]) == (5001.0, None)
    assert joined_evidence([(Unit(0, 0, 1), Block(torch.zeros(1, 1, 1)))]) == (None, None)
    nan = (Unit(3, 0, 1), Block(torch.zeros(1, 1, 1), {}, torch.full((1,), torch.nan)))
    assert joined_evidence([*blocks, nan], partial=True) == (value, error)
    assert math.isnan(joined_evidence([*blocks, nan])[0] or 0.0)
