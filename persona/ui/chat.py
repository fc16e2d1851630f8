"""The chat below the recipe: one conversation with persona.toml, under the strengths that the sliders show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from persona.errors import Refusal, UsageError
from persona.progress import SILENT, Progress, Task
from persona.recipe.alphas import alpha_text
from persona.recipe.model import Recipe

if TYPE_CHECKING:
    from persona.ids import CommitId
    from persona.repository import Repository
    from persona.ui.jobs import Job, Jobs
    from persona.workspace.conversation import Conversation, Turn


@dataclass(frozen=True)
class Strengths:
    """Alphas and a scale that are tried without a commit. ``head`` is the commit whose page they were set on."""

    head: CommitId
    alphas: Mapping[str, float] = field(default_factory=dict)
    scale: float | None = None


class _Forwarding:
    """Progress of a model that outlives the job that it was built in: it goes to the job of the moment."""

    def __init__(self) -> None:
        self.to: Progress = SILENT

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        with self.to.task(label, total, unit) as task:
            yield task

    def note(self, text: str) -> None:
        self.to.note(text)


class Chat:
    """The conversation of one server. It is kept in memory, and so is its model."""

    def __init__(self) -> None:
        self.tried: Strengths | None = None
        self.turns: tuple[Turn, ...] = ()
        self.job: Job | None = None
        self.prompt = ""
        self._conversation: Conversation | None = None
        self._shape: Recipe | None = None
        self._progress = _Forwarding()

    @property
    def is_busy(self) -> bool:
        """Whether a reply is being made."""
        return self.job is not None and not self.job.ended.is_set()

    def strengths_at(self, head: CommitId) -> Strengths:
        """What is tried on the page of this commit."""
        return self.tried if self.tried is not None and self.tried.head == head else Strengths(head)

    def say(self, repo: Repository, jobs: Jobs, prompt: str) -> Job:
        """Start a reply under the strengths that are tried.

        Raises:
            UsageError: there is no prompt.
            Refusal: the last reply is not finished.
        """
        if not prompt:
            raise UsageError("there is no prompt", "Type a text.")
        self.check_idle()
        strengths = self.strengths_at(repo.head())
        self.prompt = prompt
        self.job = jobs.start(("chat", object()), lambda job: self._reply(repo, prompt, strengths, job))
        return self.job

    def check_idle(self) -> None:
        """Raise Refusal while a reply is being made."""
        if self.is_busy:
            raise Refusal("the last reply is not finished", "Wait for it, or stop it.")

    def take_back(self) -> None:
        """Forget the last turn."""
        self.check_idle()
        self.turns = self.turns[:-1]

    def forget(self) -> None:
        """Forget all turns, and free the model."""
        self.check_idle()
        self.turns = ()
        self.job = self._conversation = self._shape = None

    def _reply(self, repo: Repository, prompt: str, strengths: Strengths, job: Job) -> Turn:
        self._progress.to = job.progress
        conversation = self._conversation_with(repo)
        wanted = _worktree(repo)
        now = conversation.voice.recipe
        alphas = {
            entry.name: value
            for entry in wanted.vectors
            if isinstance(value := strengths.alphas.get(entry.name, entry.alpha), float | int)
        }
        differ = {
            entry.name: alphas[entry.name]
            for entry in now.vectors
            if alphas.get(entry.name, entry.alpha) != entry.alpha
        }
        scale = wanted.scale if strengths.scale is None else strengths.scale
        if differ:
            conversation.set_alphas(differ)
        if scale != now.scale:
            conversation.set_scale(scale)
        conversation.turns[:] = self.turns

        def hear(number: int, piece: str) -> None:
            job.text += piece
            if job.stopped.is_set():
                raise KeyboardInterrupt

        job.label = "replying"
        turn = conversation.ask(prompt, hear)
        self.turns = tuple(conversation.turns)
        return turn

    def _conversation_with(self, repo: Repository) -> Conversation:
        """The conversation, begun anew if persona.toml has other vectors than when it began."""
        from persona.workspace.conversation import Conversation

        shape = _shape(_worktree(repo))
        if self._conversation is None or self._shape != shape:
            self._conversation = self._shape = None  # frees the model before the next is built
            self._conversation = Conversation(repo, progress=self._progress)
            self._shape = shape
        return self._conversation


def strengths_of(recipe: Recipe) -> str:
    """The alphas and the scale of a recipe in a line."""
    words = [f"{entry.name} {alpha_text(entry.alpha)}" for entry in recipe.vectors]
    return ", ".join([*words, f"scale {recipe.scale:g}"])


def _worktree(repo: Repository) -> Recipe:
    from persona.workspace.record import worktree_recipe

    return worktree_recipe(repo)


def _shape(recipe: Recipe) -> Recipe:
    """The recipe without what sliders set."""
    vectors = (entry if isinstance(entry.alpha, tuple) else replace(entry, alpha=0.0) for entry in recipe.vectors)
    return replace(recipe, vectors=tuple(vectors), scale=1.0)
