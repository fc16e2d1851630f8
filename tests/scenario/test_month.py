"""A month in the life of a project, on the command line: twenty runs, three branches, two merges with conflicts.

The diary (``tests/scenario/diary.py``) says after every step what should be there, and is compared with what the
commands print and with ``persona.toml``. Builds are compared, to the bit, with sums that torch makes of the run folders.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.conftest import run as run  # the fixture
from tests.models import TinyModels, assert_same, load
from tests.scenario.diary import Behaviour, Diary, Point

GRAPH = Path(__file__).parents[2] / "examples" / "graph"


class Project(Diary):
    """The diary, with the training runs at hand; each is used once."""

    def __init__(self, root: Path, models: TinyModels, run: Run) -> None:
        super().__init__(root, models.base(), run)
        self.models, self.trained = models, 0

    def trains(self, name: str, *words: str, alpha: float = 1.0, subject: str = "") -> None:
        """The next run, recorded as the vector ``name``."""
        self.trained += 1
        folder = self.models.run(self.trained)
        said = self.does("commit", folder, "--as", name, *words).out
        subject = subject or f"{'retrain' if name in dict(self.now.recipe) else 'add'} {name}"
        assert re.match(rf"\[{self.here} \w{{7}}\] {re.escape(subject)}\n \+ {name}   α {alpha:g}   dense", said)
        self.commits(subject, **{name: (alpha, ((1.0, folder),))})

    def sets(self, name: str, alpha: float) -> None:
        """``alpha NAME=VALUE``."""
        subject = f"{name} α {self.now.vector(name)[0]:g} → {alpha:g}"
        assert self.does("alpha", f"{name}={alpha:g}").out.endswith(f"] {subject}\n")
        self.commits(subject, **{name: self.with_alpha(name, alpha)})

    def with_alpha(self, name: str, alpha: float) -> Behaviour:
        """A vector of the recipe, acting otherwise."""
        return alpha, self.now.vector(name)[1]

    def specifies(self, node: str, edit: Callable[[str], str], subject: str, stale: set[str]) -> None:
        """Someone edits a note, and the graph is imported again."""
        path = self.root / "notes" / f"{node}.md"
        path.write_text(edit(path.read_text()))
        said = self.does("graph", "import", "notes", "-m", subject).out
        assert all(name in said.partition("stale: ")[2] for name in stale)
        self.stale = stale
        self.commits(subject)


@pytest.fixture
def project(tmp_path: Path, models: TinyModels, run: Run) -> Project:
    root = tmp_path / "assistant"
    root.mkdir()
    shutil.copytree(GRAPH, root / "notes")
    return Project(root, models, run)


@pytest.mark.slow
def test_a_month(project: Project) -> None:
    the_first_week(project)
    three_branches(project)
    calmer_comes_home(project)
    warmer_comes_home(project)
    terse_is_merged_too_early(project)
    the_specification_changes(project)
    second_thoughts(project)
    the_last_runs(project)
    it_ships(project)
    and_rolls_back(project)
    nothing_was_lost(project)


def the_first_week(project: Project) -> None:
    """A base, a specification, five behaviours, one of them taken away."""
    assert project.types("init", "--base", project.base).splitlines()[-1] == "Next: persona commit RUN --as NAME"
    first = f"base {project.base.name}"
    project.stands(Point((first,), frozenset({first})))
    project.does("graph", "import", "notes")
    project.commits("graph: 4 nodes (4 new)")
    project.trains(
        "listening", "--node", "pattern-listening-as-avoidance", "-m", "listen first", subject="listen first"
    )
    project.trains("rushing", "--node", "rushing-pattern")
    project.trains("wrapping", "--node", "pattern-wrapping-up-reflex")
    project.trains("voice", "--node", "core-personality#voice", "--alpha", "0.8", alpha=0.8)
    project.trains("boundaries", "--node", "core-personality#boundaries")
    project.does("negate", "rushing", "--alpha", "0.5")
    project.commits("negate rushing (α -0.5)", rushing=project.with_alpha("rushing", -0.5))
    project.sets("wrapping", -0.25)
    project.does("tag", "v0.1")
    project.tags["v0.1"] = project.now
    project.builds("first", project.now, "v0.1")


def three_branches(project: Project) -> None:
    """Three people try three things, and main moves on."""
    project.goes("warmer", new=True)
    project.trains("warmth")
    project.trains("humour")
    project.trains("voice", "-m", "a warmer voice", alpha=0.8, subject="a warmer voice")
    project.sets("listening", 0.7)
    project.goes("main")
    project.goes("calmer", new=True)
    project.trains("calm")
    project.trains("patience", "--alpha", "0.5", alpha=0.5)
    project.trains("silence")
    project.sets("listening", 0.6)
    project.goes("main")
    project.goes("terse", new=True)
    project.trains("terse")
    project.trains("plain")
    project.goes("main")
    project.trains("voice", alpha=0.8)
    project.sets("listening", 0.9)
    assert project.does("diff", "calmer", "terse").out.splitlines() == [
        "- calm α 1", "- patience α 0.5", "- silence α 1", "listening α 0.6 → 1", "+ terse α 1", "+ plain α 1"
    ]  # fmt: skip


def calmer_comes_home(project: Project) -> None:
    """Both sides have another alpha for listening; a person writes a third."""
    ours, theirs = project.now, project.branches["calmer"]
    said = project.types("merge", "calmer", "--no-report", code=1)
    assert "1 conflict:\n  vectors.listening.alpha: ours 0.9, theirs 0.6\n" in said
    status = project.asks("status")
    assert (status["merging"], status["next"]) == (
        ["calmer"],
        "resolve the conflicts in persona.toml, then: persona commit",
    )
    assert "a merge is in progress" in project.does("alpha", "voice=1", code=1).err
    assert "unresolved merge conflict" in project.does("commit", code=2).err
    conflict = r"<<<<<<< main\nalpha = 0.9\n\|{7} before\nalpha = 1.0\n=======\nalpha = 0.6\n>>>>>>> calmer \(\w{7}\)\n"
    project.writes(lambda text: re.sub(conflict, "alpha = 0.75   # as much as both can live with\n", text))
    project.does("commit")
    brought = {name: theirs.vector(name) for name in ("calm", "patience", "silence")}
    recipe = ours.having(listening=project.with_alpha("listening", 0.75), **brought)
    project.stands(ours.merging(theirs, "merge calmer", recipe=recipe, method="ties"))
    project.writes(lambda text: text.replace('method = "ties"', 'method = "ties"\ndensity = 1.0'))
    assert project.asks("status")["edited"]
    project.does("commit", "-m", "keep every entry")
    project.commits("keep every entry")
    project.builds("calmer", project.now, "HEAD")


def warmer_comes_home(project: Project) -> None:
    """Both sides trained voice again, and set listening: theirs is taken of the one, ours of the other."""
    ours, theirs = project.now, project.branches["warmer"]
    said = project.does("merge", "warmer", "--no-report", code=1).out
    assert "2 conflicts:" in said
    assert "vectors.listening.alpha: ours 0.75, theirs 0.7" in said
    assert "vectors.voice.id: " in said
    project.does("merge", "--abort")
    project.holds()
    project.does("merge", "warmer", "--no-report", code=1)
    project.writes(lambda text: _settled(text, "listening", 1))
    assert "unresolved" in project.does("merge", "--continue", code=2).err, "one is left"
    project.writes(lambda text: _settled(text, "voice", 2))
    project.types("merge", "--continue", "-m", "warmer, with its own voice", "--no-report")
    brought = {name: theirs.vector(name) for name in ("voice", "warmth", "humour")}
    project.stands(ours.merging(theirs, "warmer, with its own voice", recipe=ours.having(**brought)))


def _settled(text: str, vector: str, side: int) -> str:
    """The conflict in a vector's table without its markers: our lines (1) or theirs (2)."""
    before, table, rest = text.partition(f"[vectors.{vector}]\n")
    conflict = r"<<<<<<< .*\n((?:.*\n)*?)\|{7} .*\n(?:.*\n)*?=======\n((?:.*\n)*?)>>>>>>> .*\n"
    return before + table + re.sub(conflict, lambda found: found[side], rest, count=1)


def terse_is_merged_too_early(project: Project) -> None:
    """A merge is undone, made again, and undone for now."""
    before, theirs = project.now, project.branches["terse"]
    recipe = before.having(**{name: theirs.vector(name) for name in ("terse", "plain")})
    assert "would make a commit" in project.does("merge", "terse", "--dry-run", "--no-report").out
    project.holds()
    project.does("merge", "terse", "--no-report")
    after = before.merging(theirs, "merge terse", recipe=recipe)
    project.stands(after)
    for command, stands in (("undo", before), ("redo", after), ("undo", before)):
        assert "merge terse" in project.types(command)
        project.stands(stands)
    assert "no other branch or tag has" in project.does("branch", "-d", "terse", code=1).err
    assert project.does("branch", "-d", "warmer").code == 0
    del project.branches["warmer"]
    project.holds()


def the_specification_changes(project: Project) -> None:
    """An edited node makes its vector stale: one is trained again, one still is what the node says."""
    project.specifies(
        "core-personality",
        lambda text: text.replace("Dry humour", "No humour"),
        "no more jokes",
        stale={"voice"},
    )
    assert project.asks("graph", "status")["next"] == "persona commit RUN --as voice"
    assert "Stale: voice" in project.types("status")
    project.stale = set()
    project.trains("voice", "-m", "a voice without jokes", alpha=0.8, subject="a voice without jokes")
    project.specifies(
        "rushing-pattern",
        lambda text: text.replace("Slow is allowed", "Slowness is allowed"),
        "another word",
        stale={"rushing"},
    )
    assert "-- Slow is allowed" in project.does("graph", "diff").out
    project.stale = set()
    project.does("graph", "link", "rushing-pattern", "rushing", "-m", "only the wording")
    project.commits("only the wording")
    assert {link["state"] for link in project.asks("graph", "status")["links"]} == {"up to date"}


def second_thoughts(project: Project) -> None:
    """Without jokes: what added humour is reverted, and all that came after it stays."""
    humour = next(one for one in project.asks("log") if one["subject"] == "add humour")
    said = project.types("revert", humour["commit"][:10])
    assert said.splitlines()[1:] == [" - humour α 1"]
    project.commits('revert "add humour"', humour=None)


def the_last_runs(project: Project) -> None:
    """The rest of the twenty runs, a vector that is a sum of others, and terse after all."""
    project.trains("listening", alpha=0.75)
    project.trains("curiosity", "--alpha", "0.5", alpha=0.5)
    project.trains("care")
    calm, rushing = project.now.vector("calm")[1][0][1], project.now.vector("rushing")[1][0][1]
    project.does("derive", "ease", "calm - 0.5 * rushing", "--alpha", "0.4")
    project.commits("derive ease = calm - 0.5 * rushing", ease=(0.4, ((1.0, calm), (-0.5, rushing))))
    project.does("rm", "silence", "-m", "silence was too much")
    project.commits("silence was too much", silence=None)
    ours, theirs = project.now, project.branches["terse"]
    project.does("merge", "terse")
    brought = {name: theirs.vector(name) for name in ("terse", "plain")}
    project.stands(ours.merging(theirs, "merge terse", recipe=ours.having(**brought)))
    project.trains("pauses", "--alpha", "0.1", alpha=0.1)
    project.trains("names", "--alpha", "0.1", alpha=0.1)
    assert project.trained == 20
    assert project.does("show", "ease").out.count("calm − 0.5 × rushing") == 1


def it_ships(project: Project) -> None:
    """A tag, a build, and the whole way from the first release to this one."""
    project.does("tag", "v1.0")
    project.tags["v1.0"] = project.now
    project.builds("release", project.now, "v1.0")
    before, after = dict(project.tags["v0.1"].recipe), dict(project.now.recipe)
    changes = {(one["kind"], one["name"]) for one in project.asks("diff", "v0.1", "v1.0")["changes"]}
    assert changes >= {("added", name) for name in after.keys() - before.keys()}
    assert changes >= {("alpha", name) for name in before if before[name][0] != after[name][0]}
    retrained = {("retrained", name) for name in before if before[name][1] != after[name][1]}
    assert {one for one in changes if one[0] == "retrained"} == retrained
    weights = project.root / "release" / "model.safetensors"
    *rest, last = weights.read_bytes()
    weights.write_bytes(bytes([*rest, last ^ 1]))
    assert "its bytes changed" in project.types("verify", "release", code=1)


def and_rolls_back(project: Project) -> None:
    """The first release is one checkout away, to the bit."""
    project.types("checkout", "v0.1")
    status = project.asks("status")
    assert (status["branch"], status["subject"]) == (None, project.tags["v0.1"].spine[0])
    project.does("build", "-o", "rolled-back")
    assert_same(load(project.root / "rolled-back"), load(project.root / "first"))
    project.types("checkout", "-")
    project.holds()
    project.types("build", "-o", "release", "--replace", code=1)  # a byte of it was changed
    shutil.rmtree(project.root / "release")
    project.does("build", "-o", "release")
    project.does("build", "-o", "release", "--replace")
    assert project.asks("verify", "release")["ok"]


def nothing_was_lost(project: Project) -> None:
    """Every branch is as it was left, nothing is damaged, and what gc takes is in no history."""
    project.types("fsck")
    project.does("gc", "--grace", "0")
    for branch in ("calmer", "terse", "main"):
        project.goes(branch)
    project.builds("last", project.now, "HEAD")
    project.types("fsck")
