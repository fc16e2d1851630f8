"""A conversation with one revision, or with several side by side.

All of them share one model in memory, which becomes that of each in turn: only tensors that differ are rebuilt, in
place (see :mod:`persona.workspace.workbench`). Strengths, steering and revision can change between turns; what
changes is the last model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import PersonaError, Refusal, UsageError, did_you_mean
from persona.ids import CommitId, ReadoutId, draw_key
from persona.inference.messages import ASSISTANT
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import LARGEST
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.workspace.loading import model_operand
from persona.workspace.readouts import load_readout
from persona.workspace.record import entry_of, refuse_while_merging, worktree_recipe, worktree_text
from persona.workspace.workbench import Workbench

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel
    from persona.readout.model import Readout

EDITED = ", edited"
"""Ends the label of a model whose strengths were changed."""


@dataclass(frozen=True)
class TalkOptions:
    """How models reply, and where they run.

    Attributes:
        max_tokens: Maximum number of tokens per reply.
        temperature: 0 for the most probable token each time, else tokens are drawn.
        seed: Seed of the draws.
        system: A system message before the conversation.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: Data type to run in. By default as stored.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    system: str | None = None
    device: str = "cpu"
    dtype: str | None = None

    def checked(self) -> TalkOptions:
        """Return the options with the dtype's canonical name.

        Raises:
            UsageError: a value is out of range, or the device or dtype is unknown.
        """
        from persona.inference.load import checked_device, checked_dtype

        if self.max_tokens < 1:
            raise UsageError(f"a reply cannot have {self.max_tokens} tokens", "Give 1 or more.")
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"invalid temperature: {self.temperature:g}", "Give 0 or more.")
        checked_device(self.device)
        return replace(self, dtype=checked_dtype(self.dtype))


@dataclass(frozen=True)
class Voice:
    """One model of a conversation: its recipe, its commit if it is that of one, and how it is steered, by concept."""

    label: str
    recipe: Recipe
    commit: CommitId | None = None
    steering: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ConceptReading:
    """How strongly a concept shows in a reply, at the layer that separates it best."""

    concept: str
    layer: int
    value: float


@dataclass(frozen=True)
class Reply:
    """What one model said.

    ``voice`` is the model as it was then. ``prompt`` and ``tokens`` are token ids, the latter with the token that ends the
    reply. ``ended`` says that the model ended it, rather than the limit of tokens or a KeyboardInterrupt.
    """

    voice: Voice
    text: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    ended: bool
    interrupted: bool = False
    readings: tuple[ConceptReading, ...] = ()


@dataclass(frozen=True)
class Turn:
    """A prompt, and the reply of each model."""

    prompt: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class LeftOut:
    """How the log-probability of a reply changes if a vector is left out, in nats.

    ``difference`` is what the vector adds: above 0 if the reply is more probable with it. It is None if the recipe cannot be built
    without the vector, and ``problem`` says why.
    """

    vector: str
    alpha: alphas.Alpha
    difference: float | None
    problem: str = ""


@dataclass(frozen=True)
class Explanation:
    """The log-probability of a reply in nats, and what each vector adds to it."""

    reply: Reply
    log_probability: float
    vectors: tuple[LeftOut, ...]


class Conversation:
    """Holds what was said, and the models that reply.

    Args:
        revs: Revisions, vectors (alone on their base) or ``base``. By default the current ``persona.toml``.
        readout: Readout of the recipe, ``NAME@REV`` or folder, that reads each reply.
        cwd: Folder that a relative path in ``readout`` starts from.
        progress: Where progress and warnings are reported.

    Raises:
        UsageError: a name means nothing, or an option is out of range.
    """

    def __init__(
        self,
        repo: Repository,
        revs: Sequence[str] = (),
        options: TalkOptions = TalkOptions(),
        *,
        readout: str | Path | None = None,
        cwd: Path | str = ".",
        progress: Progress = SILENT,
    ) -> None:
        self._repo, self._cwd = repo, Path(cwd)
        self.options = options.checked()
        self.voices = [self._voice(rev) for rev in revs or (None,)]
        self.turns: list[Turn] = []
        self._reader = self._opened(readout, progress)
        self._bench = Workbench(repo, self.options.dtype, self.options.device, progress)
        self._loaded: tuple[Recipe, LoadedModel] | None = None
        self._alphas: dict[str, alphas.Alpha] = {}
        self._scale: float | None = None

    @property
    def voice(self) -> Voice:
        """The model that commands change: the last."""
        return self.voices[-1]

    @property
    def units(self) -> str | None:
        """Units of the readings: ``std`` or ``raw``; None without a readout."""
        from persona.readout.score import usual_units

        return usual_units(self._reader) if self._reader is not None else None

    def load(self, number: int = 0) -> None:
        """Build one of the models now, which its first reply would do otherwise."""
        self._become(self.voices[number])

    def ask(self, prompt: str, hear: Callable[[int, str], None] = lambda number, piece: None) -> Turn:
        """Get a reply from each model, and keep the turn.

        A KeyboardInterrupt ends the reply of one model. A turn in which nothing was said is not kept.

        Args:
            prompt: What the user says.
            hear: Called with the number of the model, from 0, and each new piece of its reply.

        Raises:
            UsageError: the conversation is longer than a model's context, or its chat template rejects it.
        """
        replies = []
        for number in range(len(self.voices)):
            replies.append(self.reply(number, prompt, lambda piece, number=number: hear(number, piece)))  # type: ignore[misc]
        turn = Turn(prompt, tuple(replies))
        if any(reply.tokens for reply in replies):
            self.turns.append(turn)
        return turn

    def reply(self, number: int, prompt: str, hear: Callable[[str], None] = lambda _: None) -> Reply:
        """Get the reply of one model to a prompt after the turns so far. The turn is not kept."""
        from persona.inference import talking

        voice, options = self.voices[number], self.options
        loaded = self._become(voice)
        tokens = talking.prompt_of(loaded, self._messages(number, prompt))
        seed = draw_key("chat", str(options.seed), str(len(self.turns)), prompt)
        with self._steered(loaded, voice):
            said = talking.reply(
                loaded, tokens, options.max_tokens, temperature=options.temperature, seed=seed, hear=hear
            )
            readings = self._readings(loaded, tokens, said.tokens[: -1 if said.ended else None])
        return Reply(voice, said.text, tuple(tokens), said.tokens, said.ended, said.interrupted, readings)

    def undo(self) -> Turn:
        """Take back the last turn.

        Raises:
            Refusal: there is none.
        """
        if not self.turns:
            raise Refusal("there is no turn to take back", "Nothing has been said yet.")
        return self.turns.pop()

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()

    def set_alphas(self, values: Mapping[str, float]) -> None:
        """Change alphas of the last model's vectors.

        Raises:
            UsageError: a vector is not in its recipe, or an alpha is not a finite number.
        """
        recipe = self.voice.recipe
        for name, value in values.items():
            entry = entry_of(recipe, name)
            _check_number(f"alpha of '{name}'", value)
            recipe = recipe.with_entry(name, replace(entry, alpha=value))
        self._change(_edited(self.voice, recipe))
        self._alphas |= values

    def set_scale(self, scale: float) -> None:
        """Change the scale of the last model's merge.

        Raises:
            UsageError: it is not a finite number.
        """
        _check_number("scale", scale)
        self._change(_edited(self.voice, replace(self.voice.recipe, scale=scale)))
        self._scale = scale

    def steer(self, strengths: Mapping[str, float]) -> None:
        """Steer the last model along concepts of a readout, each at the layer that separates it best; 0 ends it.

        Strengths are in standard deviations of that layer if the readout has them.

        Raises:
            UsageError: no readout has a concept, or several have it, or a strength is not a finite number.
        """
        for concept, value in strengths.items():
            _check_number(f"strength of '{concept}'", value)
            self._readout_of(concept)
        steering = {name: value for name, value in {**self.voice.steering, **strengths}.items() if value}
        self.voices[-1] = replace(self.voice, steering=steering)

    def move(self, rev: str) -> None:
        """Replace the last model by that of another revision. The turns stay.

        Raises:
            UsageError: ``rev`` names nothing.
        """
        self._change(self._voice(rev))
        self._alphas, self._scale = {}, None

    def save(self, command: str = "chat") -> tuple[RecipeChange, ...]:
        """Write the changed alphas and scale of the last model to ``persona.toml``; nothing is committed.

        Raises:
            UsageError: a vector is not in ``persona.toml``.
            Refusal: nothing changes, ``persona.toml`` has another vector of that name, or a merge is in progress.
        """
        repo = self._repo
        with repo.transaction(command) as change:
            refuse_while_merging(repo)
            text, before = worktree_text(repo), worktree_recipe(repo)
            after = before if self._scale is None else replace(before, scale=self._scale)
            for name, value in self._alphas.items():
                entry = entry_of(before, name)
                if entry.id != entry_of(self.voice.recipe, name).id:
                    raise Refusal(
                        f"'{name}' in persona.toml is another vector than that of {self.voice.label}",
                        f"Take this one first: persona restore {name} --source REV",
                    )
                after = after.with_entry(name, replace(entry, alpha=value))
            if after == before:
                raise Refusal("nothing to save: persona.toml says the same", "Change a strength first: /alpha, /scale.")
            change.set_recipe_text(rewrite(text, after))
        return tuple(changes(before, after, repo.objects))

    def why(self) -> Explanation:
        """Compute what each vector adds to the log-probability of the last model's last reply.

        The recipe and steering are those of the reply.

        Raises:
            Refusal: there is no reply yet.
        """
        if not self.turns:
            raise Refusal("there is no reply to explain", "Say something first.")
        reply = self.turns[-1].replies[-1]
        recipe = reply.voice.recipe
        whole = self._log_probability(reply, recipe)
        rows = (self._left_out(reply, entry, whole) for entry in recipe.vectors if alphas.acts(entry.alpha))
        return Explanation(reply, whole, tuple(rows))

    def _left_out(self, reply: Reply, entry: Entry, whole: float) -> LeftOut:
        try:
            silent = reply.voice.recipe.with_entry(entry.name, replace(entry, alpha=0.0))
            without = self._log_probability(reply, silent)
        except PersonaError as error:  # a method may need a certain number of vectors
            return LeftOut(entry.name, entry.alpha, None, error.message)
        return LeftOut(entry.name, entry.alpha, whole - without)

    def _log_probability(self, reply: Reply, recipe: Recipe) -> float:
        from persona.inference.talking import log_probability

        loaded = self._become(replace(reply.voice, recipe=recipe))
        with self._steered(loaded, reply.voice):
            return log_probability(loaded, reply.prompt, reply.tokens)

    def _voice(self, rev: str | None) -> Voice:
        operand = model_operand(self._repo, rev, self._cwd)
        if operand.recipe is None or operand.folder is not None:
            raise UsageError(f"'{rev}' is a folder", "Give a revision, a vector or 'base'.")
        return Voice(operand.label, operand.recipe, operand.commit)

    def _become(self, voice: Voice) -> LoadedModel:
        if self._loaded is not None and self._loaded[0] == voice.recipe:
            return self._loaded[1]
        self._loaded = None  # the model is in between if this fails
        self._loaded = voice.recipe, self._bench.become(voice.recipe, voice.label)
        return self._loaded[1]

    def _change(self, voice: Voice) -> None:
        """Make ``voice`` the last model, if it can be built."""
        self._become(voice)
        self.voices[-1] = voice

    def _messages(self, number: int, prompt: str) -> list[dict[str, Any]]:
        """The conversation as one model has seen it."""
        system = self.options.system
        messages = [{"role": "system", "content": system}] if system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.prompt})
            messages.append({"role": ASSISTANT, "content": turn.replies[number].text})
        return [*messages, {"role": "user", "content": prompt}]

    def _opened(self, spec: str | Path | None, progress: Progress) -> Readout | None:
        if spec is None:
            return None
        from persona.readout.sinks import EARLIER, is_earlier
        from persona.workspace.reading import readout_named

        readout = readout_named(self._repo, spec, self._cwd)[0]
        if is_earlier(readout.about):
            progress.note(EARLIER)
        return readout

    def _readings(self, loaded: LoadedModel, prompt: Sequence[int], said: Sequence[int]) -> tuple[ConceptReading, ...]:
        from persona.readout.score import in_units, of_tokens, usual_units

        readout = self._reader
        if readout is None or not said:
            return ()
        tokens, marks = [*prompt, *said], [0] * len(prompt) + [1] * len(said)
        values = in_units(readout, of_tokens(loaded, readout, [tokens], [marks]), usual_units(readout))[0]
        rows = enumerate((concept, _layer(readout, concept)) for concept in readout.concepts)
        return tuple(
            ConceptReading(concept, layer, float(values[row, readout.layers.index(layer)]))
            for row, (concept, layer) in rows
        )

    @contextmanager
    def _steered(self, loaded: LoadedModel, voice: Voice) -> Iterator[None]:
        with ExitStack() as stack:
            for concept, strength in voice.steering.items():
                from persona.readout.score import usual_units
                from persona.readout.steering import steered

                readout = self._readout_of(concept)
                where, units = [_layer(readout, concept)], usual_units(readout)
                stack.enter_context(steered(loaded.model, {concept: strength}, readout, layers=where, units=units))
            yield

    def _readout_of(self, concept: str) -> Readout:
        """The readout that has a concept: the one that reads replies, else one of ``persona.toml``."""
        if self._reader is not None and concept in self._reader.concepts:
            return self._reader
        entries = worktree_recipe(self._repo).readouts
        readouts = {entry.name: load_readout(self._repo, ReadoutId(entry.id)) for entry in entries}
        found = [name for name, readout in readouts.items() if concept in readout.concepts]
        if not found:
            known = {
                *(self._reader.concepts if self._reader else ()),
                *(c for r in readouts.values() for c in r.concepts),
            }
            hint = did_you_mean(concept, known) or "Commit a readout first, or start with --readout."
            raise UsageError(f"no readout has the concept '{concept}'", hint)
        if len(found) > 1:
            raise UsageError(
                f"'{concept}' is a concept of the readouts {', '.join(found)}", f"Start with --readout {found[0]}."
            )
        return readouts[found[0]]


def _layer(readout: Readout, concept: str) -> int:
    """The layer that separates a concept best, else the middle one."""
    from persona.readout.drift import best_layers

    layer = best_layers(readout).get(concept)
    return layer if layer in readout.layers else readout.layers[len(readout.layers) // 2]


def _edited(voice: Voice, recipe: Recipe) -> Voice:
    """The model with another recipe, which no commit has."""
    label = voice.label if voice.label.endswith(EDITED) else f"{voice.label}{EDITED}"
    return replace(voice, recipe=recipe, label=label, commit=None)


def _check_number(what: str, value: float) -> None:
    if not abs(value) <= LARGEST:  # also for NaN
        raise UsageError(f"the {what} is not a finite number of at most {LARGEST:.0e}: {value}", "Such as 0.8.")
