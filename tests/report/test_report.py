"""The report: one well-formed page for every kind of result, which claims no more than is known and fetches nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import rdmc
from rdmc.cli import app
from rdmc.comparison import COLUMNS, Comparison
from rdmc.reporting.coordinates import choose, separation
from rdmc.reporting.draws import rank_counts
from rdmc.reporting.page import report
from rdmc.reporting.reproduce import code_section
from rdmc.reporting.subject import subject_of
from rdmc.result import Result
from rdmc.table import Table
from tests.report.pages import Page, read
from tests.result.cases import good, inner

pytest.importorskip("jinja2")
matplotlib = pytest.importorskip("matplotlib")

HEADINGS = [
    *("Modes", "Draws", "Ranks over populations", "Weights by population", "Evidence", "Course of the run"),
    *("All warnings", "Code to reproduce it"),
]
HOSTILE = "<script>alert('a')</script> $x_1$ \x07 \ud800 `"


def two_modes(x: torch.Tensor) -> torch.Tensor:
    return torch.logaddexp(-0.5 * (x - 3).square().sum(-1), -0.5 * (x + 3).square().sum(-1))


def page_of(source: Any, folder: Path) -> Page:
    return read(report(source, folder / "page.html").read_text(encoding="utf-8"))


def bare(chains: int = 4, draws: int = 40, dim: int = 1, **changes: Any) -> Result:
    samples = torch.randn(chains, draws, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Result(**({"samples": samples, "log_density": samples[..., 0]} | changes))


def comparison_of(results: dict[str, Result], **rows: dict[str, Any]) -> Comparison:
    measures = []
    for name in [*results, *rows]:
        row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"sampler": name, "seed": 0, "status": "ok"}
        if name in results:
            problems = results[name].check()
            row |= {"problems": len(problems), "first_problem": problems[0] if problems else None, "rhat": 1.01}
            row |= {"log_evidence": results[name].log_evidence, "log_evidence_mcse": 0.1}
        measures.append(row | rows.get(name, {}))
    settings = {"target": "pair", "dim": 2, "budget": 100, "draws": 40, "chains": 4, "seed": 0, "seeds": 1}
    return Comparison(
        measures=Table.from_rows(measures),
        results={name: (result,) for name, result in results.items()} | dict.fromkeys(rows, ()),
        notes=("A note with <b>markup</b> and `code`.",),
        settings=settings,
    )


@pytest.fixture(scope="module")
def real() -> Result:
    return rdmc.sample(two_modes, dim=2, draws=60, chains=4, seed=1, progressbar=False)


@pytest.fixture(scope="module")
def written(real: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return rdmc.report(real.save(folder / "run.npz"), folder / "report.html")


def test_a_real_run_has_every_part_in_order(real: Result, written: Path) -> None:
    page = read(written.read_text(encoding="utf-8"))
    places = [page.text.rindex(f" {heading} ") for heading in HEADINGS]
    assert places == sorted(places)
    assert page.text.index("Seed 1 ") < page.text.index("No known problem") < places[0]
    assert "File written 20" in page.text
    assert "cannot be seen from the draws" in page.text
    assert real.config in page.text
    assert len(page.all("svg")) == 3 + 2 + 1 + 3  # marginals and pair, ranks, weights, course
    assert any("modes marked" in str(svg["aria-label"]) for svg in page.all("svg"))
    assert written.stat().st_size < 1_000_000


def test_pages_are_the_same_each_time_and_leave_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first, second = (report(bare(), tmp_path / name).read_text(encoding="utf-8") for name in ("a.html", "b.html"))
    assert first.partition("<footer>")[0] == second.partition("<footer>")[0]
    assert dict(matplotlib.rcParams) == before


def test_a_bare_result_in_one_dimension_says_what_is_not_known(tmp_path: Path) -> None:
    page = page_of(bare(), tmp_path)
    assert "no mode table, so mode weights were not checked" in page.text
    assert "no diagnostics by level, so inner chains were not checked" in page.text
    assert "This run has no estimate of the evidence." in page.text
    assert "Seed not recorded" in page.text
    assert "Time not recorded" in page.text
    assert not any("Draws in" in str(svg["aria-label"]) for svg in page.all("svg"))


@pytest.mark.parametrize(
    "samples",
    [torch.full((2, 20, 2), float("nan")), torch.ones(1, 1, 2), torch.tensor([1e300, -1e300]).double().repeat(2, 9, 1)],
    ids=["nan", "one draw", "huge"],
)
def test_odd_draws_have_a_page(samples: torch.Tensor, tmp_path: Path) -> None:
    page = page_of(bare(samples=samples, log_density=torch.zeros(samples.shape[:2])), tmp_path)
    assert "known problem" in page.text
    assert "No known problem" not in page.text


def test_problems_and_an_interruption_come_first(tmp_path: Path) -> None:
    result = good(draws=60, partial=True, inner=inner() | {"nonfinite": np.ones((4, 5))})
    stuck = replace(result, samples=result.samples + torch.arange(4.0).reshape(4, 1, 1))
    problems = stuck.check()
    page = page_of(stuck, tmp_path)
    assert len(problems) > 3
    verdict, _, rest = page.text.partition(" Modes ")
    assert f"{len(problems)} known problems" in verdict
    assert "No known problem" not in page.text
    assert verdict.count("The run was interrupted") == 1
    assert f"and {len(problems) - 3} more" in verdict
    assert all(problem.split("`")[0] in rest for problem in problems)
    assert "0.250 ± 0.010" in page.text  # the evidence and its error


def test_many_coordinates_are_chosen_and_named(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(0, 2, (4, 200), generator=generator)
    samples = torch.randn(4, 200, 100, generator=generator, dtype=torch.float64)
    samples[..., 7] += 8.0 * label
    samples[0, :, 31] += 1.5
    places = [samples[label == k][0].tolist() for k in (0, 1)]
    modes = Table({"location": places, "weight": [0.5, 0.5], "weight_mcse": [0.02, 0.02]})
    result = bare(samples=samples, log_density=samples[..., 0], modes=modes)
    assert int(separation(result).argmax()) == 7
    choice = choose(result)
    assert choice.indices[:2] == (31, 7)
    assert "x[31]: the highest R-hat" in choice.reason
    assert "x[7]: where modes lie furthest apart" in choice.reason
    page = page_of(result, tmp_path)
    assert "Shown are 5 of 100 coordinates" in page.text
    assert "in 3 of its 100 coordinates" in page.text
    assert (tmp_path / "page.html").stat().st_size < 3_000_000


def test_foreign_text_is_only_text(tmp_path: Path) -> None:
    modes = Table({"location": [[0.0, 1.0]], "weight": [1.0], "weight_mcse": [0.0], "weight_by_chain": [[1.0, 1.0]]})
    names = (HOSTILE, "weight")
    result = bare(2, 20, 2, sampler=HOSTILE, config=f"X(a={HOSTILE!r})", names=names, modes=modes)
    path = report(
        comparison_of({HOSTILE: result}, **{"</style>": {"status": "failed", "first_problem": HOSTILE}}),
        tmp_path / "a.html",
    )
    for text in (path.read_text(encoding="utf-8"), report(result, path).read_text(encoding="utf-8")):
        page = read(text)  # which refuses script elements and handlers
        assert "<script>alert('a')</script> $x_1$" in page.text
        assert "x_1" in text


def test_a_comparison(real: Result, tmp_path: Path) -> None:
    problem = bare(
        4,
        40,
        2,
        samples=real.samples[:, :40] + torch.arange(4.0).reshape(4, 1, 1),
        log_density=real.log_density[:, :40],
    )
    results = {"rdmc": replace(real, log_evidence=1.0), "far": replace(problem, log_evidence=1.5)}
    found = comparison_of(
        results, lost={"status": "failed", "first_problem": "RuntimeError: no memory", "problems": None}
    )
    page = page_of(found.save(tmp_path / "c.zip"), tmp_path)
    assert "1 of 3 samplers without a known problem" in page.text
    assert "Without a known problem: rdmc." in page.text
    assert "RuntimeError: no memory" in page.text
    assert "A note with <b>markup</b> and code ." in page.text
    assert page.text.index("Comparison One row") < page.text.rindex(" Modes ")
    assert any("Log evidence: rdmc 1.00 ± 0.10; far" in str(svg["aria-label"]) for svg in page.all("svg"))
    assert "rdmc.compare(" in page.text
    nothing = page_of(comparison_of({}, lost={"status": "not run", "first_problem": "needs jax"}), tmp_path)
    assert "0 of 1 samplers" in nothing.text
    assert not nothing.all("svg")


def test_stages_are_shown_where_there_are_any(tmp_path: Path) -> None:
    result = bare()
    object.__setattr__(result, "stages", Table({"stage": ["ascents"], "found": [3], "gradients": [12345]}))
    assert (
        "Stages Stages: what each found and what it cost. stage found gradients ascents 3 12,345"
        in page_of(result, tmp_path).text
    )


@pytest.mark.parametrize("sampler", ["auto", "hmc", rdmc.RDMC(), rdmc.RDMC.published(), "parallel-tempering"])
def test_the_code_builds_the_same_sampler(sampler: Any) -> None:
    own = rdmc.SAMPLERS[sampler]() if isinstance(sampler, str) else sampler
    name = sampler if isinstance(sampler, str) else "own"
    result = bare(dim=3, sampler=name, config=repr(own), seed=5, names=("a", "b", "c"))
    code = code_section(subject_of(result)).code
    seen: dict[str, Any] = {}
    fake = ModuleType("rdmc")
    fake.sample = lambda log_density, **options: seen.update(options) or result  # type: ignore[attr-defined]
    exec(compile(code.replace("import rdmc\n", "\n"), "code", "exec"), {"rdmc": fake, "print": len})
    built = rdmc.SAMPLERS[seen["sampler"]]() if isinstance(seen["sampler"], str) else seen["sampler"]
    assert repr(built) == repr(own)
    assert (seen["dim"], seen["draws"], seen["chains"], seen["seed"], seen["names"]) == (3, 40, 4, 5, ["a", "b", "c"])


def test_code_of_a_strange_sampler_is_still_python() -> None:
    for config in ("", "os.system('x')", "Mine(1)", "(" * 300, "x\ny"):
        compile(code_section(subject_of(bare(sampler="mi\nne", config=config))).code, "code", "exec")


def test_ranks_of_equal_populations_are_even() -> None:
    counts, edges = rank_counts(np.arange(400.0).reshape(100, 4).T, 10)
    assert counts.tolist() == [[10.0] * 10] * 4
    assert (edges[0], edges[-1]) == (0.0, 1.0)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, x=np.ones(3))
    plain = tmp_path / "plain.txt"
    plain.write_text("hello")
    for path in (other, plain):
        with pytest.raises(ValueError, match=r"written by `Result.save` .* neither"):
            report(path, tmp_path / "a.html")
    damaged = bare().save(tmp_path / "run.npz")
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"run\.npz"):
        report(damaged, tmp_path / "a.html")
    with pytest.raises(ValueError, match="must be a Result, a Comparison or the path of one, got int"):
        report(3, tmp_path / "a.html")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        report(tmp_path / "absent.npz", tmp_path / "a.html")
    with pytest.raises(ValueError, match="existing folder"):
        report(bare(), tmp_path / "no" / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs jinja2: pip install 'rdmc\[report\]'"):
        report(bare(), tmp_path / "a.html")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bare().save("run.npz")
    Path("wrong.npz").write_text("no")
    done = CliRunner().invoke(app, ["report", "run.npz"])
    assert done.exit_code == 0, done.output
    assert "Written to report.html" in done.stderr
    assert "known problem" in read(Path("report.html").read_text(encoding="utf-8")).text
    for arguments, message in (
        (["absent.npz"], "no file 'absent.npz'"),
        (["wrong.npz"], "is neither"),
        (["run.npz", "--out", "a.pdf"], "--out must end in .html"),
        (["run.npz", "--out", "no/a.html"], "existing folder"),
    ):
        done = CliRunner().invoke(app, ["report", *arguments])
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("rdmc: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr


def test_a_browser_opens_it_without_a_complaint(written: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on PATH")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={tmp_path}", "--window-size=375,800", written.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not answer here")
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert "</footer>" in done.stdout
    assert done.stdout.count("<svg") == written.read_text(encoding="utf-8").count("<svg")
