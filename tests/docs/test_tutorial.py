"""The tutorial, typed in: every command works, and prints what the page shows."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.docs.session import ROOT, Command, environment, mask, play, rewritten, steps
from tests.forks import Forks

TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path, forks: Forks) -> None:
    home, work = tmp_path / "home", tmp_path / "my-persona"
    home.mkdir()
    shutil.copytree(ROOT / "examples", work / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    reader = environment(home, quick=True)
    reader["PATH"] = f"{forks.bin}:{reader['PATH']}"
    ran = list(play(TUTORIAL.read_text(), work, reader))
    assert not "\n\n".join(one.difference for one in ran if one.difference)


def test_every_command_of_the_loop_is_in_it() -> None:
    typed = " ".join(step.text for step in steps(TUTORIAL.read_text()) if isinstance(step, Command))
    words = "init commit vectors alpha negate status diff build verify checkout restore undo redo rm log show"
    assert [word for word in words.split() if f"persona {word} " not in f"{typed} "] == []


PAGE = """\
<!-- file: a.txt -->
```text
hello
```
<!-- exit: 3 -->
```console
$ X=1; cat a.txt
hello
$ sh -c "echo $X; exit 3"
2
```
<!-- output: not compared -->
```console
$ echo different
every time
```
"""


def test_a_difference_is_noticed_and_can_be_written_anew(tmp_path: Path) -> None:
    ran = list(play(PAGE, tmp_path, environment(tmp_path, quick=True)))
    assert [(one.exit, one.printed) for one in ran] == [(0, ["hello"]), (3, ["1"]), (0, ["different"])]
    assert [one.command.line for one in ran if one.difference] == [9]
    again = list(play(rewritten(PAGE, ran), tmp_path, environment(tmp_path, quick=True)))
    assert not any(one.difference for one in again)


def test_an_unexpected_exit_is_a_difference(tmp_path: Path) -> None:
    ran = list(play("```console\n$ false\n```\n", tmp_path, environment(tmp_path, quick=True)))
    assert "exit 1, not 0" in str(ran[0].difference)


def test_ids_sizes_and_times_do_not_count_but_alphas_do() -> None:
    assert mask(["[main 3f2a9c4] x  α 0.5  12 tensors, 1.2 MB kept of 3 GB  4.50%"]) == mask(
        ["[main 0000001] x α 0.5 2,000 tensors, 90 kB kept of 88.1 MB 0.9%"]
    )
    assert mask(["α 0.5"]) != mask(["α 0.6"])
    assert mask(["HEAD~1"]) != mask(["HEAD~2"])
