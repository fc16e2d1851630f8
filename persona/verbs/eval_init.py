"""``persona eval --init``: write suites to start from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import persona.evaluate
from persona import files
from persona.checkpoints import groups
from persona.checkpoints.tokenizers import TOKENIZER_CONFIG
from persona.evaluate.suite import FOLDER
from persona.ids import BaseId
from persona.repository import Repository
from persona.workspace.record import worktree_recipe

SUITES = ("replies", "chat", "prose")
"""What is written: a suite and its data each, of the same name."""
SHIPPED = Path(persona.evaluate.__file__).parent / "suites"


@dataclass(frozen=True)
class EvalInitResult:
    """The files that were written, and those that were there and are left as they are, relative to the repository's folder.

    A suite is left out if one of its files was there.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...] = ()


def eval_init(repo: Repository) -> EvalInitResult:
    """Write suites to ``evals/``: a template that judges replies, everyday questions, and neutral prose.

    Nothing is overwritten. The questions are messages if the base has a chat template, else prompts and completions.

    Raises:
        Storage: a file cannot be written.
    """
    recipe = worktree_recipe(repo)
    chats = _has_template(repo, recipe.base_id)
    written: list[str] = []
    kept: list[str] = []
    for name in SUITES:
        texts = {f"{FOLDER}/{name}{suffix}": _text(f"{name}{suffix}", chats) for suffix in (".jsonl", ".toml")}
        there = [place for place in texts if os.path.lexists(repo.root / place)]
        kept += there
        written += [] if there else _written(repo.root, texts)
    without = {"replies", "chat"} & {Path(place).stem for place in written} if not chats else set()
    note = "the base has no chat template: the questions are prompts and completions, not messages"
    return EvalInitResult(tuple(written), tuple(kept), (note,) if without else ())


def _written(root: Path, texts: Mapping[str, str]) -> Iterable[str]:
    """Write a suite: its data first, so that it is never without."""
    files.make_folder(root / FOLDER)
    for place, text in texts.items():
        files.write_file(root / place, text.encode())
    return texts


def _text(name: str, chats: bool) -> str:
    """The contents of a file that ships with persona; messages as prompts and completions if not ``chats``."""
    with files.translated(SHIPPED / name):
        text = files.read_bytes(SHIPPED / name).decode()
    if chats or not name.endswith(".jsonl"):
        return text
    return "".join(f"{json.dumps(_plain(json.loads(line)), ensure_ascii=False)}\n" for line in text.splitlines())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    if "messages" not in row:
        return row
    asked, *answer = (message["content"] for message in row["messages"])
    prompt = {"prompt": f"User: {asked}\nAssistant:"}
    return prompt | ({"completion": f" {answer[0]}"} if answer else {})


def _has_template(repo: Repository, base: BaseId) -> bool:
    texts = {
        name: repo.tensors.blob(blob)
        for name, blob in repo.base(base).files.items()
        if name == TOKENIZER_CONFIG or groups.group_of(name) in (groups.TEMPLATE, groups.PROCESSOR)
    }
    return bool(groups.templates(texts))
