"""How long commands take in a long history: ``python -m tests.bench.history DIR [--rounds 5] [--git git] [--only TABLE]``.

Makes a repository of 2,000 commits and 300 vectors in DIR, unless it is there: 200 branches with two commits each, merged
one after the other; 300 runs recorded; and alphas changed in between. One branch is not merged yet. Every commit has its
operation, as when commands had made them; times of commits are four hours apart. The recipe's text goes into a git
repository with the same history, too.

Each command is a process of its own. Those that change something are taken back by the next one, so that every round
finds the same. Prints a table of median wall times, and git's for the same, where git has a command for it. A second
table has ``log`` where something was measured, turn by turn with ``log`` where nothing was. ``--only measured`` prints that alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file

import persona
from persona.history import refs as refs_
from persona.history.commits import Commit, get_text, put_text, walk
from persona.history.evaluations import FOLDER as EVALUATIONS
from persona.history.evaluations import Evaluation, Figure
from persona.ids import CommitId, RecipeId
from persona.progress import SILENT
from persona.recipe.builds import build_digest
from persona.recipe.edit import new_text
from persona.recipe.model import Entry, Recipe
from persona.workspace.ingest import ingest_folder
from tests.bench.measure import Took, middle, run
from tests.models import TinyModels

COMMITS, VECTORS, MERGES = 2_000, 300, 200
BRANCHES, TAGS = 100, 100
BEGUN = datetime(2025, 1, 1, tzinfo=UTC)

ROUND: list[tuple[list[str], list[str] | None]] = [
    (["status"], ["status"]),
    (["log", "--oneline"], ["log", "--oneline"]),
    (["log"], ["log"]),
    (["log", "-n", "20"], ["log", "-n", "20"]),
    (["log", "--graph", "--oneline", "--all"], ["log", "--graph", "--oneline", "--all"]),
    (["log", "--since", "2025-11-20"], ["log", "--since", "2025-11-20"]),
    (["log", "--vector", "v7"], None),
    (["show", "HEAD"], ["show", "HEAD"]),
    (["show", "v7"], None),
    (["vectors"], None),
    (["diff"], ["diff"]),
    (["diff", "HEAD~100"], ["diff", "HEAD~100"]),
    (["diff", "HEAD~1500", "HEAD"], ["diff", "HEAD~1500", "HEAD"]),
    (["branch"], ["branch"]),
    (["tag"], ["tag"]),
    (["op", "log", "-n", "20"], ["reflog", "-n", "20"]),
    (["graph", "status"], None),
    (["checkout", "HEAD~100"], ["checkout", "-q", "HEAD~100"]),
    (["switch", "main"], ["switch", "-q", "main"]),
    (["switch", "side"], ["switch", "-q", "side"]),
    (["switch", "-"], ["switch", "-q", "-"]),
    (["branch", "new"], ["branch", "new"]),
    (["branch", "-d", "new"], ["branch", "-d", "new"]),
    (["tag", "new"], ["tag", "new"]),
    (["tag", "-d", "new"], ["tag", "-d", "new"]),
    (["merge", "side", "--no-report"], ["merge", "-q", "--no-edit", "side"]),
    (["undo"], ["reset", "-q", "--hard", "HEAD^"]),
    (["revert", "HEAD~1"], ["revert", "--no-edit", "HEAD~1"]),
    (["undo"], None),
    (["redo"], None),
    (["undo"], ["reset", "-q", "--hard", "HEAD^"]),
    (["alpha", "v7=0.25"], None),
    (["undo"], None),
]
"""A command of persona, and git's for the same."""


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["commands", "measured"], help="one of the tables")
    parser.add_argument("--git", help="the git to measure beside persona; none otherwise")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    _as_installed(args.folder.absolute())
    root, peer = args.folder.absolute() / "history", args.folder.absolute() / "history-git"
    if not root.exists():
        _make(root, args.folder)
    if args.only != "measured":
        _commands(root, peer, args)
    if args.only != "commands":
        _beside_measurements(root, args.folder.absolute(), args.rounds)


def _commands(root: Path, peer: Path, args: argparse.Namespace) -> None:
    if args.git and not peer.exists():
        _make_git(peer, root, args.git)
    ours = _rounds([[_persona(), *words] for words, _ in ROUND], root, args.rounds)
    theirs = _rounds([[args.git, *words] if words else [] for _, words in ROUND], peer, args.rounds) if args.git else []
    print("| | wall | CPU | git, wall |\n|---|---|---|---|")
    for number, (words, _) in enumerate(ROUND):
        beside = f"{theirs[number].wall:.3f} s" if theirs and theirs[number].wall else ""
        print(f"| `{' '.join(words)}` | {ours[number].wall:.2f} s | {ours[number].cpu:.2f} s | {beside} |")


LOGS = (["log"], ["log", "--json"], ["log", "-n", "20"])


def _beside_measurements(root: Path, folder: Path, rounds: int) -> None:
    """``log`` with the build of HEAD measured, and with every build; each divided by the ``log`` of its turn without."""
    shelves = {"one build": folder / "measured-one", "every build": folder / "measured-all"}
    if not all(shelf.exists() for shelf in shelves.values()):
        repo = persona.open(root)
        recipes = [commit.recipe for _, commit in walk(repo.objects, [repo.head()])]
        for shelf, chosen in zip(shelves.values(), (recipes[:1], dict.fromkeys(recipes)), strict=True):
            _measure(repo, chosen)
            repo.evaluations.folder.rename(shelf)
    print("| | nothing measured, CPU | one build | every build |\n|---|---|---|---|")
    for words in LOGS:
        command = [_persona(), *words]
        turns = [
            [run(command, root), *(_with(shelf, command, root) for shelf in shelves.values())]
            for _ in range(rounds + 1)
        ]
        plain, *others = zip(*turns[1:], strict=True)
        ratios = [sorted(b.cpu / a.cpu for a, b in zip(plain, other, strict=True)) for other in others]
        cells = " | ".join(f"{median(one):.2f} × ({one[0]:.2f} to {one[-1]:.2f})" for one in ratios)
        print(f"| `{' '.join(words)}` | {middle(plain).cpu:.2f} s | {cells} |")


def _measure(repo: persona.Repository, recipes: Iterable[RecipeId]) -> None:
    """One suite's number of each recipe, over 100 examples, as if it had been measured."""
    figure = Figure("answers", "loss", "lower", "nats/token", 1.5, 1.25, 1.75, (3.0,) * 100, (2.0,) * 100)
    for recipe in recipes:
        build = build_digest(Recipe.get(repo.objects, recipe))
        found = Evaluation(build, "calm", "d" * 64, 0, None, BEGUN.isoformat(), {"device": "cpu"}, (figure,))
        repo.evaluations.keep("c" * 64, found)


def _with(shelf: Path, command: Sequence[str], root: Path) -> Took:
    place = root / ".persona" / EVALUATIONS
    shelf.rename(place)
    try:
        return run(command, root)
    finally:
        place.rename(shelf)


def _as_installed(folder: Path) -> None:
    """Compiled modules are kept, as pip leaves them, whatever the environment says."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "pycache")


def _persona() -> str:
    return shutil.which("persona", path=str(Path(sys.executable).parent)) or "persona"


def _rounds(commands: Sequence[list[str]], root: Path, rounds: int) -> list[Took]:
    """The medians of each command over the rounds, after one that is not counted; 0 for an empty one."""
    took = [[run(words, root) if words else Took(0, 0, 0, 0) for words in commands] for _ in range(rounds + 1)]
    return [middle(column) for column in zip(*took[1:], strict=True)]


@dataclass
class _Writer:
    """Adds commits to a repository, and their operations, without the price of the commands."""

    repo: persona.Repository
    recipe: Recipe
    count: int = 1

    def commit(self, recipe: Recipe, message: str, also: tuple[CommitId, ...] = ()) -> None:
        """A commit on the current branch."""
        repo, objects = self.repo, self.repo.objects
        time = (BEGUN + self.count * timedelta(hours=4)).isoformat()
        text = _text(recipe)
        with repo.transaction(f"commit -m {message!r}") as change:
            parents = (repo.head(), *also)
            made = Commit(recipe.put(objects), put_text(objects, text), parents, "A <a@example.org>", time, message)
            change.advance(made.put(objects))
            change.set_recipe_text(text)
        self.recipe, self.count = recipe, self.count + 1

    def alpha(self) -> None:
        """The next vector's alpha changes."""
        self.commit(*_moved(self.recipe, self.count))

    def side(self, number: int) -> None:
        """A branch with two commits, and one on ours, merged."""
        persona.switch(self.repo, f"side-{number}", create=True)
        before = self.recipe
        self.alpha()
        self.alpha()
        theirs, tip = self.recipe, self.repo.head()
        persona.switch(self.repo, "main")
        self.recipe = before
        self.commit(theirs, f"merge side-{number}", (tip,))


def _moved(recipe: Recipe, number: int) -> tuple[Recipe, str]:
    place, alpha = number % len(recipe.vectors), round(0.1 + number % 17 / 10, 1)
    entries = list(recipe.vectors)
    entries[place] = replace(entries[place], alpha=alpha)
    return replace(recipe, vectors=tuple(entries)), f"{entries[place].name} α {alpha}"


def _text(recipe: Recipe) -> str:
    entries = (f'\n[vectors.{one.name}]\nid = "{one.id[:12]}"\nalpha = {one.alpha}\n' for one in recipe.vectors)
    return new_text(recipe.base_name, recipe.base_id) + "".join(entries)


def _make(root: Path, folder: Path) -> None:
    """The repository: first all its vectors, then the history."""
    base = TinyModels(folder).base()
    persona.init(root, base, author="A <a@example.org>")
    repo = persona.open(root)
    first = repo.recipe(repo.head())
    with repo.transaction("init, in the past") as change:
        change.advance(replace(repo.commit(repo.head()), time=BEGUN.isoformat()).put(repo.objects))
    entries = [Entry(f"v{seed}", _vector(repo, base, folder / "run", seed)) for seed in range(VECTORS)]
    writer = _Writer(repo, first)
    steps = COMMITS - 1 - VECTORS - 3 * MERGES - 4
    for number in range(VECTORS):
        writer.commit(replace(first, vectors=tuple(entries[: number + 1])), f"add v{number}")
        if number % 3 == 2:
            writer.alpha()
            steps -= 1
    for number in range(MERGES):
        writer.side(number)
        for _ in range(steps // MERGES + (number < steps % MERGES)):
            writer.alpha()
        _names(repo, number)
    _last_branch(writer)
    shutil.rmtree(folder / "run")


def _names(repo: persona.Repository, number: int) -> None:
    """Some branches go when they are merged; some commits get a tag."""
    if number < MERGES - BRANCHES:
        with repo.transaction(f"branch -d side-{number}") as change:
            change.set_ref(f"{refs_.BRANCHES}side-{number}", None)
    if number < TAGS:
        persona.tag(repo, f"t{number}")


def _last_branch(writer: _Writer) -> None:
    """``side``, with two commits that main does not have, and two of main's own."""
    main = writer.recipe
    persona.switch(writer.repo, "side", create=True)
    writer.alpha()
    writer.alpha()
    persona.switch(writer.repo, "main")
    writer.recipe = main
    writer.alpha()
    writer.alpha()


def _vector(repo: persona.Repository, base: Path, run_folder: Path, seed: int) -> str:
    """A vector of its own: every weight moved a little."""
    shutil.rmtree(run_folder, ignore_errors=True)
    shutil.copytree(base, run_folder)
    weights = run_folder / "model.safetensors"
    rng = torch.Generator().manual_seed(seed)
    moved = {
        n: (w.float() + 1e-3 * torch.randn(w.shape, generator=rng)).to(w.dtype) for n, w in load_file(weights).items()
    }
    save_file(moved, weights, metadata={"format": "pt"})
    recipe = repo.recipe(repo.head())
    return ingest_folder(repo, recipe.base_id, run_folder, SILENT).vector.put(repo.objects)


def _make_git(peer: Path, root: Path, git: str) -> None:
    """The same commits, of persona.toml alone, in a git repository."""
    repo = persona.open(root)
    peer.mkdir()
    subprocess.run([git, "init", "-q", "-b", "main"], cwd=peer, check=True)
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        subprocess.run([git, "config", key, value], cwd=peer, check=True)
    subprocess.run([git, "fast-import", "--quiet"], cwd=peer, input=_stream(repo), check=True)
    subprocess.run([git, "reset", "-q", "--hard", "main"], cwd=peer, check=True)


def _stream(repo: persona.Repository) -> bytes:
    """The history as ``git fast-import`` reads it: parents first."""
    refs = repo.refs()
    tips = {name: value for name, value in refs.items() if name != refs_.HEAD}
    marks: dict[str, int] = {}
    out: list[bytes] = []
    for name, commit in sorted(
        walk(repo.objects, [CommitId(tip) for tip in set(tips.values())]), key=lambda one: one[1].time
    ):
        marks[name] = len(marks) + 1
        when = int(datetime.fromisoformat(commit.time).timestamp())
        text, said = get_text(repo.objects, commit.text).encode(), commit.message.encode()
        links = [f"{word} :{marks[p]}\n" for word, p in zip(("from", "merge"), commit.parents, strict=False)]
        head = f"commit refs/import\nmark :{marks[name]}\ncommitter A <a@example.org> {when} +0000\n"
        out += [head.encode(), b"data %d\n%s\n" % (len(said), said), "".join(links).encode()]
        out += [b"M 644 inline persona.toml\ndata %d\n%s\n" % (len(text), text)]
    out += [f"reset {name}\nfrom :{marks[value]}\n\n".encode() for name, value in tips.items()]
    out += [b"reset refs/import\nfrom 0000000000000000000000000000000000000000\n\n"]
    return b"".join(out)


if __name__ == "__main__":
    main()
