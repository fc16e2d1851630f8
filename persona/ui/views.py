"""What the pages show: the results of verbs, arranged for a template."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import PersonaError, UsageError
from persona.history.evaluations import number_called
from persona.recipe.alphas import alpha_text
from persona.ui import lanes
from persona.ui.chat import strengths_of
from persona.verbs.diff import diff
from persona.verbs.log import LogEntry, log
from persona.verbs.op_log import op_log
from persona.verbs.show import ShownCommit, show
from persona.verbs.status import status
from persona.verbs.vectors import vectors as vectors_of

if TYPE_CHECKING:
    from persona.evaluate.results import FigureDiff
    from persona.ids import CommitId
    from persona.repository import Repository
    from persona.ui.chat import Chat
    from persona.ui.jobs import Jobs

PAGE = 50
"""Commits of a page of the history."""
MOST = 2000


@dataclass(frozen=True)
class Asked:
    """One request: the repository as it is now, and what the address says."""

    repo: Repository
    query: Mapping[str, str]
    jobs: Jobs
    chat: Chat

    def get(self, name: str) -> str:
        """A value in the address; empty if it has none."""
        return self.query.get(name, "")

    def revision(self, name: str, otherwise: str = "HEAD") -> CommitId:
        """The commit that a value in the address names."""
        return self.repo.resolve(self.get(name).strip() or otherwise)


def history(asked: Asked) -> dict[str, Any]:
    """The result of ``log --all``, with the alphas of each commit and what ``diff`` says about its measures."""
    text = asked.get("n")
    limit = min(MOST, int(text)) if text.isdecimal() and len(text) < 6 and int(text) else PAGE
    entries = log(asked.repo, limit=limit + 1, everything=True, in_lines=True)
    shown = entries[:limit]
    drawn = lanes.rows((entry.commit, entry.nearest) for entry in shown)
    rows = [_row(asked.repo, entry, lane) for entry, lane in zip(shown, drawn, strict=True)]
    return {"rows": rows, "more": limit + PAGE if len(entries) > limit else 0, "limit": limit}


def _row(repo: Repository, entry: LogEntry, lane: lanes.LaneRow) -> dict[str, Any]:
    recipe = repo.recipe(entry.commit)
    changed: dict[tuple[str, str, str], FigureDiff] = {}
    if entry.measured and entry.parents:
        moves = diff(repo, entry.parents[0], entry.commit).measured
        changed = {(one.source, one.measure, one.name): one for one in moves}
    measured = [
        {"reading": one, "change": changed.get((one.source, one.measure, one.name)), "called": _called(one)}
        for one in entry.measured
    ]
    return {"entry": entry, "lane": lane, "recipe": recipe, "measured": measured}


def _called(figure: Any) -> str:
    return number_called(figure.measure, figure.name)


def revision(asked: Asked) -> dict[str, Any]:
    """The results of ``show``, ``vectors`` and, against the first parent, ``diff``."""
    name = asked.revision("rev")
    shown = show(asked.repo, name)
    assert isinstance(shown, ShownCommit)
    changed: dict[tuple[str, str, str], FigureDiff] = {}
    if shown.measured and shown.parents:
        moves = diff(asked.repo, shown.parents[0], name).measured
        changed = {(one.source, one.measure, one.name): one for one in moves}
    measured = [
        {"reading": one, "change": changed.get((one.source, one.measure, one.name)), "called": _called(one)}
        for one in shown.measured
    ]
    recipe = asked.repo.recipe(name)
    run = json.dumps(shown.run, indent=2, ensure_ascii=False)
    found = vectors_of(asked.repo, name)
    return {"shown": shown, "recipe": recipe, "vectors": found, "measured": measured, "run": run}


def compare(asked: Asked) -> dict[str, Any]:
    """The result of ``diff`` between two revisions, with both recipes."""
    if not asked.get("from").strip() and not asked.get("to").strip():
        head = asked.repo.commit(asked.repo.head())
        before, after = (head.parents[0] if head.parents else asked.repo.head()), asked.repo.head()
    else:
        before, after = asked.revision("from"), asked.revision("to")
    sides = [
        {"commit": name, "about": asked.repo.commit(name), "recipe": asked.repo.recipe(name)}
        for name in (before, after)
    ]
    old, new = (asked.repo.recipe(name) for name in (before, after))
    names = dict.fromkeys([*(entry.name for entry in old.vectors), *(entry.name for entry in new.vectors)])
    rows = [{"name": name, "before": old.entry(name), "after": new.entry(name)} for name in names]
    return {"sides": sides, "rows": rows, "diff": diff(asked.repo, before, after), "called": _called}


def recipe(asked: Asked) -> dict[str, Any]:
    """The result of ``status``, the newest operations, and the chat."""
    repo, chat = asked.repo, asked.chat
    now = status(repo)
    return {
        "status": now,
        "chat": chat,
        "tried": chat.strengths_at(now.commit),
        "strengths_of": strengths_of,
        "operations": op_log(repo, limit=8),
        "undoable": repo.log.to_undo(),
        "redoable": repo.log.to_redo(),
    }


def vectors(asked: Asked) -> dict[str, Any]:
    """What ``verify-vectors`` has measured of a revision."""
    from persona.verbs.verify_vectors import stored_vectors

    rev = asked.get("rev").strip()
    try:
        found = stored_vectors(asked.repo, at=asked.revision("rev") if rev else None)
        problem = None
    except UsageError as error:  # no suites, or no vector that acts
        found, problem = None, error
    return {"rev": rev, "found": found, "problem": problem, "called": _called}


def interference_key(repo: Repository, rev: str) -> Hashable:
    """What the interference of a revision, or of ``persona.toml``, depends on."""
    from persona.workspace.record import worktree_recipe

    found = repo.recipe(repo.resolve(rev)) if rev else worktree_recipe(repo)
    acting = tuple(
        (entry.name, entry.id, alpha_text(entry.alpha), entry.only, entry.excepted) for entry in found.vectors
    )
    return "interference", found.base, found.method, str(sorted(found.parameters.items())), acting


def interference(asked: Asked) -> dict[str, Any]:
    """The result of ``interference`` (the table of ``diff --weights``), once it was asked for."""
    rev = asked.get("rev").strip()
    job = asked.jobs.of(interference_key(asked.repo, rev))
    ended = job is not None and job.ended.is_set()
    report = job.result if job is not None and ended else None
    pairs = {}
    for pair in report.whole.pairs if report is not None else ():
        pairs[pair.one, pair.other] = pairs[pair.other, pair.one] = pair
    return {
        "rev": rev,
        "job": None if ended else job,
        "report": report,
        "pairs": pairs,
        "rows": (report.whole, *report.rows) if report is not None else (),
        "error": job.error if job is not None and ended else None,
    }


def readings(asked: Asked) -> dict[str, Any]:
    """The readouts of the recipe by ``show``, and what suites with a readout have measured of the newest commits."""
    repo = asked.repo
    problems = []
    readouts = []
    for state in status(repo).readouts:
        try:
            readouts.append(show(repo, state.name))
        except PersonaError as error:
            problems.append(error)
    entries = [entry for entry in log(repo, limit=20) if entry.measured]
    wanted = _reading_suites(repo)
    measured = []
    for entry in entries:
        shown = show(repo, entry.commit)
        assert isinstance(shown, ShownCommit)
        found = [one for one in shown.measured if (one.suite, one.measure) in wanted]
        measured += [(entry, found)] if found else []
    return {"readouts": readouts, "problems": problems, "measured": measured, "called": _called}


def _reading_suites(repo: Repository) -> set[tuple[str, str]]:
    """The measures, by suite, that read a readout."""
    from persona.evaluate.evaluator import suites_of

    try:
        suites = suites_of(repo)
    except UsageError:
        return set()
    return {(suite.name, measure.name) for suite in suites for measure in suite.measures if measure.reads is not None}
