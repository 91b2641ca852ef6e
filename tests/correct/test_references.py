"""Laws of the references: normalised, differentiated, drawn and moved as their formulas say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, StudentT

from rdmc.coordinates import Affine
from rdmc.correct import Law
from rdmc.correct.pooled import PooledLaw
from rdmc.mixture import GaussianMixture
from rdmc.student import StudentMixture
from tests.correct.cases import LAWS, META, RARE, OnLine, axes, core, moved, product, streams, student
from tests.laws.cases import F, generator
from tests.stats import assert_within

EACH = pytest.mark.parametrize("name", LAWS)
N, B, D = 7, 5, 3


def randn(*shape: int, seed: int = 1) -> Tensor:
    return 2.0 * torch.randn(*shape, generator=generator(seed), dtype=F)


@EACH
def test_mass_is_one_on_the_line_and_draws_have_the_law(name: str) -> None:
    law = LAWS[name](1)
    line = OnLine(law.log_prob, reach=1e6)
    assert line.mass == pytest.approx(1.0, abs=1e-6)  # type: ignore[attr-defined]
    line.assert_law_of(law.draw(streams(20_000))[0][:, 0], name)


@EACH
def test_mass_is_one_in_the_plane_and_draws_fill_its_cells(name: str) -> None:
    """Probabilities of 12 x 12 cells by quadrature, and of what is outside, against counts."""
    law = LAWS[name](2)
    u = torch.linspace(-9.0, 9.0, 901, dtype=F)
    wide = torch.stack(torch.meshgrid(u.sinh(), u.sinh(), indexing="ij"), -1)
    jacobian = u.cosh()[:, None] * u.cosh()[None, :]
    assert float((law.log_prob(wide).exp() * jacobian).sum()) * float(u[1] - u[0]) ** 2 == pytest.approx(1.0, abs=1e-4)
    cells, fine, reach = 12, 40, 4.0
    step = 2.0 * reach / (cells * fine)
    v = -reach + step * (torch.arange(cells * fine, dtype=F) + 0.5)
    height = law.log_prob(torch.stack(torch.meshgrid(v, v, indexing="ij"), -1)).exp() * step**2
    inside = height.view(cells, fine, cells, fine).sum((1, 3)).flatten()
    expected = torch.cat([inside, 1.0 - inside.sum()[None]])
    n = 40_000
    x = law.draw(streams(n))[0]
    place = ((x + reach) / (2.0 * reach) * cells).floor()
    out = ((place < 0) | (place >= cells)).any(-1)
    index = torch.where(out, cells**2, place[:, 0] * cells + place[:, 1]).long()
    count = torch.bincount(index, minlength=cells**2 + 1).double()
    few = n * expected < 10.0  # pooled, for the chi-square's sake
    count = torch.cat([count[~few], count[few].sum()[None]])
    expected = torch.cat([expected[~few], expected[few].sum()[None]])
    p = stats.chisquare(count.numpy(), (n * expected).numpy()).pvalue
    assert p > RARE, f"{name}: chi-square over {len(count)} cells has p = {p:.3g}"


def test_student_mixture_is_that_of_scipy() -> None:
    law, x = student(D), randn(N, B, D)
    covariance = torch.einsum("kij,kj,klj->kil", law.core.basis, law.core.variance, law.core.basis)
    each = [
        law.core.log_weight[k]
        + torch.as_tensor(stats.multivariate_t(law.core.mean[k].numpy(), covariance[k].numpy(), df=3).logpdf(x.numpy()))
        for k in range(3)
    ]
    torch.testing.assert_close(law.log_prob(x), torch.logsumexp(torch.stack(each), 0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.log_components(x), torch.stack(each, -1), rtol=1e-9, atol=1e-9)
    assert (law.components, law.dim) == (3, D)


def test_products_are_those_of_torch() -> None:
    x = randn(N, B, D)
    p = product(D)
    along = MixtureSameFamily(Categorical(logits=p.log_weight), Normal(p.mean, p.sd))
    exact = along.log_prob(p.affine.to_white(x)).sum(-1) - torch.linalg.slogdet(p.affine.factor)[1]
    torch.testing.assert_close(p.log_prob(x), exact, rtol=1e-10, atol=1e-10)
    a = axes(D)
    over = MixtureSameFamily(Categorical(logits=a.log_weight), Independent(StudentT(3.0, a.mean, a.scale), 1))
    exact = over.log_prob(a.affine.to_white(x)) - torch.linalg.slogdet(a.affine.factor)[1]
    torch.testing.assert_close(a.log_prob(x), exact, rtol=1e-10, atol=1e-10)


@EACH
def test_gradient_is_that_of_autograd(name: str) -> None:
    law, x = LAWS[name](D), randn(N, B, D).requires_grad_(True)
    value, grad = law.value_and_grad(x.detach())
    (auto,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    torch.testing.assert_close(grad, auto, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(value, law.log_prob(x.detach()), rtol=1e-12, atol=1e-12)


def image(law: Law, centre: Tensor, matrix: Tensor) -> Law:
    """The law of ``centre + matrix @ x``."""
    if isinstance(law, StudentMixture):
        inverse = torch.linalg.inv(matrix)
        return StudentMixture(law.core.affine(-inverse @ centre, matrix), law.df)
    own: Affine = law.affine  # type: ignore[attr-defined]
    return dataclasses.replace(law, affine=Affine(centre + matrix @ own.centre, matrix @ own.factor))  # type: ignore[type-var]


@pytest.mark.parametrize("name", [name for name in LAWS if name != "pooled"])  # nothing asks for a pool's image
def test_the_image_under_an_affine_map_is_such_a_law(name: str) -> None:
    law, x = LAWS[name](D), randn(N, D)
    centre, matrix = torch.tensor([10.0, -2.0, 0.5], dtype=F), torch.randn(D, D, generator=generator(8), dtype=F)
    other = image(law, centre, matrix)
    exact = law.log_prob(x) - torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(other.log_prob(centre + x @ matrix.T), exact, rtol=1e-8, atol=1e-8)
    if not isinstance(law, StudentMixture):  # whose eigenbases are those of the image
        drawn, again = (of.draw(streams(50))[0] for of in (law, other))
        torch.testing.assert_close(centre + drawn @ matrix.T, again, rtol=1e-8, atol=1e-8)


@EACH
def test_labels_have_the_weights_and_leads_are_independent(name: str) -> None:
    law, n = LAWS[name](2), 10_000
    x, label = law.draw(streams(n), (2,))
    assert x.shape == (2, n, 2)
    a, b = x.clamp(-5.0, 5.0) - x.clamp(-5.0, 5.0).mean(1, keepdim=True)
    assert_within((a * b).mean(0), 0.0, (a * b).std(0) / n**0.5, n, label="covariance of two leads")
    if isinstance(law, PooledLaw):
        weight = torch.tensor([0.5, 0.5], dtype=F).log()
    else:
        weight = law.core.log_weight if isinstance(law, StudentMixture) else law.log_weight  # type: ignore[attr-defined]
    share = torch.nn.functional.one_hot(label.flatten(0, 1)).double()
    assert_within(share.mean(0), weight.exp(), share.std(0) / (2 * n) ** 0.5, n, label="labels")


@EACH
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_and_device_are_kept(name: str, device: str, dtype: torch.dtype) -> None:
    law = moved(LAWS[name](D), dtype, device)
    x, _ = law.draw(streams(B, dtype=dtype, device=device), (N,))
    parts = (x, law.log_prob(x), *law.value_and_grad(x))
    assert [part.shape for part in parts] == [(N, B, D), (N, B), (N, B), (N, B, D)]
    assert {(part.dtype, part.device.type) for part in parts} == {(dtype, device)}


@EACH
def test_far_out_nothing_overflows(name: str) -> None:
    """At 1e12 widths the value is finite and the gradient points back."""
    law = LAWS[name](2)
    x = 1e12 * torch.tensor([[0.6, 0.8], [-0.6, 0.8]], dtype=F)
    value, grad = law.value_and_grad(x)
    assert bool(torch.isfinite(value).all() and torch.isfinite(grad).all() and ((grad * x).sum(-1) < 0).all())


@pytest.mark.parametrize("df", [0, -1, 2.0, True])
def test_degrees_of_freedom_are_a_positive_integer(df: object) -> None:
    with pytest.raises(ValueError, match="`df` must be an integer of at least 1"):
        StudentMixture(core(2), df)  # type: ignore[arg-type]


def test_pooling_is_the_mixture_of_mixtures() -> None:
    one, two, x = (
        core(2),
        GaussianMixture.isotropic(randn(2, 2), torch.ones(2, dtype=F), torch.ones(2, dtype=F)),
        randn(N, 2),
    )
    both = GaussianMixture.pooled([(0.3, one), (0.7, two)])
    exact = torch.logaddexp(math.log(0.3) + one.log_prob(x), math.log(0.7) + two.log_prob(x))
    torch.testing.assert_close(both.log_prob(x), exact, rtol=1e-10, atol=1e-10)


def test_widening_scales_every_component_about_its_mean() -> None:
    one = core(2)
    wide = one.widened(2.5)
    torch.testing.assert_close(wide.within(), 2.5**2 * one.within(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(wide.moments()[0], one.moments()[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_levelling_moves_weights_towards_their_roots(share: float) -> None:
    right = torch.tensor([0.2, 0.5, 0.3], dtype=F)
    weight = core(2).levelled(share).log_weight.exp()
    torch.testing.assert_close(weight, (1.0 - share) * right + share * right.sqrt() / right.sqrt().sum())


def test_meta_draws_have_no_values() -> None:
    """Negative control of the device tests: reading one back fails."""
    law = moved(student(2), F, META)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta|item"):
        law.log_prob(law.draw(streams(3, device=META))[0]).sum().item()
