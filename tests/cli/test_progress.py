"""Progress bars: they show the right numbers and cannot kill a run."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

import rdmc.progress as module
from rdmc.progress import Progress


class Bar:
    """Stands for tqdm; raises at the given call."""

    def __init__(
        self, total: int | None, description: str, fail: str = "", error: type[BaseException] = OSError
    ) -> None:
        self.total, self.n, self.calls, self.postfix, self.disable = total, 0, 0, "", False
        self._fail, self._error = fail, error

    def _maybe(self, name: str) -> None:
        if name == self._fail:
            raise self._error(name)

    def update(self, n: int) -> None:
        self.calls += 1
        self.n += n
        self._maybe("update")

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.postfix = text
        self._maybe("postfix")

    def refresh(self) -> None:
        self._maybe("refresh")

    def close(self) -> None:
        self._maybe("close")


def test_counts_are_absolute_and_the_last_state_is_shown() -> None:
    bars: list[Bar] = []
    with Progress(10, "rdmc", bar=lambda *a: bars.append(Bar(*a)) or bars[0]) as progress:
        for level in range(10):
            progress.update(level + 1, 150 * (level + 1))
    assert bars[0].n == 10
    assert bars[0].postfix.startswith("1.5k evaluations, ")
    assert bars[0].postfix.endswith("/s")
    assert not progress.active
    progress.close()


def test_refreshes_are_rare_however_often_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(i * 0.001 for i in range(10**6))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    bar = Bar(None, "")
    progress = Progress(None, bar=lambda *_: bar)
    for i in range(2000):
        progress.update(i, i)
    assert 5 <= bar.calls <= 11
    progress.update(2000, 2000, total=4000)
    progress.close()
    assert (bar.n, bar.total) == (2000, 4000)


@pytest.mark.parametrize("fail", ["make", "update", "postfix", "refresh", "close"])
@pytest.mark.parametrize("error", [OSError, BrokenPipeError, ValueError, ImportError])
def test_a_broken_bar_is_switched_off(monkeypatch: pytest.MonkeyPatch, fail: str, error: type[Exception]) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    bar = Bar(3, "", fail, error)

    def make(*_: Any) -> Bar:
        if fail == "make":
            raise error("make")
        return bar

    with Progress(3, "rdmc", bar=make) as progress:
        for level in range(3):
            progress.update(level + 1, level)
        assert progress.active == (fail == "close")
    assert not progress.active
    assert bar.disable == (fail not in ("make", "close"))


def test_interrupts_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    progress = Progress(3, bar=lambda *_: Bar(3, "", "update", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        progress.update(1, 1)


def test_a_closed_stderr_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress(3, "rdmc")
    progress.update(1, 10)
    assert "rdmc" in stream.getvalue()
    assert "1/3" in stream.getvalue()
    stream.close()
    progress.update(2, 20)
    progress.close()


def test_disabled_means_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, "rdmc", enabled=False, bar=lambda *_: pytest.fail("made a bar")) as progress:
        progress.update(3, 3)
    assert not progress.active
    assert capsys.readouterr() == ("", "")
