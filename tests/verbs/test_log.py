"""What the log shows, leaves out, and draws."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import persona
from persona.cli.tables.graphlines import draw
from persona.errors import Damaged, UsageError
from persona.history import commits
from persona.history.evaluations import Evaluation, Figure
from persona.ids import CommitId, object_digest
from persona.recipe.builds import build_digest
from persona.recipe.model import Entry, Recipe
from persona.store.objects import ObjectStore
from persona.verbs.log import LogEntry
from tests.models import TinyModels


@pytest.fixture
def merged(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """listening; on voice: voice; on main: calm; merged; listening turned up."""
    persona.commit(repo, models.run(1), name="listening", node="listen-first")
    persona.switch(repo, "voice", create=True)
    persona.commit(repo, models.run(2), name="voice")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(3), name="calm")
    persona.merge(repo, ["voice"])
    persona.alpha(repo, {"listening": 1.5})
    return repo


def subjects(found: list[LogEntry]) -> list[str]:
    return [one.subject for one in found]


def test_a_range_is_what_one_has_and_the_other_has_not(merged: persona.Repository) -> None:
    assert subjects(persona.log(merged, "voice..main~1")) == ["merge voice", "add calm"]
    assert subjects(persona.log(merged, "main..voice")) == []
    assert set(subjects(persona.log(merged, "voice...main~2"))) == {"add voice", "add calm"}
    assert subjects(persona.log(merged, "HEAD~1..")) == ["listening α 1 → 1.5"]


def test_one_vectors_history(merged: persona.Repository) -> None:
    assert subjects(persona.log(merged, vector="listening")) == ["listening α 1 → 1.5", "add listening"]
    assert subjects(persona.log(merged, vector="voice")) == ["add voice"]
    with pytest.raises(UsageError, match="no vector or readout 'vioce'"):
        persona.log(merged, vector="vioce")


def test_one_nodes_history(merged: persona.Repository) -> None:
    assert subjects(persona.log(merged, node="listen-first")) == ["add listening"]
    with pytest.raises(UsageError, match="no node 'listen-frist'"):
        persona.log(merged, node="listen-frist")


def test_lines_lead_past_what_is_left_out(merged: persona.Repository) -> None:
    newest, oldest = persona.log(merged, vector="listening")
    assert newest.nearest == (oldest.commit,)
    assert oldest.nearest == ()


def test_times(merged: persona.Repository) -> None:
    assert persona.log(merged, until="yesterday") == []
    assert len(persona.log(merged, since="yesterday")) == 6
    with pytest.raises(UsageError, match="is not a time"):
        persona.log(merged, since="recently")


def test_words(merged: persona.Repository) -> None:
    assert subjects(persona.log(merged, grep="^add (voice|calm)$")) == ["add calm", "add voice"]
    assert persona.log(merged, grep="add", author="^Nobody") == []
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        persona.log(merged, grep="(")


def test_changes_since_the_first_parent(merged: persona.Repository) -> None:
    entries = persona.log(merged, limit=2, patch=True)
    assert [[change.text for change in entry.changes or ()] for entry in entries] == [
        ["listening α 1 → 1.5"],
        ["method: linear → ties", "+ voice α 1"],
    ]
    assert persona.log(merged, limit=1)[0].changes is None
    assert persona.log(merged, patch=True)[-1].changes == ()


def test_lines_lead_to_what_a_limit_cuts_off(merged: persona.Repository) -> None:
    whole = persona.log(merged, in_lines=True)
    assert [one.nearest for one in persona.log(merged, in_lines=True, limit=2)] == [one.nearest for one in whole[:2]]
    assert len(whole[1].nearest) == 2
    (newest,) = persona.log(merged, vector="listening", in_lines=True, limit=1)
    assert newest.nearest == (persona.log(merged, vector="listening")[1].commit,)
    (only,) = persona.log(merged, "HEAD~1..", in_lines=True)
    assert only.nearest == ()


def test_all(merged: persona.Repository) -> None:
    persona.checkout(merged, "voice")
    assert len(persona.log(merged)) == 3
    assert len(persona.log(merged, everything=True)) == 6


def test_children_come_first_whatever_clocks_say(repo: persona.Repository) -> None:
    """A parent that claims to be younger than its child still stands behind it."""
    head = repo.head()
    old = repo.commit(head)
    late, early = "2030-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"
    parent = commits.Commit(old.recipe, old.text, (head,), "a", late, "late").put(repo.objects)
    child = commits.Commit(old.recipe, old.text, (parent,), "a", early, "early").put(repo.objects)
    walked = list(commits.walk(repo.objects, [child, parent]))
    assert [name for name, _ in walked] == [parent, head, child]
    assert [name for name, _ in commits.children_first(walked)] == [child, parent, head]


GRAPHS = {
    "a merge": (
        "m:a,v v:l a:l l:",
        r"""
* m
|\
| * v
* | a
|/
* l
""",
    ),
    "three at once": (
        "o:a,b,c a:r b:r c:r r:",
        r"""
* o
|\
| |\
* | | a
| * | b
| | * c
| |/
|/
* r
""",
    ),
    "across a line in between": (
        "x:l y:k z:l l:k k:",
        r"""
* x
| * y
| | * z
| |/
|/|
* | l
|/
* k
""",
    ),
    "lines to parents that are not there": (
        "m:a,v a:l x:l",
        r"""
* m
|\
* | a
| | * x
""",
    ),
    "two histories": (
        "a:b c:d b: d:",
        r"""
* a
| * c
* | b
 /
* d
""",
    ),
}


def drawn(history: list[tuple[str, tuple[str, ...]]]) -> list[str]:
    lines = []
    for (name, _), one in zip(history, draw(history), strict=True):
        lines += [*one.above, f"{one.row} {name}", *one.below]
    return lines


@pytest.mark.parametrize("name", GRAPHS)
def test_drawings(name: str) -> None:
    text, wanted = GRAPHS[name]
    pairs = [one.partition(":")[::2] for one in text.split()]
    history = [(commit, tuple(parents.split(","))) if parents else (commit, ()) for commit, parents in pairs]
    assert drawn(history) == wanted.strip("\n").splitlines()


@given(st.lists(st.lists(st.integers(1, 4), max_size=3, unique=True), max_size=12))
def test_every_history_can_be_drawn(steps: list[list[int]]) -> None:
    """Each commit has one row with one star, and a row for each line more or less."""
    count = len(steps)
    history = [
        (str(number), tuple(str(number + step) for step in own if number + step < count))
        for number, own in enumerate(steps)
    ]
    lines = drawn(history)
    assert [line.split()[-1] for line in lines if "*" in line] == [name for name, _ in history]
    assert all(set(line) <= set("*|/\\ 0123456789") for line in lines)


def test_a_limit_reads_only_what_it_shows(repo: persona.Repository) -> None:
    head, old = repo.head(), repo.commit(repo.head())
    for number in range(30):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(number * 60))
        head = commits.Commit(old.recipe, old.text, (head,), "a", stamp, f"{number}").put(repo.objects)
    repo.objects.path(one_before(repo, head, 10)).unlink()
    assert subjects(persona.log(repo, head[:20], limit=3)) == ["29", "28", "27"]


def one_before(repo: persona.Repository, commit: commits.CommitId, steps: int) -> commits.CommitId:
    for _ in range(steps):
        commit = repo.commit(commit).parents[0]
    return commit


def measure(repo: persona.Repository, rev: str, suite: str, value: float, limit: int | None = None) -> None:
    """Keep two numbers of a commit's build, as a suite would have found them."""
    build = build_digest(repo.recipe(repo.resolve(rev)))
    figures = tuple(
        Figure("answers", name, "lower", "nats", value, None, None, (value,), (1.0,)) for name in ("loss", "kl")
    )
    found = Evaluation(build, suite, "d" * 64, 0, limit, "2026-11-24T20:00:00+00:00", {}, figures)
    repo.evaluations.keep(object_digest(suite.encode()), found)


def measured(repo: persona.Repository) -> list[tuple[str, list[str]]]:
    return [(one.subject, [f"{r.suite} {r.text}" for r in one.measured]) for one in persona.log(repo, limit=5)]


def test_every_commit_has_what_was_measured_of_its_build(merged: persona.Repository) -> None:
    """However it came to it: with a vector that does not act, by another name, or by a strength that came back."""
    assert {tuple(one.measured) for one in persona.log(merged)} == {()}
    measure(merged, "HEAD", "warm", 1.5)
    measure(merged, "HEAD", "calm", 2.5)
    measure(merged, "HEAD", "part", 9.0, limit=2)
    text = merged.head_text()
    persona.alpha(merged, {"calm": 0.0})
    measure(merged, "HEAD", "warm", 3.5)
    persona.rm(merged, ["calm"])
    merged.recipe_path.write_text(merged.head_text().replace("[vectors.voice]", "[vectors.speech]"))
    persona.commit(merged, message="another name")
    merged.recipe_path.write_text(f"# a remark\n{text}")
    persona.commit(merged, message="as it was")
    before, without = ["calm answers loss 2.5", "warm answers loss 1.5"], ["warm answers loss 3.5"]
    expected = [
        ("as it was", before),
        ("another name", without),
        ("remove calm", without),
        ("calm α 1 → 0", without),
        ("listening α 1 → 1.5", before),
    ]
    assert measured(merged) == expected
    shutil.rmtree(merged.folder / "evaluations" / build_digest(merged.recipe(merged.head())))
    assert [found for _, found in measured(merged)] == [[], without, without, without, []]
    (merged.folder / "evaluations" / "no build").write_text("")
    assert [found for _, found in measured(merged)] == [[], without, without, without, []]


def test_a_recipe_is_read_only_where_something_was_measured(merged: persona.Repository) -> None:
    merged.objects.path(merged.commit(merged.resolve("voice")).recipe).unlink()
    assert len(persona.log(merged)) == 6
    measure(merged, "HEAD", "warm", 1.5)
    assert len(persona.log(merged, measured=False)) == 6
    with pytest.raises(Damaged, match=r"recipe \w+ is missing"):
        persona.log(merged)


NASTY = st.sampled_from(['"name":"a"', '{"alpha":1', '\\"name\\":\\"b\\"', "a", "ä", 'b","name":"a'])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "a-b", "ab"]), NASTY, NASTY), max_size=5, unique_by=lambda one: one[0]
    ),
    st.sampled_from(["a", "b", "a-b", "ab", "none"]),
)
def test_one_vector_of_a_recipe_is_read_as_the_whole_recipe_has_it(
    vectors: list[tuple[str, str, str]], wanted: str
) -> None:
    entries = tuple(
        Entry(name, "0" * 64, (("*", 0.5), (pattern, 1.0)), node, only=(pattern, node), parameters={"density": 0.5})
        for name, node, pattern in vectors
    )
    recipe = Recipe("1" * 64, '{"alpha":', entries)
    with tempfile.TemporaryDirectory() as folder:
        objects = ObjectStore(Path(folder))
        name = recipe.put(objects)
        assert Recipe.entry_in(objects, name, wanted) == recipe.entry(wanted)
        with pytest.raises(Damaged, match="is a recipe, expected a commit"):
            objects.text(name, "commit")
        objects.path(name).write_bytes(b"{}")
        with pytest.raises(Damaged, match="does not match its id"):
            Recipe.entry_in(objects, name, wanted)


def test_log_is_newest_first_and_names_what_stands_where(
    repo: persona.Repository, history: dict[str, CommitId]
) -> None:
    logged = persona.log(repo)
    assert [one.commit for one in logged] == [history["side"], history["a"], history["base"]]
    assert logged[0].names == ("side",)
    assert logged[0].is_head
    assert [one.names for one in persona.log(repo, "main")] == [("main",), (), ()]
    assert len(persona.log(repo, limit=2)) == 2
