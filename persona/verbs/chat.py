"""``persona chat``: what revisions reply to prompts. :class:`Conversation` is the same with several turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.ids import CommitId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.workspace.conversation import ConceptReading, Conversation, Reply, TalkOptions


@dataclass(frozen=True)
class ChatModel:
    """A model that replied. ``commit`` is null if it is not that of a commit."""

    label: str
    commit: CommitId | None


@dataclass(frozen=True)
class ChatReply:
    """What one model said, in so many tokens.

    ``ended`` is false if the limit of tokens cut it off. ``readings`` are those of the readout, if one was given.
    """

    model: str
    text: str
    tokens: int
    ended: bool
    readings: tuple[ConceptReading, ...] = ()


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt, and the reply of each model to it."""

    prompt: str
    replies: tuple[ChatReply, ...]


@dataclass(frozen=True, repr=False)
class ChatResult(Shown):
    """Replies to prompts. ``units`` are those of the readings, ``std`` or ``raw``; null without a readout."""

    models: tuple[ChatModel, ...]
    prompts: tuple[ChatPrompt, ...]
    units: str | None = None


def chat(
    repo: Repository,
    prompts: str | Sequence[str],
    revs: str | Sequence[str] = (),
    *,
    options: TalkOptions = TalkOptions(),
    readout: str | Path | None = None,
    cwd: Path | str = ".",
    progress: Progress = SILENT,
) -> ChatResult:
    """Get the replies of revisions to prompts, each of which begins a new conversation.

    Args:
        prompts: One or more prompts.
        revs: Revisions, vectors (alone on their base) or ``base``. By default the current ``persona.toml``.
        options: How they reply.
        readout: Readout of the recipe, ``NAME@REV`` or folder, that reads each reply.
        cwd: Folder that a relative path in ``readout`` starts from.

    Raises:
        UsageError: there is no prompt, a name means nothing, or a prompt is longer than a model's context.
    """
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    if not asked:
        raise UsageError("there is no prompt", "Give one or more.")
    names = [revs] if isinstance(revs, str) else list(revs)
    conversation = Conversation(repo, names, options, readout=readout, cwd=cwd, progress=progress)
    voices = conversation.voices
    said = [_all_of(conversation, number, asked, progress) for number in range(len(voices))]
    rows = (ChatPrompt(prompt, tuple(_reply(replies[at]) for replies in said)) for at, prompt in enumerate(asked))
    models = tuple(ChatModel(voice.label, voice.commit) for voice in voices)
    return ChatResult(models, tuple(rows), conversation.units)


def _all_of(conversation: Conversation, number: int, prompts: Sequence[str], progress: Progress) -> list[Reply]:
    """The replies of one model. Models take turns once only, as each takes time to become the next."""
    conversation.load(number)
    replies = []
    with progress.task("replying", len(prompts), "replies") as task:
        for prompt in prompts:
            reply = conversation.reply(number, prompt)
            if reply.interrupted:
                raise KeyboardInterrupt
            replies.append(reply)
            task.advance(1)
    return replies


def _reply(reply: Reply) -> ChatReply:
    return ChatReply(reply.voice.label, reply.text.strip(), len(reply.tokens), reply.ended, reply.readings)
