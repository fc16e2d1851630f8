"""The commit that made the difference is found, in as few tests as halving takes."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import persona
from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.ancestry import Ancestry
from persona.history.bisection import halve
from persona.history.commits import Commit
from persona.ids import CommitId, ObjectId, RecipeId
from persona.store.objects import ObjectStore
from persona.verbs import bisect
from persona.verbs.branch import delete_branches
from tests.cli.conftest import Run
from tests.forks import Forks
from tests.models import TinyModels


@pytest.fixture
def long(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """A base and 16 commits: a vector, and 15 strengths of it."""
    persona.commit(repo, models.run(1), name="listening", alpha=0.01)
    for number in range(2, 17):
        persona.alpha(repo, {"listening": number / 100})
    persona.tag(repo, "good", "HEAD~16")
    return repo


@pytest.mark.parametrize("planted", range(1, 17))
def test_among_16_commits_4_tests_find_the_bad_one(long: persona.Repository, planted: int) -> None:
    tested = []

    def judge(commit: CommitId) -> str:
        tested.append(commit)
        assert long.head() == commit
        (entry,) = long.recipe(commit).vectors
        assert isinstance(entry.alpha, float)
        return "bad" if entry.alpha * 100 > planted - 0.5 else "good"

    found = persona.bisect(long, "main", ["good"], judge)
    assert found.found == long.resolve(f"main~{16 - planted}")
    assert len(tested) <= 4
    assert len(found.changes) == 1
    assert refs_.current_branch(long.refs()) == "main"
    assert not any(name.startswith(bisect.REFS) for name in long.refs())


@settings(deadline=None)
@given(st.data())
def test_in_any_history_the_first_bad_commit_is_found(data: st.DataObject) -> None:
    """Each commit has up to three older parents; a commit is bad if the planted one is among those that it descends from."""
    with tempfile.TemporaryDirectory() as folder:
        objects = ObjectStore(Path(folder))
        commits: list[CommitId] = []
        for number in range(data.draw(st.integers(2, 20))):
            drawn = data.draw(st.lists(st.sampled_from(commits), unique=True, max_size=3)) if commits else []
            parents = tuple(drawn) or tuple(commits[-1:])
            made = Commit(
                RecipeId("0" * 64), ObjectId("0" * 64), parents, "Test", "2026-01-01T00:00:00Z", str(number), {}
            )
            commits.append(made.put(objects))
        ancestry = Ancestry(objects)
        bad = commits[-1]
        planted = data.draw(st.sampled_from(sorted(ancestry.of([bad]) - {commits[0]}) or [bad]))
        good, tested = {commits[0]}, 0
        while (left := halve(ancestry, bad, good)).next is not None:
            assert left.suspects[0] == bad
            if planted in ancestry.of([left.next]):
                bad = left.next
            else:
                good.add(left.next)
            tested += 1
        assert left.suspects == (planted,)
        assert tested <= 2 * math.ceil(math.log2(len(commits))) + 3


def test_marks_one_by_one(long: persona.Repository) -> None:
    assert not bisect.start(long).suspects
    assert bisect.state(long).bad is None
    with pytest.raises(UsageError, match="nothing to test"):
        bisect.run(long, lambda _: "good")
    bisect.mark(long, "bad")
    now = bisect.mark(long, "good", ["good"])
    assert (len(now.suspects), now.steps, now.here) == (16, 4, long.resolve("main~8"))
    assert refs_.current_branch(long.refs()) is None
    assert persona.status(long).next.startswith("persona bisect good")
    wrong = bisect.mark(long, "bad")
    persona.undo(long)
    assert bisect.state(long) == now
    assert wrong != now
    bisect.mark(long, "good")
    assert persona.fsck(long).ok
    persona.gc(long)
    assert bisect.state(long).suspects[0] == long.resolve("main")
    with pytest.raises(Refusal, match="a bisect is in progress"):
        bisect.start(long)
    assert bisect.reset(long).commit == long.resolve("main")
    assert refs_.current_branch(long.refs()) == "main"
    with pytest.raises(Refusal, match="no bisect is in progress"):
        bisect.reset(long)


def test_what_cannot_be_tested_is_passed_over(long: persona.Repository) -> None:
    bisect.start(long, "main~12", ["good"])
    assert len(bisect.state(long).suspects) == 4
    untestable = {long.resolve(f"main~{n}") for n in (13, 14)}
    done = bisect.run(long, lambda commit: "skip" if commit in untestable else "good")
    assert done.found is None
    assert set(done.suspects) == {*untestable, long.resolve("main~12")}
    assert done.over


def test_marks_that_contradict_each_other_are_refused(long: persona.Repository) -> None:
    with pytest.raises(Refusal, match="but descends from"):
        bisect.start(long, "main~4", ["main"])
    bisect.start(long, "main", ["good"])
    with pytest.raises(UsageError, match="unknown verdict"):
        bisect.mark(long, "worse")
    before = bisect.state(long)
    with pytest.raises(Refusal, match="but descends from"):
        bisect.mark(long, "good", ["main"])
    assert bisect.state(long) == before


def test_histories_that_parted_are_told_where(models: TinyModels, repo: persona.Repository) -> None:
    persona.switch(repo, "side", create=True)
    persona.commit(repo, models.run(1), name="a")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(2), name="b")
    with pytest.raises(Refusal, match="does not descend from the good one") as caught:
        bisect.start(repo, "main", ["side"])
    assert repo.resolve("main~1").short in caught.value.hint
    assert not refs_.is_bisecting(repo.refs())


def test_edits_are_protected(long: persona.Repository) -> None:
    long.recipe_path.write_text(long.head_text() + "# mine\n")
    with pytest.raises(Refusal, match="edits"):
        bisect.start(long, "main", ["good"])


def test_the_command_line_finds_the_vector_that_was_planted(
    models: TinyModels, repo: persona.Repository, run: Run, tmp_path: Path, forks: Forks
) -> None:
    """By builds: a program loads each one with safetensors and looks at a weight."""
    for number in range(1, 17):
        if number == 11:
            persona.commit(repo, models.run(9, std=0.005), name="bad", message="one run too many")
        else:
            persona.commit(repo, models.run(number % 8 + 1), name=f"v{number}", alpha=number / 100)
    check = tmp_path / "check.py"
    check.write_text(
        "import sys, persona\nfrom safetensors.torch import load_file\n"
        f"from pathlib import Path\nbase = load_file({str(models.base() / 'model.safetensors')!r})\n"
        f"open({str(tmp_path / 'builds')!r}, 'a').write('x')\n"
        f"persona.build(persona.open('.'), {str(tmp_path / 'candidate')!r}, replace=True)\n"
        f"built = load_file({str(tmp_path / 'candidate' / 'model.safetensors')!r})\n"
        "name = 'model.layers.0.mlp.up_proj.weight'\n"
        "sys.exit(int((built[name].float() - base[name].float()).norm() > 0.1))\n"
    )
    assert run(repo.root, "bisect", "start", "HEAD", "HEAD~16").code == 0
    assert "about 2 steps" not in run(repo.root, "bisect", "status").out
    said = run(repo.root, "bisect", "run", str(forks.bin / "python"), str(check))
    assert said.code == 0, said.err
    assert "is the first bad commit, after 4 tests: one run too many" in said.out
    assert " + bad α 1" in said.out
    assert len((tmp_path / "builds").read_text()) == 4
    assert "On branch main at" in run(repo.root, "bisect", "reset").out
    told = json.loads(run(repo.root, "bisect", "start", "--json").out)
    assert told["result"]["suspects"] == []
    assert run(repo.root, "bisect", "run", str(forks.bin / "python"), str(check)).code == 2
    assert run(repo.root, "bisect", "good", "HEAD~16").code == 0
    assert "suspects" in run(repo.root, "bisect", "bad").out
    assert run(repo.root, "bisect", "run", "no-such-program").code == 2
    ended = run(repo.root, "bisect", "run", "sh", "-c", "kill -9 $$")
    assert "the search is not finished" in ended.err
    assert run(repo.root, "bisect", "reset").code == 0


def test_a_branch_that_is_gone_is_not_gone_back_to(long: persona.Repository) -> None:
    persona.switch(long, "side", create=True)
    bisect.start(long, "main", ["good"])
    delete_branches(long, ["side"])
    with pytest.raises(Refusal, match="started on branch 'side', which was deleted"):
        bisect.reset(long)
    assert persona.fsck(long).problems
    assert bisect.reset(long, "main").branch == "main"
    assert persona.fsck(long).ok
    bisect.start(long, "main", ["good"])
    here = long.head()
    assert bisect.reset(long, "HEAD") == bisect.BisectEnd(here, None)
