"""The engine of the demo's stories: it tells chapters, shows the commands of each step, and keeps tables and findings.

A story calls public verbs and shows the equivalent commands. It prints nothing itself: a `Narrator` shows the steps, and
results are tables (`persona.demo.telling`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import persona
from persona import files
from persona.demo import tables
from persona.demo.telling import Chapter, DemoResult, DemoTable, Finding, Narrator, Reply
from persona.progress import Progress
from persona.recipe import edit
from persona.repository import Repository

AUTHOR = "persona demo"


class Teller:
    """The state shared by the chapters of a story: folders, narrator, and the results so far."""

    def __init__(self, root: Path, narrator: Narrator, progress: Progress, dtype: str) -> None:
        self.root = root
        self.base = root / "models" / "base"
        self.narrator = narrator
        self.progress = progress
        self.options = persona.MeasureOptions(dtype=dtype, allow_code=True)
        self.chapters: list[Chapter] = []
        self.findings: list[Finding] = []

    @property
    def repo(self) -> Repository:
        """The demo's repository."""
        return persona.open(self.root)

    @property
    def dtype(self) -> str:
        """The dtype that models are measured in."""
        return str(self.options.dtype)

    def result(self, about: str, replies: tuple[Reply, ...], runs: int, identical: bool) -> DemoResult:
        """The finished story, of `runs` training runs."""
        kept, whole = _size(self.root / ".persona"), (1 + runs) * _size(self.base)
        return DemoResult(about, tuple(self.chapters), replies, tuple(self.findings), kept, whole, identical)

    # Telling.

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self.chapters.append(Chapter(title, text, (), ()))
        self.narrator.chapter(title, text)

    def typed(self, command: str) -> None:
        """Show a command in the current chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, commands=(*last.commands, command))
        self.narrator.command(command)

    def table(self, table: DemoTable) -> None:
        """Show a table in the current chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, tables=(*last.tables, table))
        self.narrator.table(table)

    def show(self, replies: Sequence[Reply]) -> None:
        """Show replies side by side in the current chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, replies=(*last.replies, *replies))
        self.narrator.replies(replies)

    # Steps.

    def tag(self, name: str) -> None:
        """Tag the commit, so that its measurements can be reproduced."""
        self.typed(f"persona tag {name}")
        persona.tag(self.repo, name)

    def measured(self, suite: str, *revs: str) -> tables.Measured:
        """Evaluate revisions and show the scores."""
        command = f"persona eval {shlex.join(revs)} --suite {suite} --dtype {self.dtype}"
        self.typed(command)
        done = persona.eval(
            self.repo, revs, suites=[suite], options=self.options, cwd=self.root, progress=self.progress
        )
        self.table(tables.evaluated(command, revs, done))
        return tables.Measured(command, revs, done)

    def alone(self, suite: str, rev: str, kinds: dict[str, str]) -> None:
        """Measure each vector alone, and noise of the same size; `kinds` has the measure of what each one learns."""
        command = f"persona verify-vectors --suite {suite} --at {rev} --alpha 1 --dtype {self.dtype}"
        self.typed(command)
        done = persona.verify_vectors(
            self.repo, suites=[suite], at=rev, alpha=1.0, options=self.options, cwd=self.root, progress=self.progress
        )
        for table in tables.alone(command, done):
            self.table(table)
        self.findings.append(tables.each_learnt(command, done, kinds))

    def write_method(self, method: str, scale: float = 1.0) -> None:
        """Set the merge method in `persona.toml`."""
        path = self.repo.recipe_path
        scaled = "" if scale == 1 else f", scale = {scale:g}"
        self.typed(f'# in persona.toml: [merge] method = "{method}"{scaled}')
        files.write_file(path, edit.set_merge(path.read_text(), method, scale, {}).encode())

    def commit(self, message: str) -> None:
        """Commit `persona.toml`, if it was changed."""
        if not persona.status(self.repo).edited:
            return
        persona.commit(self.repo, message=message, author=AUTHOR)
        self.typed(f"persona commit -m {shlex.quote(message)}")

    def switch(self, branch: str, *, create: bool = False) -> None:
        """Switch to a branch."""
        self.typed(f"persona switch {'-c ' if create else ''}{branch}")
        persona.switch(self.repo, branch, create=create)

    def build(self, rev: str, folder: str) -> None:
        """Build a revision."""
        self.typed(f"persona build {rev} -o {folder}")
        persona.build(self.repo, self.root / folder, rev, progress=self.progress)

    def deliver(self, before: str, *others: str) -> bool:
        """Build, verify, roll back to `before` and build again; return whether both builds have the same bytes."""
        self.chapter(
            "Build, verify and roll back",
            "A build records its commit, and verify detects any changed byte. Rolling back gives exactly the same bytes.",
        )
        self.build("main", "builds/personality")
        for rev in others:
            self.build(rev, f"builds/{rev}")
        self.build(before, "builds/last-week")
        self.typed("persona verify builds/personality")
        ok = persona.verify(self.root / "builds" / "personality").ok
        self.narrator.say("unchanged since it was built" if ok else "CHANGED since it was built")
        self.typed(f"persona checkout {before} && persona build -o builds/rolled-back")
        persona.checkout(self.repo, before)
        persona.build(self.repo, self.root / "builds" / "rolled-back", progress=self.progress)
        persona.checkout(self.repo, "main")
        self.typed("persona checkout main")
        command = "diff -r builds/last-week builds/rolled-back"
        self.typed(command)
        first, second = (_contents(self.root / "builds" / name) for name in ("last-week", "rolled-back"))
        same = first == second
        claim = "the rolled-back build equals the first one, byte for byte"
        self.findings.append(Finding(claim, same, "no difference" if same else "they differ", command))
        claim, command = "the build matches its receipt", "persona verify builds/personality"
        self.findings.append(Finding(claim, ok, "verified" if ok else "it has changed", command))
        return same


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*") if path.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
