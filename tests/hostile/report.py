"""The whole suite: which commands are run on which forgeries, in one process that forks, and the counts of how they ended."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.faults.zygote import warm_up
from tests.hostile import commands, forge, receipts, weights
from tests.hostile.forge import Forgery, Store
from tests.hostile.trial import Laboratory, Trial, put

ALWAYS = ("status", "log --graph --all", "show", "fsck", "build -o {out}/a")
"""Run on every forgery, whatever it is."""

SHARED = Path("/dev/shm")
"""Memory as a folder: what is tried there a hundred thousand times need not reach a disk."""

SHARE = 5
"""How many of the other lines are run on a forgery; the next forgery gets the next ones."""


def every_forgery(store: Store, built: Mapping[str, bytes]) -> list[Forgery]:
    """All of them, in a fixed order; ``built`` are the files of a build."""
    firsts = {kind: store.of_kind(kind)[0] for kind in sorted({store.kind(name) for name in store.order})}
    return [*forge.objects(store), *forge.loose_files(store, firsts), *forge.specials(store), *weights.weights(store),
            *receipts.receipts(store, built)]  # fmt: skip


def lines_for(number: int, lines: Sequence[str], part: str = "") -> list[str]:
    """The lines that are run on the forgery of this number; all that contain ``part``, if there is one."""
    if part:
        return [line for line in lines if part in line]
    always = [line for line in ALWAYS if line in lines]
    others = [line for line in lines if line not in always]
    start = number * SHARE % len(others)
    return [*always, *itertools.islice(itertools.cycle(others), start, start + SHARE)]


def trials(
    lab: Path, store: Store, chosen: Sequence[tuple[int, Forgery]], lines: Sequence[str], part: str
) -> Iterator[Trial]:
    """Run them; the repository is left as it was."""
    looking = [line for group in commands.LOOKING.values() for line in group]
    laboratory = Laboratory(lab, looking)
    for number, forgery in chosen:
        yield from laboratory.run(forgery.name, forgery.make(), forgery.lines or lines_for(number, lines, part))
    put(laboratory.root, store.files)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=Path, help="folder that world.grow made")
    parser.add_argument("--sample", type=int, help="number of forgeries, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="1/1", help="such as 1/2: this part of all forgeries, for several processes")
    parser.add_argument("--only", default="", help="forgeries whose name contains this")
    parser.add_argument("--line", default="", help="run lines that contain this alone")
    parser.add_argument("--running", action="store_true", help="run the lines that run a model, and no others")
    parser.add_argument("--breaches", type=Path, help="file for what was found, as JSON lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as temporary:
        lab = options.world or _grown(Path(temporary) / "lab")
        counts = _run(lab, options)
    sys.stdout.write(json.dumps(counts) + "\n")
    sys.exit(1 if counts["breaches"] else 0)


def _grown(lab: Path) -> Path:
    """A new world, made in a fork so that this process does without torch."""
    child = os.fork()
    if child == 0:
        from tests.hostile.world import grow

        grow(lab)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return lab


def _run(lab: Path, options: argparse.Namespace) -> dict[str, object]:
    store, built = Store(files_below(lab / "parent" / "work")), files_below(lab / "built")
    warm_up()
    if options.running:
        for name in ("torch", "transformers", "peft", "optuna"):
            importlib.import_module(name)
    numbered = [(n, f) for n, f in enumerate(every_forgery(store, built)) if options.only in f.name]
    numbered = [(n, f) for n, f in numbered if not (options.running and f.lines)]
    part, parts = map(int, options.part.split("/"))
    numbered = numbered[part - 1 :: parts]
    if options.sample is not None:
        numbered = random.Random(options.seed).sample(numbered, min(options.sample, len(numbered)))
    groups = commands.RUNNING.values() if options.running else (*commands.LOOKING.values(), *commands.MOVING.values())
    lines = [line for group in groups for line in group]
    codes, found, tried = Counter[int](), 0, 0
    out = options.breaches.open("w") if options.breaches else sys.stderr
    for trial in trials(lab, store, numbered, lines, options.line):
        tried += 1
        codes[trial.code] += 1
        if trial.breaches:
            found += 1
            said = trial.said[-700:]
            out.write(
                json.dumps({"forgery": trial.forgery, "line": trial.line, "breaches": trial.breaches, "said": said})
                + "\n"
            )
            out.flush()
    return {
        "forgeries": len(numbered),
        "commands": tried,
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "breaches": found,
    }


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
