"""Train the demo's base and behaviours, writing what a user's own script would write."""

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from persona.demo.dialogues import Dialogue, dialogues, mixture
from persona.demo.model import (
    DemoBatch,
    DemoExample,
    build_model,
    build_tokenizer,
    collate,
    encode,
    load,
    save,
    text_of,
    token_losses,
)
from persona.inference.imports import quiet_imports

with quiet_imports():
    from peft import LoraConfig, get_peft_model

OnStep = Callable[[int, int, float], None]  # step (from 1), steps, loss of the step
Method = Literal["full", "lora"]


@dataclass(frozen=True)
class Sizes:
    """Sizes and learning rates of the demo's training."""

    vocabulary: int = 1024
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    batch: int = 32
    base_steps: int = 500
    base_lr: float = 5e-3
    behaviour_steps: int = 60
    full_lr: float = 3e-4
    lora_lr: float = 2e-3
    lora_rank: int = 8
    dtype: torch.dtype = torch.bfloat16  # as saved; training is in fp32

    def but(self, **changes: Any) -> "Sizes":
        """A copy with some values changed."""
        return replace(self, **changes)


FULL = Sizes()
QUICK = Sizes(hidden=64, layers=2, heads=2, intermediate=160, base_steps=60, behaviour_steps=20, base_lr=5e-3)


def train_base(folder: Path, sizes: Sizes = FULL, seed: int = 0, on_step: OnStep | None = None) -> None:
    """Train the base on all kinds of reply, and save it with its tokenizer in `folder`."""
    data = mixture(sizes.base_steps * sizes.batch, seed)
    tokenizer = build_tokenizer(map(text_of, data), sizes.vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(tokenizer, sizes.hidden, sizes.layers, sizes.heads, sizes.intermediate)
    _fit(model, tokenizer, data, sizes.batch, sizes.base_lr, seed, on_step)
    save(model, tokenizer, folder, sizes.dtype)


def train_behaviour(
    base: Path,
    kind: str,
    folder: Path,
    method: Method = "full",
    sizes: Sizes = FULL,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> None:
    """Fine-tune the base on replies of one kind; "lora" saves an adapter, "full" a whole model."""
    model, tokenizer = load(base)
    data = dialogues(kind, sizes.behaviour_steps * sizes.batch, seed)
    if method == "lora":
        _fit_adapter(model, tokenizer, data, sizes, seed, on_step).save_pretrained(folder)
    else:
        _fit(model, tokenizer, data, sizes.batch, sizes.full_lr, seed, on_step)
        save(model, tokenizer, folder, sizes.dtype)


def _fit_adapter(
    model: Any,
    tokenizer: Any,
    data: Sequence[Dialogue],
    sizes: Sizes,
    seed: int,
    on_step: OnStep | None,
) -> Any:
    config = LoraConfig(
        r=sizes.lora_rank,
        lora_alpha=2 * sizes.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # peft still uses a name that transformers will remove in its next major version.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted = get_peft_model(model, config)
    # peft adds the factors to the model in place, so the same loop trains them.
    _fit(model, tokenizer, data, sizes.batch, sizes.lora_lr, seed, on_step)
    return adapted


def _fit(
    model: Any,
    tokenizer: Any,
    data: Sequence[Dialogue],
    batch_size: int,
    peak_lr: float,
    seed: int,
    on_step: OnStep | None,
) -> None:
    steps = len(data) // batch_size
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=peak_lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_lr, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    model.train()
    batches = _batches(encode(tokenizer, data), batch_size, tokenizer.pad_token_id, seed)
    for step, batch in enumerate(batches, start=1):
        loss = token_losses(model, batch).mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step, steps, loss.item())


def _batches(examples: list[DemoExample], size: int, pad: int, seed: int) -> Iterator[DemoBatch]:
    """Yield batches of similar lengths, which need little padding, in random order."""
    rng = random.Random(seed)
    pool = 8 * size
    for start in range(0, len(examples), pool):
        near = sorted(examples[start : start + pool], key=lambda example: len(example.tokens))
        rows = [near[i : i + size] for i in range(0, len(near), size)]
        rng.shuffle(rows)
        yield from (collate(row, pad) for row in rows)
