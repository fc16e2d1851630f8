"""The whole loop in Python: init, commit, negate, build, verify, go back.

    python examples/commit_from_python.py models/base runs/listening runs/suggesting my-repo

The second run is a behaviour that is to be taken away. ``my-repo`` is a new folder; the builds go into it too.
Every verb returns a frozen result, and raises a ``persona.PersonaError`` with a message and a hint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole loop in Python.")
    parser.add_argument("base", type=Path, help="a pretrained checkpoint")
    parser.add_argument("wanted", type=Path, help="a run that shows a behaviour to add")
    parser.add_argument("unwanted", type=Path, help="a run that shows a behaviour to take away")
    parser.add_argument("root", type=Path, help="the new folder to work in")
    args = parser.parse_args()
    try:
        loop(args.base, args.wanted, args.unwanted, args.root)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")


def loop(base: Path, wanted: Path, unwanted: Path, root: Path) -> None:
    persona.init(root, base, author="example")
    repo = persona.open(root)

    for folder, name in [(wanted, "wanted"), (unwanted, "unwanted")]:
        done = persona.commit(repo, folder, name=name, author="example", meta={"script": Path(__file__).name})
        print(f"{name}: {done.form}, {done.tensors} tensors, {done.kept_bytes:,} bytes kept of {done.total_bytes:,}")

    first = persona.build(repo, root / "builds" / "first")
    persona.negate(repo, "unwanted", alpha=0.5, author="example")
    second = persona.build(repo, root / "builds" / "second")
    for built in (first, second):
        checked = persona.verify(built.folder)
        alphas = ", ".join(f"{entry.name} {entry.alpha:+g}" for entry in checked.recipe.vectors)
        print(f"{built.folder.name}: {alphas}, {'verified' if checked.ok else 'CHANGED'}")

    persona.checkout(repo, "HEAD~1")
    again = persona.build(repo, root / "builds" / "again")
    print(f"rolled back: {'the same bytes' if again.id == first.id else 'NOT the same bytes'} as first")
    persona.checkout(repo, "main")
    for one in persona.log(repo):
        print(f"{one.commit[:7]} {one.subject}")


if __name__ == "__main__":
    main()
