"""What is told of long work, on a terminal and elsewhere, by a clock of the test's own."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from persona.cli import progress
from persona.cli.progress import Bars, Lines, duration, rate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(capsys: pytest.CaptureFixture[str], total: int, unit: str, seconds: float, first: int = 0) -> list[str]:
    """The lines of a task whose units take `seconds` each, after `first` that an earlier run did."""
    clock = Clock()
    with Lines(clock).task("training", total, unit) as task:
        if first:
            task.advance(first)
        for _ in range(first, total):
            clock.now += seconds
            task.advance(1)
    return capsys.readouterr().err.splitlines()


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 100, "steps", 0.2) == []  # 20 s
    slow = told(capsys, 36, "steps", 31)
    assert slow[0] == "training: 2 of 36 steps, 6%, 31 s each, 18 min left"
    assert len(slow) == 17  # every other step, and none for the last
    many = told(capsys, 4000, "steps", 1.5)
    assert len(many) == 19  # one for each twentieth
    assert many[0] == "training: 200 of 4,000 steps, 5%, 1.5 s each, 95 min left"
    huge = told(capsys, 100_000, "rows", 1)[:2]
    assert huge == ["training: 300 of 100,000 rows, 0%, 1.0 s each, 27 h 42 min left",
                    "training: 600 of 100,000 rows, 1%, 1.0 s each, 27 h 37 min left"]  # fmt: skip
    assert told(capsys, 100, "steps", 10, first=90)[0].startswith(
        "training: 93 of 100 steps, 93%, 10 s each, 70 s left"
    )
    assert told(capsys, 10, "bytes", 40)[0] == "training: 1 B of 10 B, 10%"
    assert told(capsys, 10, "weights", 40)[1] == "training: 20%, 5 min left"


def test_times_and_rates() -> None:
    assert [duration(s) for s in (0.1, 40, 100, 5999, 12_000)] == ["1 s", "40 s", "2 min", "1 h 40 min", "3 h 20 min"]
    assert [rate(each, "steps") for each in (None, 0.25, 1.0, 9.4, 31.4)] == ["", "4 steps/s", "1.0 s each", "9.4 s each", "31 s each"]  # fmt: skip


def test_bars_know_the_time_of_steps_that_take_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    out, clock = io.StringIO(), Clock()
    screen = Console(file=out, force_terminal=True, width=110, color_system=None)
    monkeypatch.setattr(progress, "console", lambda **_: screen)
    monkeypatch.setattr(progress.time, "monotonic", clock)
    bars = Bars()
    with bars.task("measuring vectors", 7, "models") as outer, bars.task("loss: base", 10, "rows") as inner:
        outer.advance(1)
        for _ in range(3):
            clock.now += 90
            inner.advance(1)
        bars._bars.refresh()  # type: ignore[union-attr]
        bars.note("it is slow")
    shown = out.getvalue()
    assert "note: it is slow\n" in shown
    both = " ".join(shown[shown.rindex("measuring vectors") :].split())
    assert "1/7 models" in both
    assert "3/10 rows 90 s each 10 min left" in both
    assert both.index("1/7 models") < both.index("loss: base")
    assert bars._bars is None
    with bars.task("storing", 1000) as again:  # a new display
        again.advance(500)
    assert "storing" in out.getvalue()
