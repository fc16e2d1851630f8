"""``persona bisect``: find the commit that made something worse, by halving.

What is known is kept in refs, so that every mark is an operation, and ``undo`` takes a wrong one back:

    refs/bisect/from        where HEAD was before, as HEAD's file says it
    refs/bisect/bad         the oldest commit that is known to be bad
    refs/bisect/good/<id>   commits known to be good
    refs/bisect/skip/<id>   commits that cannot be tested
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.bisection import Halving, halve
from persona.history.commits import get_text
from persona.ids import CommitId
from persona.recipe.changes import RecipeChange, changes
from persona.repository import Repository, Transaction
from persona.workspace.record import clean_recipe

REFS, FROM = refs_.BISECT, refs_.BISECT_FROM
BAD, GOODS, SKIPS = f"{REFS}bad", f"{REFS}good/", f"{REFS}skip/"
GOOD, SKIP = "good", "skip"

Judge = Callable[[CommitId], str]
"""Says of the commit that is checked out whether it is ``good``, ``bad``, or one to ``skip``."""


@dataclass(frozen=True)
class BisectState:
    """Where a search stands. ``here`` is the commit to be tested, None when it is over (or still needs a good or a bad one).

    ``found`` is the first bad commit, and ``changes`` what it changed in the recipe; where the commits that are left cannot be
    tested, ``found`` is None and the answer is one of ``suspects``.
    """

    bad: CommitId | None
    good: tuple[CommitId, ...]
    here: CommitId | None
    subject: str
    suspects: tuple[CommitId, ...]
    steps: int
    found: CommitId | None = None
    changes: tuple[RecipeChange, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more can be told."""
        return bool(self.suspects) and self.here is None


def start(
    repo: Repository, bad: str | None = None, good: Sequence[str] = (), *, command: str = "bisect start"
) -> BisectState:
    """Begin a search. Without ``bad`` or ``good``, mark one of each before there is something to be tested."""
    with clean_recipe(repo, command) as (change, _):
        refs = repo.refs()
        if refs_.is_bisecting(refs):
            raise Refusal("a search is under way", "Mark commits, or end it: persona bisect reset")
        change.set_ref(FROM, refs[refs_.HEAD])
        known = _Known(repo, repo.resolve(bad) if bad else None, [repo.resolve(rev) for rev in good])
        return known.keep(change)


def mark(repo: Repository, verdict: str, revs: Sequence[str] = (), *, command: str = "bisect") -> BisectState:
    """Say that commits (the one that is checked out unless named) are ``good``, ``bad``, or to be skipped."""
    with clean_recipe(repo, command) as (change, _):
        known = _known(repo)
        for rev in revs or [refs_.HEAD]:
            known.learn(verdict, repo.resolve(rev))
        return known.keep(change)


def state(repo: Repository) -> BisectState:
    """Where the search stands."""
    return _known(repo).told()


@dataclass(frozen=True)
class BisectEnd:
    """Where HEAD stands again after a search."""

    commit: CommitId
    branch: str | None


def reset(repo: Repository, rev: str | None = None, *, command: str = "bisect reset") -> BisectEnd:
    """End the search and go back to where it began, or to ``rev``."""
    with clean_recipe(repo, command) as (change, _):
        _known(repo)
        refs = repo.refs()
        head = _head_for(repo, rev) if rev is not None else refs[FROM]
        if head.removeprefix(refs_.SYMBOLIC) not in refs and head.startswith(refs_.SYMBOLIC):
            name = refs_.short_name(head.removeprefix(refs_.SYMBOLIC))
            raise Refusal(
                f"the search began on branch '{name}', which is gone", "Say where to go: persona bisect reset REV"
            )
        commit = refs_.head_commit({**refs, refs_.HEAD: head})
        change.set_ref(refs_.HEAD, head)
        for name in refs:
            if name.startswith(REFS):
                change.set_ref(name, None)
        change.set_recipe_text(get_text(repo.objects, repo.commit(commit).text))
        return BisectEnd(commit, refs_.current_branch({refs_.HEAD: head}))


def _head_for(repo: Repository, rev: str) -> str:
    """What HEAD holds on a branch, or on another revision."""
    return refs_.SYMBOLIC + refs_.BRANCHES + rev if refs_.BRANCHES + rev in repo.refs() else repo.resolve(rev)


def run(repo: Repository, judge: Judge, told: Callable[[BisectState], None] = lambda _: None) -> BisectState:
    """Test commit after commit with ``judge`` until nothing more can be told; ``told`` hears of every step."""
    now = state(repo)
    if not now.suspects:
        raise UsageError(
            "there is nothing to be tested yet", "Mark a bad and a good commit: persona bisect start BAD GOOD"
        )
    while now.here is not None:
        told(now)
        verdict = judge(now.here)
        now = mark(repo, verdict, command=f"bisect {verdict}")
    return now


def bisect(repo: Repository, bad: str, good: Sequence[str], judge: Judge) -> BisectState:
    """A whole search: where ``bad`` and ``good`` parted. HEAD is back where it was at the end, whatever happens."""
    start(repo, bad, good)
    try:
        return run(repo, judge)
    finally:
        reset(repo)


class _Known:
    """What is known of commits, and what follows from that."""

    def __init__(
        self,
        repo: Repository,
        bad: CommitId | None,
        good: Sequence[CommitId] = (),
        skipped: Sequence[CommitId] = (),
    ) -> None:
        self._repo = repo
        self.bad, self.good, self.skipped = bad, list(good), list(skipped)

    def learn(self, verdict: str, commit: CommitId) -> None:
        """One more mark."""
        if verdict == "bad":
            self.bad = commit
        elif verdict in (GOOD, SKIP):
            kept = self.good if verdict == GOOD else self.skipped
            kept += [commit] if commit not in kept else []
        else:
            raise UsageError(f"'{verdict}' is no verdict", "A commit is good, bad, or to be skipped (skip).")

    def halving(self) -> Halving | None:
        """What is left; None while a good or a bad commit is missing. Refused if the marks contradict each other."""
        if self.bad is None or not self.good:
            return None
        ancestry = self._repo.ancestry
        below = ancestry.of([self.bad])
        for good in self.good:
            if self.bad in ancestry.of([good]):
                raise Refusal(
                    f"{good.short} is marked good and comes after {self.bad.short}, which is marked bad",
                    "One of the two marks is wrong: persona undo takes the last one back.",
                )
            if good not in below:
                bases = ", ".join(base.short for base in ancestry.merge_bases([good], self.bad))
                raise Refusal(
                    f"the bad commit {self.bad.short} does not descend from the good one {good.short}",
                    f"Their histories parted at {bases}: test that, and mark it instead.",
                )
        return halve(ancestry, self.bad, self.good, frozenset(self.skipped))

    def keep(self, change: Transaction) -> BisectState:
        """Write the marks, and check out the commit to be tested next."""
        told = self.told()
        wanted = {f"{GOODS}{c}": c for c in self.good} | {f"{SKIPS}{c}": c for c in self.skipped}
        for name, value in {**wanted, BAD: self.bad}.items():
            change.set_ref(name, value)
        if told.here is not None:
            change.set_ref(refs_.HEAD, told.here)
            change.set_recipe_text(get_text(self._repo.objects, self._repo.commit(told.here).text))
        return told

    def told(self) -> BisectState:
        """Where that leads."""
        left = self.halving()
        if left is None or self.bad is None:
            return BisectState(self.bad, tuple(self.good), None, "", (), 0)
        found = self.bad if len(left.suspects) == 1 else None
        shown = found or left.next
        subject = self._repo.commit(shown).subject if shown else ""
        changed = self._changes(found) if found else ()
        return BisectState(self.bad, tuple(self.good), left.next, subject, left.suspects, left.steps, found, changed)

    def _changes(self, commit: CommitId) -> tuple[RecipeChange, ...]:
        repo = self._repo
        parents = repo.commit(commit).parents
        return tuple(changes(repo.recipe(parents[0]), repo.recipe(commit), repo.objects)) if parents else ()


def _known(repo: Repository) -> _Known:
    refs = repo.refs()
    if not refs_.is_bisecting(refs):
        raise Refusal("no search is under way", "Begin one: persona bisect start BAD GOOD")
    kept = {kind: [refs_.commit_of(n, refs) for n in sorted(refs) if n.startswith(kind)] for kind in (GOODS, SKIPS)}
    return _Known(repo, refs_.commit_of(BAD, refs) if BAD in refs else None, kept[GOODS], kept[SKIPS])
