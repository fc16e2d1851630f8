"""Any sequence of commands, against a small model of what the history should be.

The model knows commits (parents, and the alphas of their vectors), branches, tags, where HEAD is, and what undo and redo
bring back. It owes persona nothing: merge bases and three-way merges are worked out here, the slow way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import persona
from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.verbs.branch import branches, delete_branches
from persona.verbs.tag import delete_tags, tags
from tests.models import TinyModels

Alphas = dict[str, float]
NAMES = ("main", "side", "third")
RUNS = st.integers(1, 4)


@dataclass(frozen=True)
class State:
    """What ``undo`` brings back. ``here`` is a branch, or None where HEAD stands on ``at`` itself."""

    branches: dict[str, str]
    here: str | None = "main"
    at: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return self.branches[self.here] if self.here is not None else self.at

    def advanced(self, commit: str) -> State:
        if self.here is None:
            return replace(self, at=commit)
        return replace(self, branches={**self.branches, self.here: commit})


@dataclass
class Model:
    """All commits there ever were: their parents, and alphas by the names of vectors."""

    parents: dict[str, tuple[str, ...]]
    alphas: dict[str, Alphas]

    def ancestors(self, commit: str) -> set[str]:
        return {commit}.union(*(self.ancestors(parent) for parent in self.parents[commit]))

    def bases(self, one: str, other: str) -> set[str]:
        common = self.ancestors(one) & self.ancestors(other)
        return {c for c in common if not any(c != other and c in self.ancestors(other) for other in common)}


def three_way(base: Alphas, ours: Alphas, theirs: Alphas) -> tuple[Alphas, bool]:
    """The merge that keeps ours where both sides changed a vector in different ways; whether there was such a one."""
    merged, clash = {}, False
    for name in {*base, *ours, *theirs}:
        b, o, t = base.get(name), ours.get(name), theirs.get(name)
        clash |= b not in (o, t) and o != t
        kept = t if o == b else o
        if kept is not None:
            merged[name] = kept
    return merged, clash


class History(RuleBasedStateMachine):
    """The commands, each with what it should do."""

    models: TinyModels
    new_root: Callable[[], Path]

    def __init__(self) -> None:
        super().__init__()
        root = self.new_root()
        persona.init(root, self.models.base(), author="Test")
        self.repo = persona.open(root)
        first = self.repo.head()
        self.model = Model({first: ()}, {first: {}})
        self.state = State({"main": first})
        self.past: list[State] = []
        self.future: list[State] = []

    @property
    def alphas(self) -> Alphas:
        return self.model.alphas[self.state.head]

    def becomes(self, state: State) -> None:
        """A command led to ``state``; one that changed nothing is no step for ``undo``."""
        if state != self.state:
            self.past.append(self.state)
            self.future.clear()
            self.state = state

    def records(self, alphas: Alphas, *more: str) -> None:
        """There should be a new commit on HEAD (and ``more``)."""
        new = self.repo.head()
        self.model.parents[new] = (self.state.head, *more)
        self.model.alphas[new] = alphas
        self.becomes(self.state.advanced(new))

    def named(self, number: int) -> str:
        """Some branch or tag."""
        names = [*self.state.branches, *self.state.tags]
        return sorted(names)[number % len(names)]

    def commit_called(self, name: str) -> str:
        return self.state.branches.get(name) or self.state.tags[name]

    @rule(run=RUNS, alpha=st.sampled_from([None, 0.5, 1.0]))
    def commit(self, run: int, alpha: float | None) -> None:
        name, before = f"v{run}", self.alphas.get(f"v{run}")
        after = alpha if alpha is not None else 1.0 if before is None else before
        done = persona.commit(self.repo, self.models.run(run), name=name, alpha=alpha)
        assert (done.recorded is None) == (after == before)
        if done.recorded:
            self.records({**self.alphas, name: after})

    @precondition(lambda self: self.alphas)
    @rule(which=st.integers(0, 9), eighths=st.integers(-8, 8))
    def alpha(self, which: int, eighths: int) -> None:
        name = sorted(self.alphas)[which % len(self.alphas)]
        if eighths / 8 == self.alphas[name]:
            with pytest.raises(Refusal):
                persona.alpha(self.repo, {name: eighths / 8})
            return
        persona.alpha(self.repo, {name: eighths / 8})
        self.records({**self.alphas, name: eighths / 8})

    @precondition(lambda self: self.alphas)
    @rule(which=st.integers(0, 9))
    def rm(self, which: int) -> None:
        name = sorted(self.alphas)[which % len(self.alphas)]
        persona.rm(self.repo, [name])
        self.records({other: alpha for other, alpha in self.alphas.items() if other != name})

    @rule(name=st.sampled_from(NAMES))
    def branch(self, name: str) -> None:
        if name in self.state.branches:
            with pytest.raises(UsageError, match="a branch named"):
                persona.branch(self.repo, name)
            return
        persona.branch(self.repo, name)
        self.becomes(replace(self.state, branches={**self.state.branches, name: self.state.head}))

    @rule(name=st.sampled_from(NAMES), force=st.booleans())
    def delete_branch(self, name: str, force: bool) -> None:
        if name not in self.state.branches:
            with pytest.raises(UsageError, match="no branch"):
                delete_branches(self.repo, [name])
            return
        rest = {other: commit for other, commit in self.state.branches.items() if other != name}
        kept = set().union(*map(self.model.ancestors, (self.state.head, *rest.values(), *self.state.tags.values())))
        if name == self.state.here or not (force or self.state.branches[name] in kept):
            with pytest.raises(Refusal):
                delete_branches(self.repo, [name], force=force)
            return
        delete_branches(self.repo, [name], force=force)
        self.becomes(replace(self.state, branches=rest))

    @rule(name=st.sampled_from(["v0.1", "v0.2"]), force=st.booleans())
    def tag(self, name: str, force: bool) -> None:
        if name in self.state.tags and not force:
            with pytest.raises(UsageError, match="a tag named"):
                persona.tag(self.repo, name)
            return
        persona.tag(self.repo, name, force=force)
        self.becomes(replace(self.state, tags={**self.state.tags, name: self.state.head}))

    @precondition(lambda self: self.state.tags)
    @rule(which=st.integers(0, 9))
    def delete_tag(self, which: int) -> None:
        name = sorted(self.state.tags)[which % len(self.state.tags)]
        delete_tags(self.repo, [name])
        self.becomes(replace(self.state, tags={n: c for n, c in self.state.tags.items() if n != name}))

    @precondition(lambda self: self.state.branches)
    @rule(which=st.integers(0, 9))
    def switch(self, which: int) -> None:
        name = sorted(self.state.branches)[which % len(self.state.branches)]
        persona.switch(self.repo, name)
        self.becomes(replace(self.state, here=name, at=""))

    @precondition(lambda self: self.state.branches or self.state.tags)
    @rule(back=st.integers(0, 3), which=st.integers(0, 9))
    def checkout(self, back: int, which: int) -> None:
        name = self.named(which)
        commit = self.commit_called(name)
        for _ in range(back):
            commit = self.model.parents[commit][0] if self.model.parents[commit] else commit
            name = commit
        persona.checkout(self.repo, name)
        on_branch = name in self.state.branches
        self.becomes(replace(self.state, here=name if on_branch else None, at="" if on_branch else commit))

    @precondition(lambda self: self.state.branches or self.state.tags)
    @rule(which=st.integers(0, 9), forward=st.booleans())
    def merge(self, which: int, forward: bool) -> None:
        name = self.named(which)
        ours, theirs = self.state.head, self.commit_called(name)
        bases = self.model.bases(ours, theirs)
        persona.merge(self.repo, [name], prefer="ours", forward=forward)
        if theirs in self.model.ancestors(ours):
            return
        if ours in self.model.ancestors(theirs) and forward:
            self.becomes(self.state.advanced(theirs))
            return
        if len(bases) == 1:
            (base,) = bases
            merged, _ = three_way(self.model.alphas[base], self.alphas, self.model.alphas[theirs])
        else:  # after a criss-cross there is no one truth: what it came to is taken as it is
            merged = real_alphas(self.repo)
        self.records(merged, theirs)

    @rule(back=st.integers(0, 2))
    def revert(self, back: int) -> None:
        commit = self.state.head
        for _ in range(back):
            commit = self.model.parents[commit][0] if self.model.parents[commit] else commit
        if len(self.model.parents[commit]) != 1:
            with pytest.raises((Refusal, UsageError)):
                persona.revert(self.repo, commit)
            return
        before = self.model.alphas[self.model.parents[commit][0]]
        reverted, clash = three_way(self.model.alphas[commit], self.alphas, before)
        if clash:
            return  # it stops with markers in the recipe, which the tests of revert are about
        if reverted == self.alphas:
            with pytest.raises(Refusal, match="nothing of"):
                persona.revert(self.repo, commit)
            return
        persona.revert(self.repo, commit)
        self.records(reverted)

    @rule()
    def undo(self) -> None:
        if not self.past:
            with pytest.raises(Refusal, match="nothing to undo"):
                persona.undo(self.repo)
            return
        persona.undo(self.repo)
        self.future.append(self.state)
        self.state = self.past.pop()

    @rule()
    def redo(self) -> None:
        if not self.future:
            with pytest.raises(Refusal, match="nothing to redo"):
                persona.redo(self.repo)
            return
        persona.redo(self.repo)
        self.past.append(self.state)
        self.state = self.future.pop()

    @invariant()
    def agrees(self) -> None:
        state, repo = self.state, self.repo
        assert {one.name: one.commit for one in branches(repo)} == state.branches
        assert {one.name: one.commit for one in tags(repo)} == state.tags
        assert refs_.current_branch(repo.refs()) == state.here
        assert repo.head() == state.head
        assert repo.commit(repo.head()).parents == self.model.parents[state.head]
        assert real_alphas(repo) == self.alphas
        assert not repo.is_edited()

    def teardown(self) -> None:
        told = {entry.commit for entry in persona.log(self.repo)}
        assert told == self.model.ancestors(self.state.head)
        assert persona.fsck(self.repo).ok
        persona.gc(self.repo)
        assert {entry.commit for entry in persona.log(self.repo)} == told
        assert persona.fsck(self.repo).ok
        self.agrees()


def real_alphas(repo: persona.Repository) -> Alphas:
    vectors = repo.recipe(repo.head()).vectors
    return {entry.name: entry.alpha for entry in vectors if isinstance(entry.alpha, float)}


def run(models: TinyModels, roots: Iterable[Path], examples: int, steps: int) -> None:
    found = iter(roots)
    machine = type("AnyHistory", (History,), {"models": models, "new_root": lambda _: next(found)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def roots(tmp_path: Path) -> Iterable[Path]:
    number = 0
    while True:
        number += 1
        yield tmp_path / str(number)


def test_any_history(models: TinyModels, tmp_path: Path) -> None:
    run(models, roots(tmp_path), examples=30, steps=30)


@pytest.mark.slow
def test_any_long_history(models: TinyModels, tmp_path: Path) -> None:
    run(models, roots(tmp_path), examples=60, steps=60)
