"""`persona anchors`: write a model's own answers to neutral prompts, for other training loops."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.errors import Refusal, UsageError
from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.training.anchors import LONGEST, plan_anchors, read_prompts
from persona.training.plan import start_of
from persona.training.settings import Settings
from persona.workspace.loading import load_recipe, reader_of_recipe


@dataclass(frozen=True)
class AnchorsResult:
    """Anchors in a file.

    Of `prompts` prompts, `own` of which are the user's, `rows` answers are in the file. The others did not end in time, and
    a trainer would learn to end there.
    """

    out: Path
    prompts: int
    own: int
    rows: int
    notes: tuple[str, ...] = ()


def anchors(
    repo: Repository,
    out: Path | str,
    *,
    on: str | None = None,
    prompts: Sequence[Path | str] = (),
    seed: int = 0,
    device: str = "cpu",
    replace: bool = False,
    progress: Progress = SILENT,
) -> AnchorsResult:
    """Write the answers that `persona train` would mix into the data, as rows of training data.

    Args:
        out: File to write, one JSON object per line.
        on: Revision whose build answers; by default the base of HEAD.
        prompts: Files of prompts, besides those of the project.
        seed: Random seed for the order of the rows.
        device: Device to run the model on.
        replace: Replace an existing file.

    Raises:
        UsageError: an argument or a file of prompts is invalid.
        Refusal: `out` exists, or no answer ended in time.
    """
    from persona.inference.load import checked_device

    target = Path(out)
    _check_target(target, replace=replace)
    checked_device(device)
    own = [prompt for path in prompts for prompt in read_prompts(Path(path))]
    start, commit = start_of(repo, on)
    label = f"a build of {commit.short}" if commit else f"base {start.base_name}"
    tokenizer, most = reader_of_recipe(repo, start, label)
    settings = Settings(anchor_share=1.0, max_length=1 << 24, seed=seed)
    plan = plan_anchors(tokenizer, own, settings, steps=1 << 60, most=most)
    assert plan is not None
    from persona.training.anchoring import answered  # imports torch

    loaded = load_recipe(
        repo, start, label, commit, dtype="fp32" if device == "cpu" else None, device=device, progress=progress
    )
    found = [one for one in answered(loaded, plan.asked, most, progress) if one.finished and one.answer.strip()]
    if not found:
        raise Refusal(
            f"none of the {len(plan.asked)} answers ends within {LONGEST} tokens",
            "Use 'persona train', which also learns answers without an end.",
        )
    lines = (json.dumps(one.conversation, ensure_ascii=False) for one in found)
    files.write_over(target, "".join(f"{line}\n" for line in lines).encode())
    return AnchorsResult(target, len(plan.asked), plan.own, len(found), plan.notes)


def _check_target(out: Path, *, replace: bool) -> None:
    """Check the output file before the model is loaded."""
    with files.translated(out):
        if out.exists() and not out.is_file():
            raise UsageError(f"{out} is not a file", "Name a file, such as -o anchors.jsonl.")
        if not out.parent.is_dir():
            raise UsageError(f"no folder {out.parent}", "Create it first, or name another file.")
        if out.exists() and not replace:
            raise Refusal(f"{out} already exists", "Choose another name, or add --replace.")
