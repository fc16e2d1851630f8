"""The demo's model: a byte-level tokenizer and a small Llama, with its losses and replies."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from persona.demo.dialogues import Dialogue
from persona.inference.load import quiet

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
IGNORED = -100

# Renders the same text as `_asked`, for users of the saved tokenizer.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% else %}Reply: {{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Reply:{% endif %}"
)


@dataclass(frozen=True)
class DemoExample:
    """A tokenized dialogue; tokens from `reply_at` on are learnt and measured."""

    tokens: tuple[int, ...]
    reply_at: int


@dataclass(frozen=True)
class DemoBatch:
    """A batch padded on the right; causal attention needs no mask, because no real token sees the padding."""

    tokens: torch.Tensor  # [batch, length], int64
    labels: torch.Tensor  # [batch, length]; position i holds the token at i + 1, or IGNORED


@dataclass(frozen=True)
class ReplyLosses:
    """Mean cross-entropy of each reply, in nats per token."""

    per_dialogue: tuple[float, ...]
    tokens: tuple[int, ...]  # number of tokens of each reply

    @property
    def mean(self) -> float:
        """Mean over all reply tokens."""
        total = sum(loss * count for loss, count in zip(self.per_dialogue, self.tokens, strict=True))
        return total / sum(self.tokens)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over dialogues; a 95 % interval is about twice this."""
        return float(torch.tensor(self.per_dialogue).std()) / math.sqrt(len(self.per_dialogue))


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocabulary` entries, with a chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=128,
        chat_template=CHAT_TEMPLATE,
    )


def text_of(dialogue: Dialogue) -> str:
    """A dialogue as text, without special tokens."""
    return f"{_asked(dialogue.prompt)} {dialogue.reply}"


def build_model(tokenizer: Any, hidden: int, layers: int, heads: int, intermediate: int) -> Any:
    """A Llama with tied embeddings and random weights, from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        # Larger than the usual 0.02, which suits wider models: halves the steps until it speaks.
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def load(folder: Path) -> tuple[Any, Any]:
    """Load the model (in fp32) and tokenizer of a folder."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    """Save a model and tokenizer; casts the model in place to `dtype`."""
    with quiet():
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def encode(tokenizer: Any, dialogues: Sequence[Dialogue]) -> list[DemoExample]:
    """Tokenize dialogues: <s>, the prompt, the reply, </s>."""
    asked = _ids(tokenizer, [_asked(dialogue.prompt) for dialogue in dialogues])
    replied = _ids(tokenizer, [f" {dialogue.reply}" for dialogue in dialogues])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [
        DemoExample((bos, *before, *after, eos), reply_at=1 + len(before))
        for before, after in zip(asked, replied, strict=True)
    ]


def collate(examples: Sequence[DemoExample], pad: int) -> DemoBatch:
    """Stack examples to a batch; only reply tokens are labels."""
    length = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), length), pad)
    labels = torch.full((len(examples), length), IGNORED)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.tokens)
        tokens[row, : len(ids)] = ids
        labels[row, example.reply_at - 1 : len(ids) - 1] = ids[example.reply_at :]
    return DemoBatch(tokens, labels)


def token_losses(model: Any, batch: DemoBatch) -> torch.Tensor:
    """Cross-entropy of each reply token of a batch, row by row: fp32 [reply tokens]."""
    states = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
    learnt = batch.labels != IGNORED
    # The head is a fifth of the work, and most positions are prompt or padding: skip those.
    logits = model.lm_head(states[learnt])
    return functional.cross_entropy(logits.float(), batch.labels[learnt], reduction="none")


@torch.inference_mode()
def reply_losses(model: Any, tokenizer: Any, dialogues: Sequence[Dialogue], batch_size: int = 64) -> ReplyLosses:
    """Measure the losses of a model on the replies of dialogues."""
    model.eval()
    examples = encode(tokenizer, dialogues)
    counts = [len(example.tokens) - example.reply_at for example in examples]
    losses: list[torch.Tensor] = []
    for start in range(0, len(examples), batch_size):
        batch = collate(examples[start : start + batch_size], tokenizer.pad_token_id)
        losses.append(token_losses(model, batch))
    means = [float(part.mean()) for part in torch.split(torch.cat(losses), counts)]
    return ReplyLosses(tuple(means), tuple(counts))


@torch.inference_mode()
def generate_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    seed: int | None = None,
    max_tokens: int = 48,
    batch_size: int = 128,
) -> tuple[str, ...]:
    """Generate a reply to each prompt: greedily, or with a seed, sampled at temperature 1."""
    model.eval()
    replies: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if seed is None else seed)
        for start in range(0, len(prompts), batch_size):
            asked = [BOS + _asked(prompt) for prompt in prompts[start : start + batch_size]]
            inputs = tokenizer(asked, add_special_tokens=False, padding=True, return_tensors="pt")
            out = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_tokens,
                do_sample=seed is not None,
                temperature=1.0 if seed is not None else None,
                top_k=0 if seed is not None else None,
            )
            generated = out[:, inputs["input_ids"].shape[1] :]
            replies += tokenizer.batch_decode(generated, skip_special_tokens=True)
    return tuple(reply.strip() for reply in replies)


def _asked(prompt: str) -> str:
    return f"User: {prompt}\nReply:"


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids
