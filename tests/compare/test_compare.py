"""Comparisons: the columns, the budget, the truth beside its floor, failures that stay failures, files, and the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import rdmc
from rdmc.baselines import AnnealedLangevin, LongChains
from rdmc.cli import app
from rdmc.comparison import COLUMNS, Comparison
from rdmc.errors import DensityError
from rdmc.kernels import MALA, ULA
from rdmc.locate.pilot import Pilot
from tests.compare.cases import PAIR, Exact, Failing, Interrupted, Watched, hidden
from tests.marks import slow

PILOT = Pilot(starts=16, rounds=3)
ULA_CHAINS = LongChains(ULA(0.1), pilot=PILOT)
REVERSE = rdmc.RDMC(pilot=PILOT)


def compare(samplers: Any, target: Any = PAIR, **options: Any) -> Comparison:
    options = {"budget": 40, "draws": 100, "progressbar": False, **options}
    return rdmc.compare(target, samplers, **options)


@pytest.fixture(scope="module")
def known() -> Comparison:
    """Exact draws, wrong weights, a wrong place, a failure, and a real sampler, three seeds."""
    samplers = {
        "exact": Exact(),
        "wrong": Exact(keep=0.3),
        "moved": Exact(shift=0.2),
        "fails": Failing(),
        "rdmc": REVERSE,
    }
    return compare(samplers, seeds=3)


def rows(comparison: Comparison) -> dict[str, dict[str, Any]]:
    return {row["sampler"]: row for row in comparison.table}


def test_the_table_has_the_columns_and_standard_errors(known: Comparison) -> None:
    assert isinstance(known.table, list)
    for row in known.table:
        assert set(COLUMNS) <= set(row)
        assert "rhat_se" in row
        assert "sliced_w2_floor_se" not in row
    found = rows(known)["rdmc"]
    runs = [run for run in known.measures if run["sampler"] == "rdmc"]
    values = torch.tensor([run["rhat"] for run in runs], dtype=torch.float64)
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert found["rhat"] == pytest.approx(float(values.mean()))
    assert found["rhat_se"] == pytest.approx(float(values.std()) / math.sqrt(3))
    result = known.results["rdmc"][0]
    cost = result.gradient_evaluations + 0.5 * result.density_evaluations
    assert runs[0]["evaluations"] == cost / 400
    assert runs[0]["ess_per_1000"] == pytest.approx(1000 * result.convergence.worst_ess / cost)
    assert runs[0]["problems"] == len(result.check())
    assert found["modes"] == 2


def test_exact_draws_are_at_the_floor_and_wrong_ones_are_not(known: Comparison) -> None:
    found = rows(known)
    for name, most in (("exact", 1.5), ("rdmc", 2.0)):
        assert found[name]["mode_tv"] < most * found[name]["mode_tv_floor"], found[name]
        assert found[name]["sliced_w2"] < most * found[name]["sliced_w2_floor"], found[name]
    wrong = found["wrong"]  # .3/3 of 1/3: a mode weight of .13 in place of .33
    assert wrong["mode_tv"] == pytest.approx(0.2, abs=0.04)
    assert wrong["mode_tv"] > 5.0 * wrong["mode_tv_floor"], wrong
    assert wrong["sliced_w2"] > 2.0 * wrong["sliced_w2_floor"], wrong
    assert found["exact"]["ksd"] < 1.3 * found["exact"]["ksd_floor"], found["exact"]
    assert wrong["ksd"] < 1.3 * wrong["ksd_floor"], wrong  # blind to weights, as documented
    assert found["moved"]["ksd"] > 2.0 * found["moved"]["ksd_floor"], found["moved"]
    assert found["moved"]["mode_tv"] < 1.5 * found["moved"]["mode_tv_floor"], found["moved"]
    assert set(known.ranking[:2]) == {"exact", "rdmc"}
    assert "fails" not in known.ranking


def test_floors_are_what_exact_draws_show(known: Comparison) -> None:
    row = rows(known)["exact"]
    weights = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    formula = float((weights * (1 - weights) / (2 * math.pi * 400)).sqrt().sum())
    assert row["mode_tv_floor"] == pytest.approx(formula, rel=0.2)
    assert row["sliced_w2_floor"] > 0


def test_a_failure_is_shown_as_one_and_costs_nobody_else(known: Comparison) -> None:
    row = rows(known)["fails"]
    assert row["status"] == "failed"
    assert row["first_problem"] == "RuntimeError: out of luck"
    assert row["rhat"] is None
    assert known.results["fails"] == ()
    assert all(len(known.results[name]) == 3 for name in ("exact", "wrong", "moved", "rdmc"))
    assert "out of luck" in known.to_markdown()


def test_without_ground_truth_agreement_ranks() -> None:
    found = compare({"wrong": Exact(keep=0.3), "rdmc": REVERSE}, hidden, dim=2)
    wrong, reverse = found.table
    assert (wrong["sliced_w2"], wrong["mode_tv"], wrong["mode_tv_floor"]) == (None, None, None)
    assert "sliced_w2" not in found.to_markdown()
    assert reverse["problems"] == 0
    assert reverse["agreement"] == pytest.approx(0.0, abs=1e-12)
    assert wrong["agreement"] == pytest.approx(0.2, abs=0.08)
    assert found.ranking == ("rdmc", "wrong")
    assert found.truth is None
    assert any("median mode weights of rdmc," in note for note in found.notes)


def test_notes_say_what_a_sampler_could_not_have_told() -> None:
    found = compare({"annealed": AnnealedLangevin(pilot=PILOT), "ula": ULA_CHAINS})
    said = [note for note in found.notes if "nothing in this sampler could have told" in note]
    assert [note.split(":")[0] for note in said] == ["annealed"]
    assert any("blind to their weights" in note for note in found.notes)
    assert rows(found)["ula"]["problems"] > 0
    found = compare({"right": Watched(), "wrong": Watched(keep=0.3)})
    said = [note for note in found.notes if "nothing in this sampler could have told" in note]
    assert [note.split(":")[0] for note in said] == ["wrong (seed 0)"]
    assert "no problem reported, yet" in said[0]


@pytest.mark.parametrize(("name", "budget"), [("rdmc", 60), *slow(("rdmc", 400), ("rdmc-published", 400), ("ula", 60))])
def test_the_budget_is_kept(name: str, budget: int) -> None:
    sampler = {"rdmc": REVERSE, "ula": ULA_CHAINS}.get(name, name)
    found = compare([sampler], budget=budget, draws=150, chains=2)
    survey = compare([replace(ULA_CHAINS, budget=1)], budget=1, draws=150, chains=2)  # what the pilot costs
    spent = found.table[0]["evaluations"] - survey.table[0]["evaluations"] * (name != "rdmc-published")
    assert 0.5 * budget < spent < 1.2 * budget, found.table[0]


def test_a_sampler_without_a_budget_is_left_and_named() -> None:
    found = compare([Exact(), Exact(keep=0.5), ULA_CHAINS, LongChains(MALA(), pilot=PILOT)], chains=2)
    assert found.samplers == ("exact", "exact-2", "longchains", "longchains-2")
    assert any(note.startswith("exact, exact-2: no budget to set") for note in found.notes)
    assert [found.results[name][0].sampler for name in found.samplers] == list(found.samplers)


def test_an_interrupt_keeps_what_is_there() -> None:
    samplers = {"exact": Exact(), "stops": Failing(error=KeyboardInterrupt), "late": Exact()}
    found = compare(samplers, seeds=2)
    assert [row["status"] for row in found.table] == ["ok", "not run", "not run"]
    assert found.ranking == ("exact",)
    assert any("interrupted" in note for note in found.notes)
    found = compare({"cut": Interrupted(), "late": Exact()})
    assert [row["status"] for row in found.table] == ["partial", "not run"]
    assert (found.results["cut"][0].chains, found.results["cut"][0].partial) == (1, True)
    assert "was interrupted" in found.table[0]["first_problem"]
    with pytest.raises(KeyboardInterrupt):
        compare({"stops": Failing(error=KeyboardInterrupt)})


def test_files_give_back_every_bit(known: Comparison, tmp_path: Path) -> None:
    path = known.save(tmp_path / "all.zip")
    again = Comparison.load(path)
    assert again.table == known.table
    assert again.measures == known.measures
    assert again.notes == known.notes
    assert again.settings == known.settings
    assert again.ranking == known.ranking
    assert list(again.results) == list(known.results)
    for name, runs in known.results.items():
        assert all(torch.equal(a.samples, b.samples) for a, b in zip(runs, again.results[name], strict=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.zip"]
    known.results["exact"][0].save(tmp_path / "one.npz")
    (tmp_path / "cut.zip").write_bytes(path.read_bytes()[:-100])
    for other in ("one.npz", "cut.zip"):
        with pytest.raises(ValueError, match=r"written by `Comparison\.save`"):
            Comparison.load(tmp_path / other)


def test_views(known: Comparison, tmp_path: Path) -> None:
    assert set(known.to_arviz(1)) == {"exact", "wrong", "moved", "rdmc"}
    assert "±" in known.to_markdown()
    assert repr(known) == "Comparison(4 of 5 samplers ran: exact, wrong, moved, fails, rdmc)"
    assert "exact" in str(known) and "<table>" in known._repr_html_()
    pytest.importorskip("matplotlib")
    known.plot(tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000
    pytest.importorskip("pandas")
    assert list(known.to_dataframe()["sampler"]) == list(known.samplers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samplers": ["ula", "nope"]}, "must be a sampler object or one of .*, got 'nope'"),
        ({"samplers": "ula"}, "`samplers` must be a list .*, got 'ula'"),
        ({"samplers": []}, "`samplers` must be a list .*, got"),
        ({"samplers": [3]}, "`samplers` must hold names .*, got 3"),
        ({"budget": 0}, "`budget` must be a positive number .*, got 0"),
        ({"budget": True}, "`budget` must be a positive number .*, got True"),
        ({"seeds": 0}, "`seeds` must be an integer of at least 1, got 0"),
        ({"draws": 2.5}, "`draws` must be an integer of at least 1, got 2.5"),
        ({"target": hidden}, "`dim` is required"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rdmc.compare(**{"target": PAIR, "samplers": ["ula"], **options})


def test_a_density_is_checked_once_and_may_be_per_point() -> None:
    found = compare(["rdmc"], lambda x: -0.5 * (x * x).sum(), dim=2, draws=20)
    assert found.table[0]["status"] == "ok"
    with pytest.raises(DensityError):
        compare(["rdmc", "ula"], lambda x: x, dim=2)


def test_draws_that_ran_away_are_numbers_or_nothing() -> None:
    found = compare({"away": Exact(shift=1e200), "nan": Exact(shift=math.nan), "alone": Exact()}, seeds=2, chains=1)
    away, nan, alone = found.table
    assert alone["rhat"] is None
    assert nan["problems"] > 0 and nan["mode_tv"] is None
    assert away["status"] == "ok" or away["first_problem"]
    found.to_markdown()


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])


def test_command_line(tmp_path: Path) -> None:
    names = ["table.md", "figure.png", "all.zip"] if pytest.importorskip("matplotlib") else []
    outs = [part for name in names for part in ("--out", tmp_path / name)]
    sizes = ("--budget", 20, "--draws", 20, "--chains", 2, "--no-progress")
    done = run("targets:two_modes", "--samplers", "ula,rdmc", *sizes, *outs)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("| sampler |")
    assert (tmp_path / "table.md").read_text() == done.stdout
    assert Comparison.load(tmp_path / "all.zip").samplers == ("ula", "rdmc")
    assert done.stderr.count("Written to") == 3
    done = run("targets:two_modes", "--samplers", "ula", *sizes, "--json")
    report = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["sampler"] for row in report["table"]] == ["ula"]
    assert report["settings"]["budget"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["targets:two_modes", "--out", "x.csv"], "--out must end in .md"),
        (["targets:two_modes", "--samplers", "nope"], "got 'nope'"),
        (["targets:two_modes", "--budget", "-1"], "`budget` must be a positive number"),
        (["targets:nope"], "no attribute 'nope'"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
