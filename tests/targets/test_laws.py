"""Laws that hold for every target: shapes, gradients, E[grad log pi] = 0, mode frequencies, moves and copies."""

from __future__ import annotations

import pickle

import pytest
import torch

import targets
from targets import Target
from tests.targets.cases import NAMES, case, draws, points, seeded
from tests.targets.stats import assert_within, frequencies, mean_and_mcse

every = pytest.mark.parametrize("name", NAMES)


@every
@pytest.mark.parametrize("m", [0, 1, 5])
def test_shapes(name: str, m: int) -> None:
    target = case(name)
    x = points(target, 5)[:m]
    before = x.clone()
    value, grad = target.value_and_grad(x)
    assert target.log_density(x).shape == value.shape == (m,)
    assert grad.shape == (m, target.dim)
    assert value.dtype == grad.dtype == torch.float64
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(grad).all())
    assert torch.equal(x, before)
    if target.can_sample:
        assert target.sample(m, seeded(0)).shape == (m, target.dim)
    if target.has_modes:
        index = target.mode_of(x)
        assert index.shape == (m,) and index.dtype == torch.int64


@every
def test_gradient_is_autograd_of_value(name: str) -> None:
    target = case(name)
    x = points(target, 50).requires_grad_()
    value = target.log_density(x)
    (wanted,) = torch.autograd.grad(value.sum(), x)
    got_value, got = target.value_and_grad(x.detach())
    torch.testing.assert_close(got_value, value.detach(), rtol=1e-12, atol=1e-10)
    scale = wanted.norm(dim=1, keepdim=True) + 1e-3
    error = ((got - wanted) / scale).abs().max()
    assert error < 1e-8, f"relative error {error:.2e}"


@every
def test_batch_is_each_point_alone(name: str) -> None:
    target = case(name)
    x = points(target, 3)
    alone = torch.cat([target.log_density(row[None]) for row in x])
    torch.testing.assert_close(target.log_density(x), alone, rtol=1e-10, atol=1e-9)


@every
def test_mean_gradient_vanishes_under_sample(name: str) -> None:
    target = case(name)
    if not target.can_sample:
        with pytest.raises(NotImplementedError, match="no exact sampler"):
            target.sample(1, seeded(0))
        return
    mean, mcse = mean_and_mcse(target.value_and_grad(draws(name))[1])
    assert_within(mean, 0.0, mcse, what=f"{name}: E[grad log pi]")


@every
def test_stein_identity_under_sample(name: str) -> None:
    """E[g d log pi / dx_j] = -E[dg/dx_j] for g = sin((x_j - m_j) / s_j) sees scale; the mean gradient doesn't."""
    target = case(name)
    if not target.can_sample:
        pytest.skip("no exact sampler")
    x = draws(name)
    centre, spread = x.median(0).values, (x.quantile(0.84, 0) - x.quantile(0.16, 0)) / 2.0
    u = (x - centre) / spread
    mean, mcse = mean_and_mcse(u.sin() * target.value_and_grad(x)[1] + u.cos() / spread)
    assert_within(mean, 0.0, mcse, what=f"{name}: Stein identity")


@every
def test_mode_frequencies(name: str) -> None:
    target = case(name)
    if not target.has_modes:
        with pytest.raises(NotImplementedError, match="no list of modes"):
            target.mode_of(points(target, 1))
        return
    weights = target.mode_weights
    assert weights is not None
    torch.testing.assert_close(weights.sum(), torch.ones_like(weights.sum()), rtol=0, atol=1e-9)
    if target.modes is not None:
        assert target.modes.shape == (len(weights), target.dim)
        assert torch.equal(target.mode_of(target.modes), torch.arange(len(weights)))
    if target.can_sample:
        index = target.mode_of(draws(name))
        seen, mcse = frequencies(index, weights)
        assert_within(seen, weights, mcse, what=f"{name}: mode frequencies")


@every
def test_runs_on_meta(name: str) -> None:
    """On the meta device a host read raises: none may hide in the densities."""
    target = case(name).to("meta")
    x = torch.empty(3, target.dim, dtype=torch.float64, device="meta")
    value, grad = target.value_and_grad(x)
    assert target.log_density(x).device.type == value.device.type == grad.device.type == "meta"
    if target.has_modes:
        assert target.mode_of(x).device.type == "meta"


@every
def test_single_precision_copy(name: str) -> None:
    target = case(name)
    single = target.to(dtype=torch.float32)
    x = points(target, 20)[:20]
    value, grad = single.value_and_grad(x.float())
    assert value.dtype == grad.dtype == torch.float32
    assert target.dtype == torch.float64
    if name.startswith("disguise") or "conditioned" in name:
        return  # a condition number of 1e4 leaves single precision nothing to agree on
    torch.testing.assert_close(value.double(), target.log_density(x.float().double()), rtol=1e-3, atol=2e-2)
    if target.can_sample:
        assert single.sample(2, seeded(0)).dtype == torch.float32


@every
def test_pickle_round_trip(name: str) -> None:
    target = case(name)
    copy = pickle.loads(pickle.dumps(target))
    x = points(target, 4)
    assert (copy.name, copy.dim, copy.log_z, copy.source) == (target.name, target.dim, target.log_z, target.source)
    assert torch.equal(copy.log_density(x), target.log_density(x))


@every
def test_same_seed_same_draws_and_no_global_state(name: str) -> None:
    target = case(name)
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    points(target, 3)
    target.value_and_grad(points(target, 3))
    if target.can_sample:
        assert torch.equal(target.sample(7, seeded(5)), target.sample(7, seeded(5)))
        assert not torch.equal(target.sample(7, seeded(5)), target.sample(7, seeded(6)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype


@every
def test_modes_are_stationary(name: str) -> None:
    """Where the modes are optima (not centres of overlapping or product components), the gradient vanishes there."""
    target = case(name)
    if target.modes is None or name.startswith(("gmm40", "student", "random", "eight_gaussians", "four_modes")):
        pytest.skip("no point modes, or centres only")
    value, grad = target.value_and_grad(target.modes)
    step = 1e-4 * grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-300)
    assert bool((target.log_density(target.modes + step) - value < 1e-7).all())


def test_factories_touch_no_global_state() -> None:
    state = torch.get_rng_state()
    for name, factory in targets.ALL.items():
        target = factory()
        assert target.name == name
        assert target.source
        assert target.dtype == torch.float64
        assert getattr(targets, name) is factory
    assert torch.equal(torch.get_rng_state(), state)


def _affine_of(base: Target) -> tuple[Target, torch.Tensor, torch.Tensor]:
    matrix = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=torch.float64)
    offset = torch.tensor([100.0, -7.0], dtype=torch.float64)
    return targets.affine(base, matrix, offset), matrix, offset


@pytest.mark.parametrize("name", ["four_modes", "mueller_brown", "rings"])
def test_affine_carries_everything(name: str) -> None:
    base = case(name)
    image, matrix, offset = _affine_of(base)
    x = base.sample(200, seeded(1))
    y = x @ matrix.T + offset
    torch.testing.assert_close(image.log_density(y), base.log_density(x) - torch.linalg.slogdet(matrix).logabsdet)
    torch.testing.assert_close(image.sample(200, seeded(1)), y)
    assert torch.equal(image.mode_of(y), base.mode_of(x))
    assert image.log_z == base.log_z and image.source == base.source and image.name == f"affine({name})"
    assert image.mode_weights is base.mode_weights
    if base.modes is not None:
        torch.testing.assert_close(image.modes, base.modes @ matrix.T + offset)


def test_disguise_is_far_and_stretched_and_reproducible() -> None:
    base = targets.gaussian(dim=20)
    one, same, other = (targets.disguise(base, seed) for seed in (1, 1, 2))
    assert torch.equal(one.matrix, same.matrix) and not torch.equal(one.matrix, other.matrix)
    scales = torch.linalg.svdvals(one.matrix)
    assert scales.max() <= 100.0 and scales.min() >= 0.01 and scales.max() / scales.min() > 100.0
    assert 100.0 < one.offset.abs().max() <= 1000.0


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: targets.gaussian(condition=0.5), "condition"),
        (lambda: targets.gmm40(weights=(1.0, 2.0)), "weights"),
        (lambda: targets.entropic_pair(weight=1.0), "weight"),
        (lambda: targets.student_mixture(df=0), "df"),
        (lambda: targets.rings(weights=(1.0,)), "weights"),
        (lambda: targets.banana(dim=1), "dim"),
        (lambda: targets.funnel(scale=-1.0), "scale"),
        (lambda: targets.many_well(dim=3), "dim"),
        (lambda: targets.double_wells(dim=3, wells=4), "wells"),
        (lambda: targets.phi4(nodes=200), "nodes"),
        (lambda: targets.label_switching(observations=1), "observations"),
        (lambda: targets.galaxies(components=7), "components"),
        (lambda: targets.logistic_regression(coefficient_sd=0.0), "standard deviations"),
        (lambda: targets.affine(targets.rings(), torch.zeros(2, 2), torch.zeros(2)), "invertible"),
        (lambda: targets.affine(targets.rings(), torch.eye(3), torch.zeros(2)), "shapes"),
        (lambda: targets.gaussian_mixture(torch.zeros(2, 2), torch.zeros(2, 2, 2)), "invertible"),
    ],
)
def test_bad_arguments_are_named(build: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        build()  # type: ignore[operator]
