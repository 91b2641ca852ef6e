"""Between two gradients the host waits for nothing, and a step can be captured once and replayed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rdmc.correct import Reference, Tempering
from rdmc.correct.temper import Rung
from rdmc.density import Density
from rdmc.kernels import Dense, Diagonal, Info, Metric, State
from rdmc.posterior import InnerPosterior
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from tests.correct.cases import LAWS, as_target, core, moved
from tests.device.cuda import CUDA, NEEDS_CUDA, no_waiting
from tests.laws.cases import INNER, KERNELS, F, InnerCase, KernelCase, bimodal, name_of, near_skewed, skewed, surrogate

pytestmark = NEEDS_CUDA
D = 3
SIZES, KEYS = [300, 200], [(0, 0), (0, 1)]


def there(metric: Metric) -> Metric:
    """The metric on the GPU."""
    if isinstance(metric, Diagonal):
        return Diagonal(metric.scale.to(CUDA))
    return Dense(metric.factor.to(CUDA)) if isinstance(metric, Dense) else metric


class Steps:
    """A kernel on its law's test density, ready to step."""

    def __init__(self, case: KernelCase) -> None:
        self.kernel, self.metric = case.kernel(near_skewed(D, "cuda")), there(case.metric(D))
        self.f = dataclasses.replace(skewed(D), device=CUDA)
        self.rng = Streams.seeded(0, SIZES, KEYS, device=CUDA)
        self.state = self.kernel.init(self.f, torch.zeros(2, sum(SIZES), D, dtype=F, device=CUDA))
        self.tuning = self.kernel.tuning(self.state, self.rng)

    def step(self, state: State) -> tuple[State, Info]:
        """One transition at fixed step sizes."""
        return self.kernel.step(self.f, state, self.rng, self.tuning, self.metric)


@pytest.mark.parametrize("case", KERNELS, ids=name_of)
def test_a_step_and_its_adaptation_wait_for_nothing(case: KernelCase) -> None:
    steps = Steps(case)
    state, _ = steps.step(steps.state)  # libraries are loaded at their first use
    with no_waiting():
        state, info = steps.step(state)
        steps.kernel.adapt(steps.tuning, info, 0.5)


def test_what_waits_is_seen_here() -> None:
    x = torch.ones(3, device=CUDA)
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        x.sum().item()
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        torch.arange(3).to(CUDA)


@pytest.mark.parametrize("case", KERNELS, ids=name_of)
def test_a_captured_step_gives_the_bits_of_the_step(case: KernelCase) -> None:
    """The step is recorded as a CUDA graph, in whose replays the random numbers go on."""
    eager, steps = Steps(case), Steps(case)
    state = eager.state
    for _ in range(6):
        state, _ = eager.step(state)
    held = State(*(part.clone() for part in steps.state))
    begun = [generator.get_state() for generator in steps.rng.generators if generator is not None]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        steps.step(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for generator, before in zip(steps.rng.generators, begun, strict=True):
        assert generator is not None
        generator.set_state(before)
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        new, _ = steps.step(held)
        for part, value in zip(held, new, strict=True):
            part.copy_(value)
    for _ in range(6):
        graph.replay()
    for part, value in zip(held, state, strict=True):
        assert torch.equal(part, value)


@pytest.mark.parametrize("case", [case for case in INNER if case.name != "rejection"], ids=name_of)
def test_inner_draws_wait_for_nothing(case: InnerCase) -> None:
    """All but rejection, which asks once for each draw whether its bound was kept."""
    rng = Streams.seeded(0, SIZES, KEYS, device=CUDA)
    x_t = torch.zeros(sum(SIZES), 2, dtype=F, device=CUDA)
    target = as_target(moved(bimodal(2), F, CUDA))
    q = InnerPosterior(target, x_t, 0.8, 0.7, moved(surrogate(2), F, CUDA))
    first = case.sampler.draw(q, rng, None)
    with no_waiting():
        case.sampler.draw(dataclasses.replace(q, sigma=0.6), rng, first.warm)


@pytest.mark.parametrize("name", LAWS)
def test_a_temperature_waits_for_nothing(name: str) -> None:
    target = as_target(moved(bimodal(2), F, CUDA))
    own = Reference(moved(LAWS[name](2), F, CUDA), moved(StudentMixture(core(2), 4), F, CUDA), "test")
    rng = Streams.seeded(0, [400, 400], KEYS, device=CUDA)
    tempering = Tempering(local=2)
    rung = Rung(0.4, 2, torch.full((1, 3), math.log(0.5), dtype=F, device=CUDA), 2)
    population = tempering.begin(target, own.law, rng)
    population, *_ = tempering.step(target, own, population, 0.0, rung, rng)
    with no_waiting():
        tempering.step(target, own, population, 0.4, rung._replace(beta=1.0), rng)


def test_a_density_waits_for_nothing_with_a_gradient_by_autograd() -> None:
    def log_density(x: Tensor) -> Tensor:
        return torch.where((x > -3.0).all(-1), -0.5 * x.square().sum(-1), -torch.inf)

    density, x = Density(log_density, D, device=CUDA, rows=128), torch.zeros(500, D, dtype=F, device=CUDA)
    density.value_and_grad(x)
    with no_waiting():
        value, _ = density.value_and_grad(x)
    assert value.device == CUDA
