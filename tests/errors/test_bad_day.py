"""A practitioner's bad day: every row of the table is refused with its message, told by ``check()``, or right all the same."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import torch
from torch import Tensor

import rdmc
from rdmc.density import Density
from rdmc.errors import SamplingWarningError
from tests.errors import bad_arguments, bad_callables, bad_geometry, bad_values
from tests.errors.bad_callables import FIXED
from tests.errors.bad_day import Holds, Refused, Told, normal, run
from tests.stats import assert_within

REFUSED = [*bad_callables.REFUSED, *bad_values.REFUSED, *bad_geometry.REFUSED, *bad_arguments.REFUSED]
HOLDS = [*bad_callables.HOLDS, *bad_values.HOLDS, *bad_geometry.HOLDS]
TOLD = [*bad_values.TOLD, *bad_geometry.TOLD]


def rows(table: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else []) for case in table]


def test_no_two_rows_are_the_same() -> None:
    names = [case.name for case in (*REFUSED, *HOLDS, *TOLD)]
    assert len(names) == len(set(names)) >= 100


@pytest.mark.parametrize("case", rows(REFUSED))
def test_refused(case: Refused) -> None:
    begin = time.perf_counter()
    with pytest.raises(case.error, match=re.compile(case.message, re.DOTALL)) as caught:
        run(case.make(), case.dim, **case.options())
    assert type(caught.value) is case.error, f"wanted {case.error.__name__}, got {type(caught.value).__name__}"
    assert len(str(caught.value)) < 800
    assert time.perf_counter() - begin < 20.0


@pytest.mark.parametrize("case", rows(HOLDS))
def test_holds(case: Holds) -> None:
    """Half the draws count as independent: resampling leaves some copies."""
    result = run(case.make(), case.dim, **{"draws": 250, **case.options})
    x = result.samples.flatten(0, 1).double()
    n = 0.5 * len(x)
    assert not x.requires_grad and result.samples.is_leaf and not result.log_density.requires_grad
    assert FIXED.grad is None
    for label, (function, truth) in case.statistics.items():
        values = function(x)
        assert_within(values.mean(), truth, values.std() / n**0.5, n, label=f"{case.name}: {label}")
    if case.log_z is not None:
        assert result.log_evidence is not None and result.log_evidence_mcse is not None
        assert_within(
            result.log_evidence, case.log_z, result.log_evidence_mcse, allowance=0.02, label=f"{case.name}: evidence"
        )
    problems = result.check()
    if case.told is None:
        assert not problems
    else:
        assert any(re.search(case.told, problem) for problem in problems), problems


@pytest.mark.parametrize("case", rows(TOLD))
def test_told(case: Told) -> None:
    problems = run(case.make(), case.dim, **case.options).check()
    assert any(re.search(case.told, problem) for problem in problems), problems


@pytest.mark.parametrize(("name", "build"), bad_arguments.OBJECTS)
def test_objects_name_their_bad_arguments(name: str, build: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}`.* must be .*, got "):
        build()


@pytest.mark.parametrize("options", bad_arguments.ACCEPTED, ids=str)
def test_unusual_and_right(options: dict[str, Any]) -> None:
    result = run(normal, **options)
    plain = run(
        normal, **{key: value if key in ("dtype", "device", "names") else int(value) for key, value in options.items()}
    )
    assert torch.equal(result.samples, plain.samples)
    assert isinstance(result.seed, int) and type(result.chains) is int


def test_what_a_density_does_to_its_input_stays_with_it() -> None:
    """Its own view may ask for a gradient; the particles must not."""
    x = torch.zeros(3, 2, dtype=torch.float64)
    density = Density(bad_callables.asks_for_a_gradient, 2)
    assert not density(x).requires_grad and not x.requires_grad
    value, grad = density.value_and_grad(x)
    assert not (value.requires_grad or grad.requires_grad or x.requires_grad) and x.grad is None
    value, grad = Density(normal, 2, bad_callables.Attached().value_and_grad).value_and_grad(x)
    assert not value.requires_grad and not grad.requires_grad


def after(calls: int, error: BaseException) -> Any:
    """A density that raises at a call and ever after."""
    seen = [0]

    def f(x: Tensor) -> Tensor:
        seen[0] += 1
        if seen[0] > calls:
            raise error
        return normal(x)

    f.seen = seen  # type: ignore[attr-defined]
    return f


def test_an_exception_of_the_density_comes_through_with_a_note() -> None:
    error = KeyError("no such column")
    with pytest.raises(KeyError) as caught:
        run(after(60, error))
    assert caught.value is error
    assert any(re.search(r"for x of shape \(\d+, 2\), evaluations so far: Counter", note) for note in error.__notes__)


def plain_cholesky(x: Tensor) -> Tensor:
    """A Gaussian process of two points with the length scale e^x0, whose matrix is singular where that is large."""
    apart = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=x.dtype)
    return normal(x) - torch.linalg.cholesky((-apart * (-x[:, :1, None]).exp()).exp() - 1e-9)[:, 1, 1].square()


def plain_scale(x: Tensor) -> Tensor:
    """A normal law whose scale, a softplus of the second coordinate, underflows to 0."""
    scale = torch.nn.functional.softplus(40.0 * x[:, 1] + 60.0)
    return normal(x) + torch.distributions.Normal(0.0, scale).log_prob(0.1 * scale.detach())


class AsAdvised:
    """The same two as the note says to write them."""

    @staticmethod
    def cholesky(x: Tensor) -> Tensor:
        """NaN where the matrix is not positive definite."""
        apart = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=x.dtype)
        factor, info = torch.linalg.cholesky_ex((-apart * (-x[:, :1, None]).exp()).exp() - 1e-9)
        return torch.where(info > 0, torch.nan, normal(x) - factor[:, 1, 1].square())

    @staticmethod
    def scale(x: Tensor) -> Tensor:
        """Whatever the formula gives."""
        scale = torch.nn.functional.softplus(40.0 * x[:, 1] + 60.0)
        return normal(x) + torch.distributions.Normal(0.0, scale, validate_args=False).log_prob(0.1 * scale.detach())


@pytest.mark.parametrize(
    ("f", "kind", "remedy", "mended"),
    [
        (
            plain_cholesky,
            torch.linalg.LinAlgError,
            r"cholesky_ex\(K\)` and give NaN where `info > 0`",
            AsAdvised.cholesky,
        ),
        (plain_scale, ValueError, "pass `validate_args=False`", AsAdvised.scale),
    ],
    ids=["an indefinite matrix", "a scale of 0"],
)
def test_where_a_density_raises_far_out_a_note_says_what_to_write(f: Any, kind: Any, remedy: str, mended: Any) -> None:
    with pytest.raises(kind) as caught:
        run(f)
    note = "\n".join(caught.value.__notes__)
    assert re.search(remedy, note), note
    found = re.search(
        r"values at (\d+) points before; among these are some with a coordinate as large as (\S+)\. A", note
    )
    assert found and int(found[1]) > 0 and float(found[2]) > 1.0, note
    x = torch.tensor([[0.1, 0.2], [-0.3, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(mended(x), f(x))
    assert bool(torch.isfinite(run(mended).samples).all())  # control: what the note says does work


@pytest.mark.parametrize("error", [KeyError("no such column"), NotImplementedError("not yet")], ids=repr)
def test_other_exceptions_get_no_such_note(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run(after(60, error))
    assert len(caught.value.__notes__) == 1, caught.value.__notes__


def whole_run() -> int:
    """Calls of an undisturbed run of four chains."""
    counting = after(10**9, KeyError())
    run(counting)
    return int(counting.seen[0])


def test_an_exception_late_in_the_run_keeps_what_was_done() -> None:
    error = KeyError("no such column")
    with pytest.raises(KeyError) as caught:
        run(after(whole_run() - 10, error))
    assert caught.value is error
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert isinstance(partial, rdmc.Result) and partial.partial and 0 < partial.chains < 4


def test_ctrl_c_before_the_first_population_is_raised_again() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(after(60, KeyboardInterrupt()))


class Once:
    """Ctrl-C at one call; the density works again after."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return normal(x)


def test_ctrl_c_during_the_populations_gives_what_is_there() -> None:
    whole = run(normal)
    part = run(Once(whole_run() - 12))
    assert part.partial and 0 < part.chains <= 4
    assert torch.equal(part.samples[0], whole.samples[0])
    assert any("The run was interrupted" in problem for problem in part.check())


class Broken:
    """A terminal that went away."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")

    def flush(self) -> None:
        raise ValueError("I/O operation on closed file")


def test_a_closed_terminal_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = run(normal)
    monkeypatch.setattr("sys.stderr", Broken())
    assert torch.equal(run(normal, progressbar=True).samples, quiet.samples)


def test_strict_raises_with_the_result_when_the_problem_is_in_the_density() -> None:
    case = next(case for case in HOLDS if case.name == "NaN in slots of 5 %")
    with pytest.raises(SamplingWarningError, match=r"the run finished, but: .*NaN or \+inf") as caught:
        run(case.make(), strict=True)
    result = caught.value.result
    assert isinstance(result, rdmc.Result) and torch.equal(result.samples, run(case.make()).samples)


def test_strict_is_silent_on_a_good_day() -> None:
    assert not run(normal, strict=True).check()
