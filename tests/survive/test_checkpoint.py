"""A run that is cut off anywhere and called again ends as if it had not been; a file that is not its own is left alone."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import rdmc
import rdmc.journal
from rdmc.baselines import AnnealedLangevin, LongChains, ParallelTempering
from rdmc.checkpoint import Checkpoint
from rdmc.errors import CheckpointError
from rdmc.kernels import MALA
from tests.marks import slow
from tests.quick import QUICK
from tests.survive.cases import Killed, Mortal, digest, run

SAMPLERS = {
    "auto": QUICK,
    "rdmc": rdmc.RDMC(),
    "mala": LongChains(MALA(), budget=6),
    "annealed-langevin": AnnealedLangevin(budget=40),
    "parallel-tempering": ParallelTempering(budget=40),
}


@pytest.fixture(autouse=True)
def _every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished batches are written after every stage."""
    monkeypatch.setattr(rdmc.journal, "INTERVAL", 0.0)


@pytest.mark.parametrize("name", ["auto", "rdmc", *slow("mala", "annealed-langevin", "parallel-tempering")])
def test_a_run_cut_off_anywhere_ends_the_same(name: str, tmp_path: Path) -> None:
    whole = Mortal()
    wanted = digest(run(whole, SAMPLERS[name]))
    for last in [round(whole.calls * share) for share in (0.15, 0.4, 0.7, 0.95)]:
        path = tmp_path / f"{last}"
        with pytest.raises(Killed):
            run(Mortal(last), SAMPLERS[name], checkpoint=path)
        rest = Mortal()
        assert digest(run(rest, SAMPLERS[name], checkpoint=path)) == wanted, f"cut off at {last} of {whole.calls} calls"
    assert rest.calls < 0.5 * whole.calls, f"{rest.calls} of {whole.calls} calls again after .95 of them were done"


def test_a_run_cut_off_time_after_time_ends_the_same(tmp_path: Path) -> None:
    whole = Mortal()
    wanted, path, cuts = digest(run(whole)), tmp_path / "run", 0
    while True:
        try:
            assert digest(run(Mortal(whole.calls // 3), checkpoint=path)) == wanted
            break
        except Killed:
            cuts += 1
            assert cuts < 40, "no progress from call to call"
    assert cuts >= 2, cuts


def test_a_finished_run_is_recalled_without_an_evaluation_more_than_the_checks(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = run(Mortal(), checkpoint=path)
    again = Mortal()
    second = run(again, checkpoint=path)
    assert digest(first) == digest(second) and again.calls < 20, again.calls
    assert digest(run(Mortal())) == digest(first)  # and without a file


def test_an_interrupted_run_is_partial_and_then_whole(tmp_path: Path) -> None:
    whole = Mortal()
    wanted, path = digest(run(whole)), tmp_path / "run"
    broken = run(Mortal(whole.calls - 3, KeyboardInterrupt), checkpoint=path)
    assert broken.partial and broken.samples.shape[0] <= 3, broken.samples.shape
    assert digest(run(Mortal(), checkpoint=path)) == wanted


def test_what_was_done_survives_an_error_of_the_density(tmp_path: Path) -> None:
    whole = Mortal()
    run(whole)
    with pytest.raises(ArithmeticError, match="out of time") as caught:
        run(Mortal(whole.calls - 3, ArithmeticError))
    part = caught.value.partial  # type: ignore[attr-defined]
    assert part.partial and part.samples.shape[0] >= 1 and "2 of 3 parts" in caught.value.__notes__[-1]


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", 6), ("draws", 61), ("chains", 2), ("sampler", rdmc.RDMC()), ("memory", 1 << 16), ("density", 0)],
)
def test_a_checkpoint_of_another_run_is_refused_and_left_alone(option: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(Mortal(), checkpoint=path)
    before = path.read_bytes()
    density: Any = Mortal()
    options: dict[str, Any] = {"checkpoint": path, option: value}
    if options.pop("density", None) is not None:
        density = rdmc.Density(lambda x: -x.square().sum(-1), 8)
    word = {"memory": "rows"}.get(option, option)
    with pytest.raises(CheckpointError, match=rf"belongs to another run: .*{word} was .* and is") as refused:
        run(density, **options)
    assert path.read_bytes() == before
    assert run(Mortal(), checkpoint=path).gradient_evaluations > 0  # while the refusal is still at hand
    assert refused.value.args


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data), 997):
        data[place] ^= 0x55
    path.write_bytes(bytes(data))


def _garbage(path: Path) -> None:
    path.write_bytes(b"my thesis, chapter 3\n" * 400)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE thesis (chapter INTEGER)")
    base.close()


def _older(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 0")
    base.close()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_truncate, "malformed|damaged"),
        (_flip, "malformed|damaged"),
        (_garbage, "not a database"),
        (_foreign, "another program"),
        (_older, "format 0, wanted 4: it was written by another version"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(harm: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(Mortal(), checkpoint=path)
    harm(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=words):
        run(Mortal(), checkpoint=path)
    assert path.read_bytes() == before


def test_paths_that_can_not_be_used_are_refused_before_anything_is_evaluated_for_long(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no" / "run", "existing directory"), (tmp_path, "path of a file")):
        density = Mortal()
        with pytest.raises(CheckpointError, match=words):
            run(density, checkpoint=path)
        assert density.calls < 20


def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(Mortal(), checkpoint=path)
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(CheckpointError, match="readonly"):
        run(Mortal(), checkpoint=path)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    held = Checkpoint(tmp_path / "run", {"a": 1}, ("rdmc",))
    with pytest.raises(CheckpointError, match=r"locked .*is another run using it"):
        Checkpoint(tmp_path / "run", {"a": 1}, ("rdmc",))
    held.close()


def test_a_full_disk_ends_the_keeping_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = digest(run(Mortal()))
    opened = Checkpoint._open

    def small(self: Checkpoint, identity: dict[str, object]) -> None:
        opened(self, identity)
        self._base.execute("PRAGMA max_page_count = 8")

    monkeypatch.setattr(Checkpoint, "_open", small)
    with pytest.warns(RuntimeWarning, match=r"can't be written any more \(database or disk is full\); the run goes on"):
        result = run(Mortal(), checkpoint=tmp_path / "run")
    assert digest(result) == wanted
