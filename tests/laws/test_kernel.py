"""Laws of Markov kernels: invariance, batch independence, reproducibility, equivariance, adaptation, refusals."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rdmc.density import Density
from rdmc.kernels import HMC, MALA, ULA, Isotropic, Kernel, MixtureMALA, State
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.typing import BatchedDensity
from tests.laws.cases import (
    KERNELS,
    SKEWED_MEAN,
    SKEWED_VARIANCE,
    F,
    KernelCase,
    generator,
    name_of,
    near_skewed,
    skewed,
    skewed_draws,
)
from tests.stats import assert_moments

CHAINS, PARTICLES, DIM = 3, 5, 2
ALL = pytest.mark.parametrize("case", KERNELS, ids=name_of)


def run(
    case: KernelCase, f: BatchedDensity, x: Tensor, rng: Streams, steps: int = 3, adapt: bool = True
) -> tuple[State, Tensor, Tensor]:
    """State, tuning and ``(..., B, steps)`` acceptances after some steps, with adaptation in between."""
    kernel = case.kernel(near_skewed(f.dim))
    state = kernel.init(f, x)
    tuning = kernel.tuning(state, rng)
    acceptance = []
    for _ in range(steps):
        state, info = kernel.step(f, state, rng, tuning, case.metric(f.dim))
        tuning = kernel.adapt(tuning, info, 0.5) if adapt else tuning
        acceptance.append(info.acceptance)
    return state, tuning, torch.stack(acceptance, -1)


@pytest.mark.parametrize("dim", [1, 3, 10])
@ALL
def test_exact_draws_stay_exact(case: KernelCase, dim: int) -> None:
    chains, particles = 2, 5000
    x = skewed_draws((chains, particles, dim), seed=dim)
    state, _, acceptance = run(case, skewed(dim), x, Streams.seeded(1, [particles]), steps=30, adapt=False)
    assert 0.01 < float(acceptance.mean()) <= 1.0
    assert float((state.x != x).any(-1).double().mean()) > 0.2
    assert_moments(state.x.flatten(0, 1), SKEWED_MEAN, SKEWED_VARIANCE, case.allowance, label=f"{case.name} d={dim}")
    value, grad = skewed(dim).value_and_grad(state.x)
    torch.testing.assert_close((state.value, state.grad), (value, grad), rtol=1e-12, atol=1e-12)


def exponential(x: Tensor) -> Tensor:
    """Exp(1) in every coordinate: -inf below 0."""
    return torch.where((x > 0.0).all(-1), -x.sum(-1), -torch.inf)


@pytest.mark.parametrize("kernel", [MALA(0.5), HMC(0.6, 3)], ids=name_of)
def test_an_edge_of_the_support_is_legal(kernel: Kernel) -> None:
    f, rng = Density(exponential, 2), Streams.seeded(3, [8000])
    state = kernel.init(f, skewed_draws((8000, 2), seed=0).exp())
    tuning = kernel.tuning(state, rng)
    for _ in range(30):
        state, info = kernel.step(f, state, rng, tuning, Isotropic(1.0))
        assert not bool(info.nonfinite.any())
    assert_moments(state.x, 1.0, 1.0, label=name_of(kernel))


def test_ula_has_the_bias_it_states() -> None:
    h, n = 0.5, 20_000
    f, rng = Density(lambda x: -0.5 * x.square().sum(-1), 1), Streams.seeded(0, [n])
    kernel = ULA(step_size=h)
    state = kernel.init(f, rng.normal((n, 1)) * (1.0 - h / 2.0) ** -0.5)
    for _ in range(10):
        state, _ = kernel.step(f, state, rng, kernel.tuning(state, rng), Isotropic(1.0))
    assert_moments(state.x, 0.0, 1.0 / (1.0 - h / 2.0), label="ULA")


@ALL
def test_shards_together_equal_each_alone_bit_for_bit(case: KernelCase) -> None:
    f, sizes, keys = skewed(DIM), [3, 4], [(0, 7), (1, 2)]
    x = skewed_draws((CHAINS, sum(sizes), DIM), seed=0)
    state, tuning, acceptance = run(case, f, x, Streams.seeded(5, sizes, keys), steps=6)
    begin = 0
    for shard, (size, key) in enumerate(zip(sizes, keys, strict=True)):
        part = slice(begin, begin + size)
        alone, tuned, accepted = run(case, f, x[:, part], Streams.seeded(5, [size], [key]), steps=6)
        for a, b in zip((*state, acceptance), (*alone, accepted), strict=True):
            assert torch.equal(a[:, part], b)
        if tuning.numel():
            assert torch.equal(tuning[shard] if tuning.shape[0] == len(sizes) else tuning[:, part], tuned.squeeze(0))
        begin += size


@ALL
def test_particles_do_not_see_each_other(case: KernelCase) -> None:
    f, keys = skewed(DIM), [(i,) for i in range(PARTICLES)]
    x = skewed_draws((CHAINS, PARTICLES, DIM), seed=1)
    together, _, _ = run(case, f, x, Streams.seeded(2, [1] * PARTICLES, keys), steps=4)
    for i in range(PARTICLES):
        alone, _, _ = run(case, f, x[:, i : i + 1], Streams.seeded(2, [1], [keys[i]]), steps=4)
        torch.testing.assert_close(together.x[:, i : i + 1], alone.x, rtol=1e-12, atol=1e-12)


@ALL
def test_a_seed_fixes_the_bits_and_nothing_else_is_touched(case: KernelCase) -> None:
    f, x = skewed(DIM), skewed_draws((CHAINS, PARTICLES, DIM), seed=1)
    given, before = x.clone(), torch.get_rng_state()
    first, again, other = (run(case, f, x, Streams.seeded(seed, [PARTICLES]))[0] for seed in (4, 4, 5))
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert torch.equal(x, given) and torch.equal(torch.get_rng_state(), before)


@ALL
def test_the_cost_is_the_stated_number_of_gradients(case: KernelCase) -> None:
    f = skewed(DIM)
    run(case, f, skewed_draws((CHAINS, PARTICLES, DIM), seed=1), Streams.seeded(0, [PARTICLES]), steps=4)
    each = CHAINS * PARTICLES
    assert f.counter.gradients == each * (1 + 4 * case.kernel(near_skewed(DIM)).gradients) and f.counter.densities == 0


@dataclass(frozen=True, eq=False)
class Turned:
    """Streams whose normal draws are turned by a rotation."""

    inner: Streams
    rotation: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.inner.sizes

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return self.inner.normal(shape) @ self.rotation.T


@pytest.mark.parametrize(
    "case", [case for case in KERNELS if case.name not in ("mala-diagonal", "mala-dense", "hmc-dense")], ids=name_of
)
def test_turning_everything_turns_the_chain(case: KernelCase) -> None:
    dim = 3
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator(0), dtype=F))[0]
    f, g = skewed(dim), near_skewed(dim)
    turned_g = GaussianMixture(g.log_weight, g.mean @ rotation.T, rotation @ g.basis, g.variance)
    turned_f = Density(lambda x: f.log_density(x @ rotation), dim)
    x = skewed_draws((CHAINS, PARTICLES, dim), seed=1)
    ends = []
    for density, mixture, start, turn in ((f, g, x, False), (turned_f, turned_g, x @ rotation.T, case.turns_noise)):
        kernel, rng = case.kernel(mixture), Streams.seeded(6, [PARTICLES])
        streams: Streams = Turned(rng, rotation) if turn else rng  # type: ignore[assignment]
        state = kernel.init(density, start)
        for _ in range(4):
            state, _ = kernel.step(density, state, streams, kernel.tuning(state, streams), case.metric(dim))
        ends.append(state.x)
    torch.testing.assert_close(ends[0] @ rotation.T, ends[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("start", [0.02, 40.0])
@pytest.mark.parametrize("case", [case for case in KERNELS if case.target is not None], ids=name_of)
def test_adaptation_reaches_its_target(case: KernelCase, start: float) -> None:
    dim, particles = 10, 150
    f, rng = skewed(dim), Streams.seeded(0, [particles])
    kernel = case.kernel(near_skewed(dim))
    state = kernel.init(f, skewed_draws((2, particles, dim), seed=1))
    tuning = kernel.tuning(state, rng) + torch.tensor(start, dtype=F).log()
    for i in range(150):
        state, info = kernel.step(f, state, rng, tuning, case.metric(dim))
        tuning = kernel.adapt(tuning, info, 2.0 / (1.0 + i) ** 0.6)
    frozen = [kernel.step(f, state, rng, tuning, case.metric(dim))[1].acceptance.mean() for _ in range(10)]
    assert float(torch.stack(frozen).mean()) == pytest.approx(case.target, abs=0.05)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@ALL
def test_a_nonfinite_density_is_refused_and_counted(case: KernelCase, bad: float) -> None:
    def broken(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = skewed(DIM).value_and_grad(x)
        return torch.where(x[:, 0] > 0.5, bad, value), grad

    f, rng = Density(lambda x: broken(x)[0], DIM, broken), Streams.seeded(0, [400])
    kernel = case.kernel(near_skewed(DIM))
    state = kernel.init(f, skewed_draws((2, 400, DIM), seed=1).clamp(max=0.4))
    seen = 0.0
    for _ in range(10):
        state, info = kernel.step(f, state, rng, kernel.tuning(state, rng), case.metric(DIM))
        assert float(info.acceptance[info.nonfinite].sum()) == 0.0
        seen += float(info.nonfinite.double().sum())
    assert seen > 0.0 and bool((state.x[..., 0] <= 0.5).all()) and bool(torch.isfinite(state.value).all())


@ALL
def test_a_gradient_of_nan_is_refused_and_counted(case: KernelCase) -> None:
    def broken(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = skewed(DIM).value_and_grad(x)
        return value, torch.where(x[:, :1] > 0.5, torch.nan, grad)

    if case.name == "jump":
        pytest.skip("an independence jump doesn't use the gradient")
    f, rng = Density(skewed(DIM), DIM, broken), Streams.seeded(0, [400])
    kernel = case.kernel(near_skewed(DIM))
    state = kernel.init(f, skewed_draws((2, 400, DIM), seed=1).clamp(max=0.4))
    seen = 0
    for _ in range(10):
        state, info = kernel.step(f, state, rng, kernel.tuning(state, rng), case.metric(DIM))
        seen += int(info.nonfinite.sum())
    assert seen > 0 and bool(torch.isfinite(state.grad).all())


def test_nan_on_the_way_of_a_trajectory_is_refused_and_counted() -> None:
    calls = []

    def once(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(calls))
        value, grad = skewed(DIM).value_and_grad(x)
        return (value * torch.nan if len(calls) == 3 else value), grad  # after `init`: the second of three leapfrogs

    f, rng, kernel = Density(skewed(DIM), DIM, once), Streams.seeded(0, [PARTICLES]), HMC(0.1, 3)
    state = kernel.init(f, skewed_draws((PARTICLES, DIM), seed=1))
    after, info = kernel.step(f, state, rng, kernel.tuning(state, rng), Isotropic(1.0))
    assert len(calls) == 4 and bool(info.nonfinite.all()) and torch.equal(after.x, state.x)
    after, info = kernel.step(f, state, rng, kernel.tuning(state, rng), Isotropic(1.0))
    assert not bool(info.nonfinite.any()) and not torch.equal(after.x, state.x)


def test_outside_the_support_is_not_counted_and_not_entered() -> None:
    f, rng = Density(exponential, 1), Streams.seeded(0, [500])
    for kernel in (ULA(0.5), MALA(0.5), HMC(0.5, 3)):
        state = kernel.init(f, skewed_draws((500, 1), seed=0).exp())
        refused = 0.0
        for _ in range(5):
            state, info = kernel.step(f, state, rng, kernel.tuning(state, rng), Isotropic(1.0))
            assert not bool(info.nonfinite.any())
            refused += float((info.acceptance == 0.0).double().sum())
        assert refused > 0.0 and bool((state.x > 0.0).all())


def test_pooled_adaptation_leaves_unused_components_alone() -> None:
    g = near_skewed(DIM)
    kernel = MixtureMALA(GaussianMixture(torch.tensor([0.0, 0.0, -800.0], dtype=F), g.mean, g.basis, g.variance))
    f, rng = skewed(DIM), Streams.seeded(0, [50])
    state = kernel.init(f, skewed_draws((50, DIM), seed=1))
    tuning = kernel.tuning(state, rng)
    _, info = kernel.step(f, state, rng, tuning, Isotropic(1.0))
    adapted = kernel.adapt(tuning, info, 0.5)
    assert bool((adapted[0, :2] != tuning[0, :2]).all()) and float(adapted[0, 2]) == float(tuning[0, 2])


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ULA(0.0), "step_size"),
        (lambda: MALA(-1.0), "step_size"),
        (lambda: MALA(0.1, 1.0), "target_acceptance"),
        (lambda: HMC(float("nan")), "step_size"),
        (lambda: HMC(0.1, 0), "leapfrogs"),
        (lambda: HMC(0.1, 2.0), "leapfrogs"),  # type: ignore[arg-type]
        (lambda: HMC(0.1, 2, 0.0), "target_acceptance"),
        (lambda: HMC(0.1, 2, 0.8, 1.0), "jitter"),
        (lambda: MixtureMALA(near_skewed(2), -0.5), "step_size"),
        (lambda: MixtureMALA(near_skewed(2), 0.5, 1.5), "target_acceptance"),
        (lambda: Isotropic(0.0), "scale"),
    ],
)
def test_bad_arguments_are_named(build: object, name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, got "):
        build()  # type: ignore[operator]
