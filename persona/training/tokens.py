"""Examples in tokens, and which of them are learnt.

A token is learnt if a character of it is, in the text that the model reads. That text is the pieces of an example, one
after the other, or what the tokenizer's chat template makes of its messages. Where the answers are in it:

- a template with ``{% generation %}`` says so itself;
- else the answer to ``messages[:i]`` begins where the template ends of ``messages[:i]`` with its generation prompt, and
  ends where that of ``messages[:i+1]`` does. Both texts must be beginnings of the whole, and it is looked whether they
  are: a template that renders earlier turns differently once there are later ones cannot tell, which is an error.

Tokens are found once, in the whole text, and held to characters by the tokenizer's offsets.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import UsageError
from persona.training.examples import Example, Message

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ALL = "Or learn all of the text: --set loss=all"


@dataclass(frozen=True)
class Tokenized:
    """Tokens of an example; ``straddles`` if one lies across the border between what is learnt and what is not."""

    where: str
    tokens: tuple[int, ...]
    learnt: tuple[bool, ...]
    straddles: bool = False

    @property
    def counted(self) -> int:
        """Tokens that the loss is over: a first token is predicted from nothing, so it never counts."""
        return sum(self.learnt[1:])

    def cut(self, most: int) -> Tokenized:
        """At most ``most`` tokens: the last ones where only answers are learnt, the first ones of a text."""
        if len(self.tokens) <= most:
            return self
        place = slice(0, most) if all(self.learnt[1:]) else slice(len(self.tokens) - most, None)
        return replace(self, tokens=self.tokens[place], learnt=self.learnt[place])


def tokenize(tokenizer: Any, examples: Sequence[Example]) -> list[Tokenized]:
    """All of them, in their order."""
    return [_chat(tokenizer, one) if one.messages else _plain(tokenizer, one) for one in examples]


def _plain(tokenizer: Any, example: Example) -> Tokenized:
    text = "".join(piece for piece, _ in example.pieces)
    spans: list[tuple[int, int]] = []
    at = 0
    for piece, counts in example.pieces:
        spans += [(at, at + len(piece))] if counts else []
        at += len(piece)
    done = _marked(tokenizer, example.where, text, spans, special=True)
    end, everything = tokenizer.eos_token_id, all(counts for _, counts in example.pieces)
    tokens, learnt = list(done.tokens), [everything or one for one in done.learnt]
    if example.ends and end is not None and text:
        if tokens[-1:] == [end]:  # as some tokenizers do themselves
            tokens, learnt = tokens[:-1], learnt[:-1]
        tokens, learnt = [*tokens, end], [*learnt, example.pieces[-1][1]]
    return replace(done, tokens=tuple(tokens), learnt=tuple(learnt))


def _chat(tokenizer: Any, example: Example) -> Tokenized:
    template = _template(tokenizer, example)
    whole = _render(tokenizer, example, example.messages)
    if all(one.learnt for one in example.messages):
        done = _marked(tokenizer, example.where, whole, [(0, len(whole))])
        return replace(done, learnt=(True,) * len(done.tokens))
    if _GENERATION.search(template) and all(one.learnt == (one.role == "assistant") for one in example.messages):
        return _told(tokenizer, example, template, whole)
    return _marked(tokenizer, example.where, whole, _answers(tokenizer, example, whole))


def _template(tokenizer: Any, example: Example) -> str:
    try:
        template = tokenizer.get_chat_template()
    except ValueError:
        raise UsageError(
            f"{example.where} has messages, and the base's tokenizer has no chat template",
            "Use prompt and completion, or text; or begin with a base that has chat_template.jinja.",
        ) from None
    return str(template)


def _told(tokenizer: Any, example: Example, template: str, whole: str) -> Tokenized:
    """As a template with ``{% generation %}`` has it: the characters that it says, and not transformers' mask of tokens.

    That one runs on to the end of the text where such a part ends in a blank that is in no token (5.23).
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    with _translated(example):
        texts, spans = render_jinja_template(
            [_dicts(example.messages)],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    assert texts[0] == whole
    return _marked(tokenizer, example.where, whole, [(int(start), int(stop)) for start, stop in spans[0]])


def _answers(tokenizer: Any, example: Example, whole: str) -> list[tuple[int, int]]:
    """Where in the whole text the learnt messages are."""
    spans = []
    for at, message in enumerate(example.messages):
        if not message.learnt:
            continue
        asks = message.role == "assistant"
        begin = _render(tokenizer, example, example.messages[:at], asks=asks) if at or asks else ""
        end = _render(tokenizer, example, example.messages[: at + 1])
        if not whole.startswith(begin) or not whole.startswith(end) or len(begin) > len(end):
            raise UsageError(
                f"{example.where}: the chat template writes the turns up to message {at + 1} in another way once others "
                "follow, so it cannot tell which tokens are the answer",
                f"Give a base whose template has {{% generation %}}, or end the conversation there. {_ALL}",
            )
        spans.append((len(begin), len(end)))
    return spans


def _render(tokenizer: Any, example: Example, messages: Sequence[Message], *, asks: bool = False) -> str:
    if not messages and not asks:
        return ""
    with _translated(example):
        text: str = tokenizer.apply_chat_template(_dicts(messages), tokenize=False, add_generation_prompt=asks)
    return text


@contextlib.contextmanager
def _translated(example: Example) -> Any:
    """What a template raises of its own accord, as one of ours."""
    try:
        yield
    except Exception as error:  # jinja's errors, and whatever a template of anyone's making runs into
        said = str(error).strip().split("\n")[0][:200]
        raise UsageError(f"{example.where}: the chat template refuses it: {said}", "Write it as it expects.") from error


def _dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": one.role, "content": one.content} for one in messages]


def _marked(
    tokenizer: Any, where: str, text: str, spans: Sequence[tuple[int, int]], *, special: bool = False
) -> Tokenized:
    """A text's tokens, those learnt that have a character in one of ``spans``."""
    if not getattr(tokenizer, "is_fast", False):
        return _by_beginnings(tokenizer, where, text, spans, special)
    done = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, truncation=False, verbose=False)
    learnt, straddles = [], False
    for start, stop in done["offset_mapping"]:
        inside = sum(max(0, min(stop, last) - max(start, first)) for first, last in spans)
        learnt.append(inside > 0)
        straddles = straddles or 0 < inside < stop - start
    return Tokenized(where, tuple(done["input_ids"]), tuple(learnt), straddles)


def _by_beginnings(tokenizer: Any, where: str, text: str, spans: Sequence[tuple[int, int]], special: bool) -> Tokenized:
    """The same of a tokenizer that has no offsets: the tokens of each beginning must be a beginning of all tokens."""
    tokens = tokenizer(text, add_special_tokens=special)["input_ids"]
    learnt = [False] * len(tokens)
    for span in spans:
        ends = []
        for place in span:
            part = tokenizer(text[:place], add_special_tokens=special)["input_ids"]
            if tokens[: len(part)] != part:
                raise UsageError(
                    f"{where}: the answer does not begin or end between two tokens of this tokenizer", f"{_ALL}"
                )
            ends.append(len(part))
        learnt[ends[0] : ends[1]] = [True] * (ends[1] - ends[0])
    return Tokenized(where, tuple(tokens), tuple(learnt))
