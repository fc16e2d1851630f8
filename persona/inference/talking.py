"""Reply to a conversation, token by token, and say how probable a reply is."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.batches import collate, longest
from persona.inference.fitting import fitted
from persona.inference.generating import end_tokens, generated
from persona.inference.turns import rendered

if TYPE_CHECKING:
    import torch

    from persona.inference.load import LoadedModel

WHERE = "the conversation"
CHUNK = 64
"""Number of tokens whose log softmax is held in fp32 at a time."""


@dataclass(frozen=True)
class SpokenReply:
    """A reply: its text, its tokens with the one that ends it, and whether it was interrupted.

    ``ended`` says that the model ended it, rather than the limit of tokens.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    interrupted: bool = False


def prompt_of(loaded: LoadedModel, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The tokens of a conversation, up to where the model's reply begins.

    A tokenizer without a chat template gets the texts of the messages, a line each.

    Raises:
        UsageError: the template rejects the messages.
        CheckpointError: there is no tokenizer.
    """
    tokenizer = loaded.need_tokenizer()
    if not getattr(tokenizer, "chat_template", None):
        text = "".join(f"{message['content']}\n" for message in messages)
        tokens = list(tokenizer(text, add_special_tokens=True, truncation=False, verbose=False)["input_ids"])
        ends = len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id
        return tokens[:-1] if ends else tokens
    text = rendered(tokenizer, fitted(tokenizer, messages, (), WHERE), WHERE, asks=True)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def reply(
    loaded: LoadedModel,
    prompt: Sequence[int],
    most: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    hear: Callable[[str], None] = lambda _: None,
) -> SpokenReply:
    """Generate a reply. A KeyboardInterrupt ends it, and what was said until then is kept.

    Args:
        prompt: Its tokens.
        most: Maximum number of new tokens; fewer if the model's context ends before.
        temperature: 0 for the most probable token each time, else tokens are drawn.
        seed: Seed of the draws.
        hear: Called with each new piece of text.

    Raises:
        UsageError: the prompt has no tokens, or leaves no room for a reply.
    """
    limit = longest(loaded.model)
    if not prompt:
        raise UsageError("there is nothing to reply to", "Type a text.")
    if limit is not None and len(prompt) >= limit:
        raise UsageError(
            f"{WHERE} has {len(prompt)} tokens, and {loaded.label} reads at most {limit}",
            "Take turns back, or begin again.",
        )
    said = _Said(loaded, hear)
    sampled: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    )
    room = most if limit is None else min(most, limit - len(prompt))
    try:
        with _seeded(loaded, seed) if temperature else contextlib.nullcontext():
            generated(loaded, collate([prompt], [0]), room, streamer=said, **sampled)
    except KeyboardInterrupt:
        return said.reply(interrupted=True)
    return said.reply()


def log_probability(loaded: LoadedModel, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Σ log p(token | all before it) over the tokens of a reply, in nats."""
    import torch

    if not tokens:
        return 0.0
    model, total = loaded.model, 0.0
    takes = "logits_to_keep" in inspect.signature(model.forward).parameters
    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *tokens]], device=loaded.device)
        kept = {"logits_to_keep": len(tokens) + 1} if takes else {}
        logits = model(input_ids=ids, use_cache=False, **kept).logits[0, -len(tokens) - 1 : -1]
        for start in range(0, len(tokens), CHUNK):
            chunk = logits[start : start + CHUNK].float().log_softmax(-1)
            wanted = torch.tensor(tokens[start : start + CHUNK], device=chunk.device)
            total += float(chunk.gather(1, wanted[:, None]).double().sum())
    return total


class _Said:
    """What a model has said so far: a streamer as ``generate`` takes it, called with the prompt and then with each token."""

    def __init__(self, loaded: LoadedModel, hear: Callable[[str], None]) -> None:
        self._tokenizer, self._ends = loaded.need_tokenizer(), end_tokens(loaded)
        self._hear = hear
        self._tokens: list[int] = []
        self._has_prompt = False
        self._heard = 0

    def put(self, value: torch.Tensor) -> None:
        """Take the next token."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        self._tokens += value.flatten().tolist()
        self._tell(self.text)

    def end(self) -> None:
        """Do nothing: :meth:`reply` tells the rest."""

    @property
    def text(self) -> str:
        """All that was said, without the token that ends it."""
        text: str = self._tokenizer.decode(self._plain(), skip_special_tokens=True)
        return text

    def _plain(self) -> list[int]:
        return self._tokens[:-1] if self._ends_itself() else self._tokens

    def _ends_itself(self) -> bool:
        return bool(self._tokens) and self._tokens[-1] in self._ends

    def _tell(self, text: str, *, whole: bool = False) -> None:
        if not whole and text.endswith("\ufffd"):  # part of a character, or of several tokens
            return
        if len(text) > self._heard:
            piece, self._heard = text[self._heard :], len(text)
            self._hear(piece)

    def reply(self, *, interrupted: bool = False) -> SpokenReply:
        """The reply, once nothing follows."""
        text = self.text
        if not interrupted:
            self._tell(text, whole=True)
        return SpokenReply(text, tuple(self._tokens), self._ends_itself(), interrupted)


@contextlib.contextmanager
def _seeded(loaded: LoadedModel, seed: int) -> Iterator[None]:
    """Seed torch's generators, and restore their states afterwards."""
    import torch

    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed % (1 << 63))
        yield
