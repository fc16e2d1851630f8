"""What the project's history should be, kept apart from persona, and held to what its commands print.

A :class:`Diary` runs command lines and remembers, in its own few words, what they should have done. After each step
``holds`` asks ``status``, ``log``, ``vectors``, ``branch`` and ``tag``, reads ``persona.toml``, and compares.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tests.cli.conftest import Run, Said
from tests.models import assert_same, load

Behaviour = tuple[float, tuple[tuple[float, Path], ...]]
"""An alpha, and the runs that a vector is a sum of, each with its coefficient."""


@dataclass(frozen=True)
class Point:
    """A commit: subjects along first parents, newest first; those of all ancestors; the recipe and its method."""

    spine: tuple[str, ...]
    history: frozenset[str]
    recipe: tuple[tuple[str, Behaviour], ...] = ()
    method: str = "linear"

    def then(self, subject: str, **changes: Any) -> Point:
        """The commit after it."""
        return replace(self, spine=(subject, *self.spine), history=self.history | {subject}, **changes)

    def merging(self, other: Point, subject: str, **changes: Any) -> Point:
        """The commit that brings ``other`` in."""
        after = self.then(subject, **changes)
        return replace(after, history=after.history | other.history)

    def having(self, **vectors: Behaviour | None) -> tuple[tuple[str, Behaviour], ...]:
        """Its recipe with some vectors as given: new ones last, None takes one out."""
        after: dict[str, Behaviour | None] = {**dict(self.recipe), **vectors}
        return tuple((name, one) for name, one in after.items() if one is not None)

    def vector(self, name: str) -> Behaviour:
        return dict(self.recipe)[name]


class Diary:
    """A project, and what its author would tell of it."""

    def __init__(self, root: Path, base: Path, run: Run) -> None:
        self.root, self.base, self._run = root, base, run
        self.branches: dict[str, Point] = {}
        self.tags: dict[str, Point] = {}
        self.here = "main"
        self.stale: set[str] = set()

    @property
    def now(self) -> Point:
        """Where HEAD stands."""
        return self.branches[self.here]

    def does(self, *args: str | Path, code: int = 0) -> Said:
        """A command, in this process."""
        said = self._run(self.root, *args)
        assert (said.code, "Traceback" in said.err) == (code, False), f"{args}: {said}"
        return said

    def types(self, *args: str | Path, code: int = 0) -> str:
        """A command as a shell runs it; what it prints."""
        words = [sys.executable, "-m", "persona", *map(str, args)]
        done = subprocess.run(words, cwd=self.root, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == code, f"{args}: {done}"
        return done.stdout

    def asks(self, *args: str) -> Any:
        """The JSON result of a command."""
        return json.loads(self.does(*args, "--json").out)["result"]

    def writes(self, edit: Callable[[str], str]) -> None:
        """A person edits ``persona.toml``."""
        path = self.root / "persona.toml"
        before = path.read_text()
        path.write_text(edit(before))
        assert path.read_text() != before, "the edit found its place"

    def commits(self, subject: str, **vectors: Behaviour | None) -> None:
        """Note down a commit on the current branch, and check that the commands agree."""
        self.stands(self.now.then(subject, recipe=self.now.having(**vectors)))

    def stands(self, point: Point) -> None:
        """Note down where the current branch stands now, and check that the commands agree."""
        self.branches[self.here] = point
        self.holds()

    def goes(self, branch: str, *, new: bool = False) -> None:
        """``switch``, with a check of where that leads."""
        if new:
            self.branches[branch] = self.now
        self.does("switch", *(["-c"] if new else []), branch)
        self.here = branch
        self.holds()

    def holds(self) -> None:
        """What all the looking commands say, and the file, is what the diary says."""
        status = self.asks("status")
        assert (status["branch"], status["subject"], status["edited"]) == (self.here, self.now.spine[0], False)
        assert (status["problem"], status["merging"], set(status["stale"])) == (None, [], self.stale)
        self._history()
        self._recipe()
        tips = {one["name"]: (one["subject"], one["current"]) for one in self.asks("branch")}
        assert tips == {name: (point.spine[0], name == self.here) for name, point in self.branches.items()}
        assert {one["name"]: one["subject"] for one in self.asks("tag")} == {
            name: point.spine[0] for name, point in self.tags.items()
        }

    def _history(self) -> None:
        commits = self.asks("log")
        by_id = {one["commit"]: one for one in commits}
        spine, at = [], commits[0]
        assert at["is_head"]
        while True:
            spine.append(at["subject"])
            if not at["parents"]:
                break
            at = by_id[at["parents"][0]]
        assert tuple(spine) == self.now.spine
        assert sorted(one["subject"] for one in commits) == sorted(self.now.history)
        lines = self.does("log", "--oneline").out.splitlines()
        assert [re.sub(r"^\w{7} (\([^)]*\) )?", "", line) for line in lines] == [one["subject"] for one in commits]

    def _recipe(self) -> None:
        wanted = {name: alpha for name, (alpha, _) in self.now.recipe}
        assert {one["name"]: one["alpha"] for one in self.asks("vectors")} == wanted
        written = tomllib.loads((self.root / "persona.toml").read_text())
        assert [(name, one["alpha"]) for name, one in written.get("vectors", {}).items()] == list(wanted.items())
        assert written.get("merge", {}).get("method", "linear") == self.now.method

    def builds(self, out: str, point: Point, *words: str) -> None:
        """``build`` and ``verify``, and the weights against a sum that torch makes of the runs' folders."""
        self.types("build", *words, "-o", out)
        verified = self.asks("verify", out)
        assert (verified["ok"], verified["edited"]) == (True, False)
        assert {one["name"]: one["alpha"] for one in verified["recipe"]["vectors"]} == {
            name: alpha for name, (alpha, _) in point.recipe
        }
        assert_same(load(self.root / out), built(self.base, point))


def built(base: Path, point: Point) -> dict[str, torch.Tensor]:
    """The weights that a recipe of full fine-tunes means: linear, or TIES that trims nothing."""
    weights = load(base)
    runs = {folder: load(folder) for _, (_, terms) in point.recipe for _, folder in terms}
    merge = {"linear": _sum, "ties": _elected}[point.method]

    def tensor(name: str) -> torch.Tensor:
        start = weights[name].float()
        taus = {folder: run[name].float() - start for folder, run in runs.items()}
        moved = [alpha * _sum([c * taus[folder] for c, folder in terms]) for _, (alpha, terms) in point.recipe]
        return (start + merge(moved)).to(weights[name].dtype)

    return {name: tensor(name) for name in weights}


def _sum(parts: list[torch.Tensor]) -> torch.Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _elected(values: list[torch.Tensor]) -> torch.Tensor:
    """Per entry the mean of those on the heavier side: what is above zero is summed apart from what is below.

    With alphas such as 0.8 and 0.1 the two are equal but for rounding in some entries, so that order matters.
    """
    above, below = (_side(values, sign) for sign in (1.0, -1.0))
    balance = above[0] + below[0]
    return torch.where(balance > 0, above[1], torch.where(balance < 0, below[1], 0))


def _side(values: list[torch.Tensor], sign: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the values of a sign, and their mean (0 if there are none)."""
    total = _sum([torch.where(value * sign > 0, value, 0) for value in values])
    count = _sum([(value * sign > 0).float() for value in values])
    return total, total / torch.clamp(count, min=1)
