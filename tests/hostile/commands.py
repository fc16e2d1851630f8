"""Every command line that is run on a forged repository.

``LINES`` has an entry for each command; a test fails if one lacks it. A line is run in the repository; ``{lab}`` is the folder that
everything is in, ``{out}`` the one that may be written to. Those of ``LOOKING`` may write nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from persona.cli.main import cli

LOOKING: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "log": ("log --graph --all", "log --oneline -n 3 --json", "log --vector a", "log --node patience"),
    "show": (
        "show",
        "show a",
        "show gentle",
        "show both",
        "show style",
        "show mood",
        "show weighed",
        "show HEAD~2 --json",
    ),
    "diff": ("diff", "diff v1", "diff weighed HEAD --json", "diff a gentle", "diff HEAD {lab}/built"),
    "vectors": ("vectors", "vectors weighed --json"),
    "methods": ("methods",),
    "branch": ("branch",),
    "tag": ("tag",),
    "bisect status": ("bisect status",),
    "op log": ("op log", "op log --json"),
    "graph status": ("graph status --all",),
    "graph diff": ("graph diff", "graph diff v1~2 HEAD"),
    "graph show": ("graph show", "graph show patience"),
    "fsck": ("fsck",),
    "gc": ("gc --dry-run",),
    "verify": ("verify {lab}/built",),
    "completion": ("completion bash",),
}
"""Commands that only read."""

MOVING: dict[str, tuple[str, ...]] = {
    "build": ("build -o {out}/a", "build weighed -o {out}/b", "build v1 -o {out}/c"),
    "checkout": ("checkout HEAD~1", "checkout side", "checkout HEAD -b other"),
    "switch": ("switch weighed", "switch -c fresh", "switch --detach"),
    "branch": ("branch new", "branch -d side", "branch -m side aside"),
    "tag": ("tag new", "tag -d v1"),
    "merge": ("merge weighed --dry-run", "merge weighed", "merge --abort", "merge --continue", "merge side --no-ff"),
    "revert": ("revert HEAD", "revert HEAD~1 -m 1"),
    "restore": ("restore", "restore a -s v1"),
    "undo": ("undo",),
    "redo": ("redo",),
    "alpha": ("alpha a=0.5",),
    "negate": ("negate a --alpha 0.5",),
    "derive": ("derive more '0.5 * a + both'",),
    "bake": ("bake a style --as one",),
    "rm": ("rm style",),
    "commit": ("commit {lab}/run --as again", "commit --readout {lab}/mood", "commit -m edited"),
    "import": ("import {lab}/recipe.yml",),
    "import-adapter": ("import-adapter {lab}/style --dry-run", "import-adapter {lab}/style"),
    "graph import": ("graph import {lab}/notes",),
    "graph link": ("graph link haste both",),
    "graph unlink": ("graph unlink a",),
    "readout export": (
        "readout export mood -o {out}/vllm --format vllm",
        "readout export mood -o {out}/x.gguf --format gguf",
    ),
    "readout pairs": ("readout pairs --graph HEAD -o {out}/pairs.jsonl",),
    "bisect start": ("bisect start HEAD v1",),
    "bisect good": ("bisect good v1",),
    "bisect bad": ("bisect bad HEAD",),
    "bisect skip": ("bisect skip HEAD~1",),
    "bisect reset": ("bisect reset",),
    "bisect run": ("bisect run none-such",),
    "init": ("init --base {lab}/base --name again", "init --base {lab}/base {out}/fresh"),
    "gc": ("gc --grace 0",),
    "fsck": ("fsck --repair-from {lab}/base",),
}
"""Commands that may change the repository, and write what they are told to."""

RUNNING: dict[str, tuple[str, ...]] = {
    "train": ("train --data {lab}/rows.jsonl --as trained --dry-run",),
    "anchors": ("anchors -o {out}/anchors.jsonl",),
    "fisher": ("fisher a --data {lab}/rows.jsonl",),
    "readout train": ("readout train --pairs {lab}/pairs.jsonl -o {out}/readout",),
    "readout score": ("readout score {lab}/texts.txt --readout mood",),
    "readout drift": ("readout drift HEAD~1 HEAD --texts {lab}/texts.txt --readout mood",),
    "readout tune": (
        "readout tune --readout mood --toward warmth --prompts {lab}/texts.txt -o {out}/trial.json --trials 1 --max-tokens 2",
    ),
    "diff": ("diff HEAD~1 HEAD --weights",),
    "build": ("build side -o {out}/d --as-adapter --rank 2",),
    "export": ("export --to {out}/recipe.yml", "export weighed --to {out}/weighed.yml --base org/base"),
    "chat": ("chat base HEAD --prompts {lab}/texts.txt --readout mood --max-tokens 2",),
    "eval": ("eval HEAD HEAD~1", "eval weighed"),
    "verify-vectors": ("verify-vectors --limit 2",),
    "blame": ("blame --limit 2",),
    "sweep": ("sweep a --alpha 0:1:2 --limit 2",),
    "tune": ("tune --suite calm --trials 1 --limit 2",),
}
"""Commands that run a model: each takes a second or more."""

RELEASE = (
    "verify release",
    "diff HEAD release",
    "build -o release --replace",
    "commit release --as again",
    "import-adapter release --dry-run",
)
"""What may read the folder of a build that came with the repository."""

APART: dict[str, tuple[str, ...]] = {
    "demo": ("demo makes a repository of its own and reads no other",),
    "convert": ("convert reads no repository",),
    "ui": ("ui serves until it is interrupted; tests/ui/ has hostile repositories",),
}
"""Commands that read no repository, and why they are left out."""


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of the command line, as it is typed."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, (*path, name))


def without_a_line() -> list[str]:
    """Commands that would be forgotten."""
    return sorted(set(commands()) - LOOKING.keys() - MOVING.keys() - RUNNING.keys() - APART.keys())
