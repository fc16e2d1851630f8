"""``persona bisect``: find the commit that made something worse, by binary search.

The marks are kept in refs, so that every mark is an operation, and ``undo`` takes a wrong one back:

    refs/bisect/from        what HEAD was before: a branch or a commit
    refs/bisect/bad         the oldest commit known to be bad
    refs/bisect/good/<id>   commits known to be good
    refs/bisect/skip/<id>   commits that cannot be tested
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.bisection import Halving, halve
from persona.ids import CommitId
from persona.recipe.changes import RecipeChange, changes
from persona.repository import Repository, Transaction
from persona.workspace.record import clean_recipe

REFS, FROM = refs_.BISECT, refs_.BISECT_FROM
BAD, GOODS, SKIPS = f"{REFS}bad", f"{REFS}good/", f"{REFS}skip/"
GOOD, SKIP = "good", "skip"

Judge = Callable[[CommitId], str]
"""Returns ``good``, ``bad`` or ``skip`` for the commit that is checked out."""


@dataclass(frozen=True)
class BisectState:
    """The state of a search.

    ``here`` is the commit to test next, with its ``subject``; null if the search is over, or has no good or no bad commit yet.
    ``suspects`` are the commits that may be the first bad one, and ``steps`` about how many more tests are needed. ``found`` is
    the first bad commit, and ``changes`` what it changed in the recipe. If the suspects that are left cannot be tested, ``found``
    is null and any of them may be it.
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
        """Whether the search is over."""
        return bool(self.suspects) and self.here is None


def start(
    repo: Repository, bad: str | None = None, good: Sequence[str] = (), *, command: str = "bisect start"
) -> BisectState:
    """Start a search, and check out the first commit to test once a bad and a good commit are known.

    Args:
        bad: A bad revision; may be marked later.
        good: Good revisions; may be marked later.
        command: The command line, for the operation log.

    Raises:
        Refusal: a search is in progress, the recipe is edited, or a good commit is not an ancestor of the bad one.
    """
    with clean_recipe(repo, command) as (change, _):
        refs = repo.refs()
        if refs_.is_bisecting(refs):
            raise Refusal("a bisect is in progress", "Mark commits, or end it: persona bisect reset")
        change.set_ref(FROM, refs[refs_.HEAD])
        marks = _Marks(repo, repo.resolve(bad) if bad else None, [repo.resolve(rev) for rev in good])
        return marks.keep(change)


def mark(repo: Repository, verdict: str, revs: Sequence[str] = (), *, command: str = "bisect") -> BisectState:
    """Mark commits, and check out the next one to test.

    Args:
        verdict: ``good``, ``bad`` or ``skip``.
        revs: The commits; the one that is checked out if empty.
        command: The command line, for the operation log.

    Raises:
        Refusal: no search is in progress, the recipe is edited, or the marks contradict each other.
    """
    with clean_recipe(repo, command) as (change, _):
        marks = _marks(repo)
        for rev in revs or [refs_.HEAD]:
            marks.learn(verdict, repo.resolve(rev))
        return marks.keep(change)


def state(repo: Repository) -> BisectState:
    """The state of the search in progress."""
    return _marks(repo).state()


@dataclass(frozen=True)
class BisectEnd:
    """Where HEAD is after the search; ``branch`` is null if it is detached."""

    commit: CommitId
    branch: str | None


def reset(repo: Repository, rev: str | None = None, *, command: str = "bisect reset") -> BisectEnd:
    """End the search, and go back to where it started, or to ``rev``."""
    with clean_recipe(repo, command) as (change, _):
        _marks(repo)
        refs = repo.refs()
        head = _head_for(repo, rev) if rev is not None else refs[FROM]
        if head.removeprefix(refs_.SYMBOLIC) not in refs and head.startswith(refs_.SYMBOLIC):
            name = refs_.short_name(head.removeprefix(refs_.SYMBOLIC))
            raise Refusal(
                f"the search started on branch '{name}', which was deleted",
                "Name another revision: persona bisect reset REV",
            )
        commit = refs_.head_commit({**refs, refs_.HEAD: head})
        change.set_ref(refs_.HEAD, head)
        for name in refs:
            if name.startswith(REFS):
                change.set_ref(name, None)
        change.set_recipe_text(repo.text(commit))
        return BisectEnd(commit, refs_.current_branch({refs_.HEAD: head}))


def _head_for(repo: Repository, rev: str) -> str:
    """The contents of HEAD for a branch, or for another revision."""
    return refs_.SYMBOLIC + refs_.BRANCHES + rev if refs_.BRANCHES + rev in repo.refs() else repo.resolve(rev)


def run(repo: Repository, judge: Judge, on_step: Callable[[BisectState], None] = lambda _: None) -> BisectState:
    """Test commits with ``judge`` until the search is over; ``on_step`` is called before each test.

    Raises:
        UsageError: no bad or no good commit is marked.
    """
    now = state(repo)
    if not now.suspects:
        raise UsageError("there is nothing to test yet", "Mark a bad and a good commit: persona bisect start BAD GOOD")
    while now.here is not None:
        on_step(now)
        verdict = judge(now.here)
        now = mark(repo, verdict, command=f"bisect {verdict}")
    return now


def bisect(repo: Repository, bad: str, good: Sequence[str], judge: Judge) -> BisectState:
    """Run a whole search between ``bad`` and ``good``, and put HEAD back, even after an error."""
    start(repo, bad, good)
    try:
        return run(repo, judge)
    finally:
        reset(repo)


class _Marks:
    """The marks of a search, and what follows from them."""

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
        """Add a mark."""
        if verdict == "bad":
            self.bad = commit
        elif verdict in (GOOD, SKIP):
            marked = self.good if verdict == GOOD else self.skipped
            marked += [commit] if commit not in marked else []
        else:
            raise UsageError(f"unknown verdict '{verdict}'", "Mark a commit good, bad or skip.")

    def halving(self) -> Halving | None:
        """The suspects and the next commit; None if no good or no bad commit is marked. Raises Refusal if marks contradict each other."""
        if self.bad is None or not self.good:
            return None
        ancestry = self._repo.ancestry
        below = ancestry.of([self.bad])
        for good in self.good:
            if self.bad in ancestry.of([good]):
                raise Refusal(
                    f"{good.short} is marked good, but descends from {self.bad.short}, which is marked bad",
                    "One of the two marks is wrong: persona undo takes back the last one.",
                )
            if good not in below:
                bases = ", ".join(base.short for base in ancestry.merge_bases([good], self.bad))
                raise Refusal(
                    f"the bad commit {self.bad.short} does not descend from the good one {good.short}",
                    f"Test and mark their merge base {bases} instead.",
                )
        return halve(ancestry, self.bad, self.good, frozenset(self.skipped))

    def keep(self, change: Transaction) -> BisectState:
        """Write the marks, and check out the next commit to test."""
        now = self.state()
        wanted = {f"{GOODS}{c}": c for c in self.good} | {f"{SKIPS}{c}": c for c in self.skipped}
        for name, value in {**wanted, BAD: self.bad}.items():
            change.set_ref(name, value)
        if now.here is not None:
            change.set_ref(refs_.HEAD, now.here)
            change.set_recipe_text(self._repo.text(now.here))
        return now

    def state(self) -> BisectState:
        """The state of the search."""
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


def _marks(repo: Repository) -> _Marks:
    refs = repo.refs()
    if not refs_.is_bisecting(refs):
        raise Refusal("no bisect is in progress", "Start one: persona bisect start BAD GOOD")
    kept = {kind: [refs_.commit_of(n, refs) for n in sorted(refs) if n.startswith(kind)] for kind in (GOODS, SKIPS)}
    return _Marks(repo, refs_.commit_of(BAD, refs) if BAD in refs else None, kept[GOODS], kept[SKIPS])
