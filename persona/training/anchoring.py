"""Answer the prompts of anchors, and compute the loss that holds a model in place on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from persona import files
from persona.ids import file_digest
from persona.inference.batches import batches
from persona.inference.generating import end_tokens, generated
from persona.inference.load import LoadedModel
from persona.progress import SILENT, Progress
from persona.training.anchors import (
    KEPT,
    LONGEST,
    Anchor,
    AnchorPlan,
    AnchorSummary,
    Asked,
    lines_for,
    order_of,
    read_anchors,
)
from persona.training.settings import Settings

AT_ONCE = 32
"""Number of prompts to answer together."""


def kept_or_made(
    loaded: LoadedModel, plan: AnchorPlan, folder: Path, limit: int | None, progress: Progress
) -> tuple[list[Anchor], AnchorSummary]:
    """The anchors that a run folder keeps; if it has none, the model answers the prompts, and the folder keeps them."""
    path = folder / KEPT
    if not path.is_file():
        files.write_file(path, lines_for(answered(loaded, plan.asked, limit, progress)))
    anchors = read_anchors(path)
    summary = AnchorSummary(
        prompts=len(anchors),
        own=plan.own,
        per_batch=plan.per_batch,
        tokens=sum(one.row.counted for one in anchors),
        unfinished=sum(not one.finished for one in anchors),
        digest=file_digest([files.read_bytes(path)]),
    )
    return anchors, summary


def answered(
    loaded: LoadedModel, asked: Sequence[Asked], limit: int | None = None, progress: Progress = SILENT
) -> list[Anchor]:
    """Answer prompts greedily, in order, with at most `LONGEST` tokens each; `limit` is the longest row in tokens."""
    model, tokenizer = loaded.model, loaded.need_tokenizer()
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    plain, ends = replace(loaded, model=model.eval()), end_tokens(replace(loaded, model=model))
    found: dict[int, Anchor] = {}
    with progress.task("answering neutral prompts", len(asked), "prompts") as task:
        for batch in batches([one.tokens for one in asked], AT_ONCE, side="left"):
            room = LONGEST if limit is None else min(LONGEST, limit - batch.tokens.shape[1])
            for number, tokens in zip(batch.rows, generated(plain, batch, room), strict=True):
                finished = tokens[-1] in ends
                text = tokenizer.decode(tokens[:-1] if finished else tokens, skip_special_tokens=True)
                one = asked[number]
                found[number] = Anchor(one.prompt, text, (*one.tokens, *tokens), len(one.tokens), finished)
            task.advance(len(batch.rows))
    return [found[number] for number in range(len(asked))]


class Anchoring:
    """The loss on anchors, for each batch of a run.

    `rows` is the cross-entropy per token of the answers. `kl` is KL(start ‖ model) of the next-token distributions at the
    same places, where the start is the model without its adapter.
    """

    def __init__(self, anchors: Sequence[Anchor], per_batch: int, settings: Settings) -> None:
        self._rows = [one.row for one in anchors]
        self._per_batch, self._settings = per_batch, settings
        self._order = order_of(len(anchors), settings.seed)
        self._taken = 0

    def loss(self, model: Any, batch: int) -> torch.Tensor:
        """The loss on the anchors of a batch, by the batch's number in the run."""
        start = batch * self._per_batch
        skipped = start - self._taken  # after a resume
        chosen = list(islice(self._order, skipped, skipped + self._per_batch))
        self._taken = start + self._per_batch
        tokens, mask, places = self._padded(chosen, model.get_input_embeddings().weight.device)
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1][places].float()
        if self._settings.anchor_loss == "rows":
            return functional.cross_entropy(logits, tokens[:, 1:][places])
        with torch.no_grad(), model.disable_adapter():
            training = model.training
            model.eval()
            start_logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1][places].float()
            model.train(training)
        ours, theirs = functional.log_softmax(logits, -1), functional.log_softmax(start_logits, -1)
        return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    def _padded(self, chosen: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The rows' tokens and their mask, and the places before each token of an answer."""
        rows = [self._rows[number] for number in chosen]
        size = (len(rows), max(len(row.tokens) for row in rows))
        tokens, mask, learnt = (torch.zeros(size, dtype=torch.int64) for _ in range(3))
        for at, row in enumerate(rows):
            length = len(row.tokens)
            tokens[at, :length] = torch.tensor(row.tokens)
            mask[at, :length] = 1
            learnt[at, :length] = torch.tensor(row.learnt, dtype=torch.int64)
        return tokens.to(device), mask.to(device), learnt[:, 1:].bool().to(device)
