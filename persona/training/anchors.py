"""Anchors: neutral prompts, and the answers that a model gives to them before it is trained.

A run on a narrow behaviour also changes what the model says elsewhere. Its own answers, mixed into each batch, hold it in
place there. `prompts/neutral.jsonl` has prompts; users add files of their own. Answers are made once
(`persona.training.anchoring`) and kept in a file of one JSON object per row:

    {"messages": […], "finished": true, "tokens": […], "answer": 35}

`tokens` are prompt and answer as they are trained, and `answer` is the number of the first token of the answer. An answer
that was not finished within `LONGEST` tokens is trained up to there, without an end. Without a chat template,
`"prompt"` and `"completion"` take the place of the messages.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import Damaged, UsageError
from persona.files import read_bytes, translated
from persona.inference.conversations import LISTS, conversation_in, unknown_row
from persona.inference.fitting import fitted
from persona.inference.messages import ASSISTANT
from persona.inference.turns import rendered
from persona.jsonlines import lines_of, objects_in, read_text, refuse_tables
from persona.training.settings import Settings
from persona.training.tokens import Tokenized

NEUTRAL = Path(__file__).parent / "prompts" / "neutral.jsonl"
KEPT = "anchors.jsonl"
"""Name of the file of answers in a run folder."""

LONGEST = 64
"""Maximum number of tokens of an answer."""

_FORM = 'Write {"prompt": "…"}, {"messages": […]}, …'


@dataclass(frozen=True)
class Prompt:
    """A prompt: messages for the chat template, or a plain text. `where` is its file and line."""

    where: str
    messages: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Asked:
    """A tokenized prompt."""

    prompt: Prompt
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class AnchorPlan:
    """The prompts of a run, in the order in which they are used, and the number of their rows beside each batch.

    `own` of them are from the user's files. `notes` are for the user.
    """

    asked: tuple[Asked, ...]
    own: int
    per_batch: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnchorSummary:
    """The anchors of a run.

    `prompts` of them, `own` of which are from the user's files; `per_batch` rows beside each batch. Once they are answered,
    the answers have `tokens` tokens, `unfinished` of them end early, and `digest` is the digest of their file. Once trained,
    `first` and `last` are the loss per token on them in the first and in the last tenth of the run.
    """

    prompts: int
    own: int
    per_batch: int
    tokens: int = 0
    unfinished: int = 0
    digest: str | None = None
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True)
class Anchor:
    """A prompt and its answer as tokens; the answer starts at token `start`."""

    prompt: Prompt
    answer: str
    tokens: tuple[int, ...]
    start: int
    finished: bool

    @property
    def row(self) -> Tokenized:
        """The row to train on: the answer is learnt."""
        learnt = (False,) * self.start + (True,) * (len(self.tokens) - self.start)
        return Tokenized(self.prompt.where, self.tokens, learnt)

    @property
    def conversation(self) -> dict[str, Any]:
        """The anchor as a row of training data."""
        prompt = self.prompt
        if not prompt.messages:
            return {"prompt": prompt.text, "completion": self.answer}
        messages = [*map(dict, prompt.messages), {"role": ASSISTANT, "content": self.answer}]
        return {"messages": messages, **({"tools": [*map(dict, prompt.tools)]} if prompt.tools else {})}

    @property
    def fields(self) -> dict[str, Any]:
        """The anchor as a run folder keeps it."""
        return {**self.conversation, "finished": self.finished, "tokens": list(self.tokens), "answer": self.start}


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts: rows of training data without their last answers, `{"prompt": "…"}`, or the lines of a `.txt` file.

    Raises:
        UsageError: the file has no prompts, or a malformed one.
    """
    refuse_tables(path)
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        lines = ((f"{path}:{number}", line.strip()) for number, line in enumerate(lines_of(text), 1))
        prompts = [_turn(where, line) for where, line in lines if line]
    else:
        prompts = [_prompt(where, row) for where, row in objects_in(path, text, _FORM)]
    if not prompts:
        raise UsageError(f"{path} has no prompts", 'Write one JSON object per line: {"prompt": "…"}')
    return prompts


def _turn(where: str, text: str) -> Prompt:
    return Prompt(where, ({"role": "user", "content": text},))


def _prompt(where: str, row: Mapping[str, Any]) -> Prompt:
    fields = {key: value for key, value in row.items() if value is not None}
    bare = isinstance(fields.get("prompt"), list) and "completion" not in fields
    chat = conversation_in(where, {"messages": fields["prompt"]} if bare else fields)
    if chat is not None:
        messages = [*chat.messages]
        while messages and messages[-1]["role"] == ASSISTANT:
            messages.pop()
        if not messages:
            raise UsageError(f"{where} has no message before the answer", _FORM)
        return Prompt(where, tuple(messages), tools=chat.tools)
    key = next((key for key in ("prompt", "text") if key in fields), None)
    if key is None:
        raise unknown_row(where, fields, ("messages", "prompt", "text"), (*LISTS, "prompt", "text"))
    text = fields[key]
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where}: '{key}' is not a text", _FORM)
    return Prompt(where, text=text) if "completion" in fields else _turn(where, text)


def plan_anchors(
    tokenizer: Any, own: Sequence[Prompt], settings: Settings, steps: int, most: int | None
) -> AnchorPlan | None:
    """Choose the prompts of a run, and tokenize them; None if it has no anchors.

    Only as many are chosen as the run has room for, at random among the user's and the project's.

    Args:
        own: The user's prompts.
        steps: Number of updates of the run.
        most: The model's context in tokens, None if unknown.

    Raises:
        UsageError: the chat template rejects a prompt.
    """
    if not settings.anchor_share:
        return None
    limit = min(settings.max_length, most) if most else settings.max_length
    per_batch = max(1, round(settings.anchor_share * settings.batch))
    every = [*own, *read_prompts(NEUTRAL)]
    places = random.Random(settings.seed).sample(range(len(every)), len(every))
    chat = has_template(tokenizer)
    asked: list[tuple[int, Asked]] = []
    long = 0
    for place in places:
        if len(asked) == steps * settings.accumulate * per_batch:
            break
        prompt = every[place] if chat else _plain(every[place])
        tokens = asked_tokens(tokenizer, prompt)
        if 0 < len(tokens) < limit:
            asked.append((place, Asked(prompt, tokens)))
        else:
            long += 1
    notes = []
    if not chat:
        notes.append("anchors: the base has no chat template, so prompts are plain texts that the model continues")
    if long:
        notes.append(f"anchors: {long} prompts left out, which are empty or fill the limit of {limit} tokens")
    ours = sum(place < len(own) for place, _ in asked)
    return AnchorPlan(tuple(one for _, one in asked), ours, per_batch if asked else 0, tuple(notes))


def has_template(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    try:
        tokenizer.get_chat_template()
    except ValueError:
        return False
    return True


def _plain(prompt: Prompt) -> Prompt:
    """The prompt as a text, for a model without a chat template."""
    text = prompt.text or "\n".join(str(message.get("content") or "") for message in prompt.messages) + "\n"
    return Prompt(prompt.where, text=text)


def asked_tokens(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a prompt, up to where its answer begins."""
    if not prompt.messages:
        return tuple(tokenizer(prompt.text, add_special_tokens=True, verbose=False)["input_ids"])
    messages = fitted(tokenizer, prompt.messages, prompt.tools, prompt.where)
    text = rendered(tokenizer, messages, prompt.where, asks=True, tools=prompt.tools)
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def lines_for(anchors: Sequence[Anchor]) -> bytes:
    """The contents of a file of anchors."""
    return "".join(f"{json.dumps(one.fields, ensure_ascii=False)}\n" for one in anchors).encode()


def read_anchors(path: Path) -> list[Anchor]:
    """Read the anchors that a run folder keeps.

    Raises:
        Damaged: the file is not one that a run wrote.
    """
    with translated(path):
        data = read_bytes(path)
    try:
        return [_anchor(f"{path}:{number}", json.loads(line)) for number, line in enumerate(data.splitlines(), 1)]
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{path} is damaged", "Train in another folder: -o RUN") from None


def _anchor(where: str, row: Mapping[str, Any]) -> Anchor:
    tokens, start = tuple(int(token) for token in row["tokens"]), int(row["answer"])
    if not 0 < start < len(tokens):
        raise ValueError(where)
    if "messages" in row:
        *messages, answer = row["messages"]
        prompt = Prompt(where, tuple(messages), tools=tuple(row.get("tools", ())))
        return Anchor(prompt, answer["content"], tokens, start, bool(row["finished"]))
    return Anchor(Prompt(where, text=row["prompt"]), row["completion"], tokens, start, bool(row["finished"]))


def order_of(count: int, seed: int) -> Iterator[int]:
    """Yield the anchors to train on, without end: all of them in random order, then all of them again."""
    turn = 0
    while True:
        yield from random.Random(f"{seed} {turn}").sample(range(count), count)
        turn += 1
