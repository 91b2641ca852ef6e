"""A look at points says what the formulas say, in blocks and far away, and kernels guided by one mixture look at a point once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import targets
from rdmc.kernels import IndependenceJump, Isotropic, MixtureMALA
from rdmc.kernels.guided import Seen
from rdmc.look import Look
from rdmc.mixture import GaussianMixture
from rdmc.rng import Streams
from rdmc.student import StudentMixture
from tests.laws.cases import F, near_skewed, skewed, skewed_draws

FAR = torch.tensor(
    [0.0, 30.0, 38.3, 1e3, 1e80], dtype=F
)  # from the middle of all shares to where exponentials underflow


def mixture(name: str, dim: int) -> GaussianMixture | StudentMixture:
    """Three components."""
    return near_skewed(dim) if name == "gaussian" else StudentMixture(near_skewed(dim), 3)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("name", ["gaussian", "student"])
def test_a_look_is_the_density_and_the_responsibilities(name: str, dim: int) -> None:
    g = mixture(name, dim)
    x = torch.cat([skewed_draws((30_000, dim), seed=dim), FAR[:, None].expand(-1, dim)])  # several blocks
    look, log = g.look(x), g.log_components(x)
    torch.testing.assert_close(look.log_prob, torch.logsumexp(log, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(g.log_prob(x), look.log_prob, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(look.share, torch.softmax(log, -1), rtol=1e-10, atol=1e-150)
    assert float(look.share.min()) > 0.0


@pytest.mark.parametrize("name", ["gaussian", "student"])
def test_infinity_and_nan_stay_what_they_are(name: str) -> None:
    x = torch.tensor([[torch.inf, 0.0], [torch.nan, 0.0], [0.0, 0.0]], dtype=F)
    value = mixture(name, 2).log_prob(x)
    assert not bool(torch.isfinite(value[:2]).any()) and bool(torch.isnan(value[1])) and bool(torch.isfinite(value[2]))


@dataclass(frozen=True, eq=False)
class Watched:
    """A mixture that counts the batches it looks at."""

    inner: GaussianMixture
    looks: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def look(self, x: Tensor) -> Look:
        """Counted."""
        self.looks.append(x.shape[-2])
        return self.inner.look(x)


def test_every_point_is_looked_at_once_and_the_look_follows_the_point() -> None:
    seen_by = Watched(near_skewed(2))
    jump, local = IndependenceJump(seen_by), MixtureMALA(seen_by)  # type: ignore[arg-type]
    f, rng = skewed(2), Streams.seeded(0, [400])
    state = local.init(f, skewed_draws((400, 2), seed=1))
    tuning = local.tuning(state, rng)
    for step, kernel in enumerate((jump, local, local, jump, local), start=1):
        before = state.x
        state, _ = kernel.step(f, state, rng, tuning, Isotropic(1.0))
        assert isinstance(state, Seen) and state.look is not None and len(seen_by.looks) == 1 + step
        share = float((state.x != before).any(-1).double().mean())
        assert 0.05 < share < 0.95  # both the moved and those that stayed are told apart below
        for carried, fresh in zip(state.look, seen_by.inner.look(state.x), strict=True):
            assert torch.allclose(carried, fresh, rtol=1e-12, atol=1e-150)
    assert Seen._replace(state, x=state.x + 1.0).look is None


@pytest.mark.parametrize("name", ["gmm40", "random_mixture"])
def test_the_gradient_of_a_target_in_blocks(name: str) -> None:
    target = targets.gmm40() if name == "gmm40" else targets.random_mixture(10, 10)
    x = target.sample(5000, torch.Generator().manual_seed(0)) * torch.linspace(0.5, 30.0, 5000, dtype=F)[:, None]
    leaf = x.clone().requires_grad_(True)
    value = target.log_density(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    got, grad = target.value_and_grad(x)
    torch.testing.assert_close(got, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_gradient_of_a_logistic_regression_in_blocks(scale: float) -> None:
    target = targets.logistic_regression()
    x = scale * torch.randn(600, target.dim, generator=torch.Generator().manual_seed(1), dtype=F)
    leaf = x.clone().requires_grad_(True)
    value = target.log_density(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    got, grad = target.value_and_grad(x)
    torch.testing.assert_close(got, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, slope, rtol=1e-11, atol=1e-9)
