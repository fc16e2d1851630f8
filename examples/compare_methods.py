"""Build the recipe under several merge methods, and see what each does.

    python examples/compare_methods.py linear ties iso_c tsv_m
    python examples/compare_methods.py ties:density=0.1 ties:density=0.5 --text chat.txt code.txt

For each method it prints the loss on every text (nats per token, lower is more like it), beside the base's. Texts
are as in compare_alphas.py; without a file they are held-out dialogues of the tutorial's model. persona.toml is
edited while it runs and is as it was afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compare_alphas import Texts, demo_texts, measure, read_text
from transformers.utils import logging

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="Build under several merge methods and compare them.")
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="such as linear, or ties:density=0.2,scale=1.5")
    parser.add_argument("--repo", default=".", help="the repository; the one we are in otherwise")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="files with an example on each line")
    args = parser.parse_args()
    logging.disable_progress_bar()
    texts = {path.stem: read_text(path) for path in args.text} or demo_texts()
    try:
        compare(persona.open(args.repo), args.methods, texts)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")


def compare(repo: persona.Repository, methods: list[str], texts: Texts) -> None:
    wide = max(len(one) for one in methods)
    print(" " * wide, *(f"{kind:>12}" for kind in texts))
    for said in methods:
        with merged_by(repo, said), tempfile.TemporaryDirectory() as folder:
            losses, _ = measure(persona.build(repo, Path(folder, "build")).folder, texts)
        print(f"{said:{wide}}", *(f"{loss:12.3f}" for loss in losses))


@contextlib.contextmanager
def merged_by(repo: persona.Repository, said: str) -> Iterator[None]:
    """The recipe under another method while the block lasts: ``base`` has no vectors at all."""
    before = repo.recipe_path.read_text()
    name, _, values = said.partition(":")
    lines = [f"{key} = {value}" for key, _, value in (one.partition("=") for one in values.split(",") if one)]
    text = re.sub(r"^\[merge\]\n(?:(?!\[).*\n?)*", "", before, flags=re.MULTILINE)
    if name == "base":
        text = re.sub(r"^alpha = .*$", "alpha = 0.0", text, flags=re.MULTILINE)
    else:
        text += "\n".join(["", "[merge]", f'method = "{name}"', *lines, ""])
    repo.recipe_path.write_text(text)
    try:
        yield
    finally:
        repo.recipe_path.write_text(before)


if __name__ == "__main__":
    main()
