"""A compiled density is the same density: values, gradients, edges, counts; and it never stops a run."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import rdmc
import targets
from rdmc.compiling import Fused, chosen, compiled, worthwhile
from rdmc.density import Density
from tests.compiling.cases import CASES, Shifted, branching, points

LOGIC = "aot_eager"  # captures and derives as the real one does, and leaves the kernels to eager torch
ROOT = Path(__file__).resolve().parents[2]


def graphs() -> int:
    """Compilations so far in this process."""
    return int(counters["stats"]["unique_graphs"])


def require_same(density: Density, fused: Density, x: Tensor, tolerance: float) -> None:
    """Value, and value with gradient, are those of the eager density; what is not finite is the same exactly."""
    value, grad = density.value_and_grad(x)
    again, slope = fused.value_and_grad(x)
    for name, a, b in (("value", value, again), ("alone", density(x), fused(x)), ("gradient", grad, slope)):
        finite = torch.isfinite(a)
        assert a.dtype == b.dtype and a.shape == b.shape
        assert torch.equal(a[~finite].nan_to_num(7.0), b[~finite].nan_to_num(7.0)), f"{name}: not finite elsewhere"
        size = float(a[finite].abs().max())
        off = float((a[finite] - b[finite]).abs().max()) / max(1.0, size)
        assert off < tolerance, f"{name}: off by {off:.2e} of {size:.2e}, wanted {tolerance:.0e}"


@pytest.mark.parametrize("name", ["mixture derived", "edge", "unguarded", "one point"])
def test_same_density(name: str) -> None:
    density = CASES[name]()
    fused = compiled(density, LOGIC)
    require_same(density, fused, points(500, density.dim), 1e-12)
    require_same(density, fused, points(12, density.dim).view(3, 4, density.dim), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_same_density_in_real_kernels(name: str) -> None:
    density = CASES[name]()
    fused = compiled(density)
    before = graphs()
    for n in (2, 3, 500, 4096):
        require_same(density, fused, points(n, density.dim), 1e-12)
    assert graphs() - before == 2  # the value, and the value with its gradient


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixture derived", "edge", "one point"])
def test_same_density_in_single_precision(name: str) -> None:
    density = CASES[name]()
    low = Density(density.log_density, density.dim, dtype=torch.float32)
    if name == "mixture derived":
        low = Density(mixture_in_float32(), 2, dtype=torch.float32)
    require_same(low, compiled(low), points(500, density.dim, torch.float32), 1e-5)


def mixture_in_float32() -> Callable[[Tensor], Tensor]:
    return targets.gmm40().to(dtype=torch.float32).log_density


def test_edge_is_exact() -> None:
    density = CASES["edge"]()
    fused = compiled(density, LOGIC)
    x = torch.tensor([[-1.0, 0.3], [-5.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    value, grad = fused.value_and_grad(x)
    assert value[:2].tolist() == [-torch.inf, -torch.inf]
    assert grad[:2].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert bool(grad[2].abs().min() > 0)


def test_few_rows() -> None:
    density = Density(lambda x: -0.5 * x.square().sum(-1), 3)
    fused = compiled(density, LOGIC)
    for n in (0, 1):
        value, grad = fused.value_and_grad(points(n, 3))
        assert value.shape == (n,) and grad.shape == (n, 3)
        assert torch.equal(grad, -points(n, 3))


def test_any_number_of_rows_is_one_program() -> None:
    fused = compiled(Density(lambda x: -0.5 * x.square().sum(-1) - x[:, 0].exp(), 3), LOGIC)
    before = graphs()
    for n in (7, 2, 1021, 3, 4096, 5, 1000):
        fused.value_and_grad(points(n, 3))
        fused.value_and_grad(points(n, 6)[:, ::2])  # not contiguous
    assert graphs() - before == 1
    fused(points(7, 3))
    assert graphs() - before == 2


@pytest.mark.parametrize("sampler", ["auto", "rdmc"])
def test_whole_run_compiles_twice(sampler: str) -> None:
    density = Density(lambda x: -(x.abs() - 3.0).square().sum(-1), 2)
    before = graphs()
    options: dict[str, Any] = {"draws": 40, "chains": 2, "seed": 3, "sampler": sampler, "progressbar": False}
    first = rdmc.sample(compiled(density, LOGIC), **options)
    assert 1 <= graphs() - before <= 2, "value, and value with gradient"
    again = rdmc.sample(compiled(density, LOGIC), **options)
    assert graphs() - before <= 2, "a second run finds what the first compiled"
    assert torch.equal(first.samples, again.samples)
    assert (first.gradient_evaluations, first.density_evaluations) == (
        again.gradient_evaluations,
        again.density_evaluations,
    )


@pytest.mark.slow
def test_bits_depend_on_nothing_evaluated_before() -> None:
    def probe(first: int) -> Tensor:
        def log_density(x: Tensor) -> Tensor:
            return torch.logsumexp(-(x[:, None, :] - torch.arange(6.0).to(x)[:, None]).square().sum(-1), 1)

        fused = compiled(Density(log_density, 3))
        fused.value_and_grad(points(first, 3))
        return fused.value_and_grad(points(1000, 3))[1]

    assert torch.equal(probe(3), probe(5000))


def test_counts_are_shared() -> None:
    density = Density(lambda x: -0.5 * x.square().sum(-1), 3)
    fused = compiled(density, LOGIC)
    fused.value_and_grad(points(9, 3))
    fused(points(5, 3))
    assert fused.counter is density.counter
    assert (density.counter.gradients, density.counter.densities) == (9, 5)


def test_uncapturable_density_runs_as_it_is() -> None:
    density = Density(branching, 3)
    fused = compiled(density, LOGIC)
    x = points(20, 3)
    with pytest.warns(RuntimeWarning, match=r"runs without torch.compile.*branching.*[Dd]ata.dependent") as caught:
        got = fused.value_and_grad(x)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused(x)
        compiled(density, LOGIC).value_and_grad(x)
    wanted = density.value_and_grad(x)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_error_of_the_density_is_its_own() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        compiled(Density(broken, 3), LOGIC).value_and_grad(points(4, 3))


def test_wrong_program_is_refused() -> None:
    def wrong(graph: Any, inputs: Any) -> Callable[..., Any]:
        return lambda *args: tuple(part + 1e-3 for part in graph(*args))

    density = Density(lambda x: -0.5 * x.square().sum(-1), 3)
    with pytest.warns(RuntimeWarning, match=r"compiled value differs from the eager one in 1021 of 1021 entries"):
        value = compiled(density, wrong)(points(4, 3))
    assert torch.equal(value, density(points(4, 3)))


def test_program_lives_with_its_callable() -> None:
    model = Shifted()
    before = graphs()
    for _ in range(3):
        compiled(Density(model.log_density, 2), LOGIC).value_and_grad(points(9, 2))
    assert graphs() - before == 1
    compiled(Density(Shifted(0.25).log_density, 2), LOGIC).value_and_grad(points(9, 2))
    assert graphs() - before == 2, "another object is another density, equal fields or not"
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None, "what was compiled must not keep the density alive"


@pytest.mark.slow
def test_many_densities_of_one_kind() -> None:
    before = graphs()
    for k in range(12):  # more than torch compiles of one code object
        density = Density(Shifted(0.1 * k).log_density, 2)
        value, _ = compiled(density, LOGIC).value_and_grad(points(9, 2))
        torch.testing.assert_close(value, density(points(9, 2)), rtol=1e-12, atol=1e-12)
    assert graphs() - before == 12


def test_compiled_once() -> None:
    density = compiled(Density(Shifted().log_density, 2), LOGIC)
    assert compiled(density) is density
    assert compiled(Density(Shifted().log_density, 2)).log_density.__reduce__()[0] is Fused


def test_packs_without_its_program() -> None:
    density = compiled(Density(Shifted().log_density, 2), LOGIC)
    here = density.value_and_grad(points(9, 2))[1]
    again = pickle.loads(pickle.dumps(density))
    before = graphs()
    assert torch.equal(again.value_and_grad(points(9, 2))[1], here)
    assert graphs() - before == 1, "compiled anew where it arrived"


@pytest.mark.slow
def test_travels_without_its_program() -> None:
    density = compiled(Density(Shifted().log_density, 2), LOGIC)
    here = density.value_and_grad(points(9, 2))[1]
    packed = pickle.dumps(density)
    assert len(packed) < 4000
    code = (
        "import pickle, sys, torch; from tests.compiling.cases import points; from torch._dynamo.utils import counters; "
        "density = pickle.loads(bytes.fromhex(sys.stdin.read())); "
        "grad = density.value_and_grad(points(9, 2))[1]; print(counters['stats']['unique_graphs'], grad.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=packed.hex(), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == f"1 {here.tolist()}"


def test_meta_device() -> None:
    density = Density(lambda x: -x.square().sum(-1), 2, device=torch.device("meta"))
    before = graphs()
    value, grad = compiled(density, LOGIC).value_and_grad(torch.empty(5, 2, dtype=torch.float64, device="meta"))
    assert value.shape == (5,) and grad.shape == (5, 2) and graphs() == before


@pytest.mark.parametrize("backend", [LOGIC, pytest.param("inductor", marks=pytest.mark.slow)])
def test_global_state_is_left(backend: str) -> None:
    def state() -> tuple[Any, ...]:
        tiny = torch.tensor(1e-310, dtype=torch.float64)  # 0 where a compiled library has set flush-to-zero
        return (
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            float(tiny * 1.0),
        )

    before = state()
    density = Density(lambda x: -x.square().sum(-1).exp(), 2)
    compiled(density, backend).value_and_grad(points(100, 2))
    assert state() == before
    x = points(100, 2)
    compiled(density, backend).value_and_grad(x)
    assert not vars(x), "the mark of a batch must stay off the caller's tensor"


def test_what_auto_does() -> None:
    density, x = Density(lambda x: -x.square().sum(-1), 2), points(3, 2)
    assert chosen(density, False, 10**12, x) is density
    assert isinstance(chosen(density, True, 1, x).gradient, Fused)
    assert chosen(density, "auto", 10_000, x) is density
    assert density.counter.gradients == 0
    assert isinstance(chosen(density, "auto", 10**12, x).gradient, Fused)
    with pytest.raises(ValueError, match="`compile` must be True, False or \"auto\", got 'always'"):
        chosen(density, "always", 1, x)


def test_worthwhile_grows_with_the_work() -> None:
    assert not worthwhile(10**6) and worthwhile(10**9)
    assert worthwhile(10**7, "cpu", 1e5) and not worthwhile(10**7, "cpu", 1e3)
    assert not worthwhile(10**12, "cuda")
