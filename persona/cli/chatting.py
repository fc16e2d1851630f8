"""The conversation of ``persona chat`` on a terminal: reads lines, prints replies, and has the commands that begin with /."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.markup import escape

from persona.cli.app import App, fail, once
from persona.cli.output import note, stdout, visible
from persona.cli.render import changed, count
from persona.cli.tables import chatted
from persona.errors import PersonaError, UsageError, did_you_mean
from persona.progress import SILENT, Progress, Task
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from rich.console import Console

    from persona.workspace.conversation import Conversation, Reply, Turn

PROMPT = "> "
PAUSE = 0.1
"""Least number of seconds between two drawings of replies in columns."""

COMMANDS = {
    "alpha": ("/alpha NAME=0.5 …", "set alphas; alone, show them"),
    "scale": ("/scale 0.8", "set the scale of the merge"),
    "steer": ("/steer CONCEPT=2 …", "steer along a readout; 0 ends it"),
    "rev": ("/rev REV", "talk to another revision"),
    "why": ("/why", "what each vector adds to the last reply's log-probability"),
    "save": ("/save", "write the alphas and the scale to persona.toml"),
    "undo": ("/undo", "take back the last turn"),
    "reset": ("/reset", "forget all turns"),
    "help": ("/help", "list these commands"),
    "quit": ("/quit", "end; Ctrl-D does so, too"),
}
"""How each command is written, and what it does."""


class Chat:
    """A conversation on a terminal.

    Args:
        read: Shows a prompt and returns the line that was typed.
    """

    def __init__(self, app: App, conversation: Conversation, read: Callable[[str], str] = input) -> None:
        self._app, self._conversation, self._read = app, conversation, read
        self._over = False

    def run(self) -> None:
        """Talk until the user ends it."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # lets 'input' edit lines and recall earlier ones
        self._greet()
        while not self._over:
            try:
                line = self._read(PROMPT).strip()
            except (EOFError, KeyboardInterrupt):
                click.echo()
                return
            self._answer(line)

    def _greet(self) -> None:
        for voice in self._conversation.voices:
            click.echo(visible(f"{voice.label}, {count(len(voice.recipe.vectors), 'vector')}"))
        click.echo("/help lists the commands, Ctrl-C ends a reply, Ctrl-D the conversation.")

    def _answer(self, line: str) -> None:
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(line[1:])
            elif line:
                self._ask(line.removeprefix("/"))
        except PersonaError as error:
            fail(self._app, error, error.exit_code)
        except KeyboardInterrupt:
            note("interrupted")

    def _command(self, line: str) -> None:
        name, *words = line.split()
        name = {"exit": "quit"}.get(name, name)
        if name not in COMMANDS:
            raise UsageError(f"no command '/{name}'", did_you_mean(name, COMMANDS) or "/help lists all.")
        getattr(self, f"_{name}")(words)

    def _ask(self, prompt: str) -> None:
        conversation = self._conversation
        if len(conversation.voices) > 1:
            console = stdout()
            with _Columns(console, [voice.label for voice in conversation.voices]) as columns:
                turn = conversation.ask(prompt, columns.hear)
            console.print(
                chatted.columns([reply.voice.label for reply in turn.replies], list(map(_finished, turn.replies)))
            )
            return
        speech = _Speech()
        self._finish(conversation.ask(prompt, speech.hear))

    def _finish(self, turn: Turn) -> None:
        """End the line of a reply, and print what is to be said about it."""
        (reply,) = turn.replies
        remark = _remark(reply)
        click.echo()
        if remark:
            click.secho(visible(remark), dim=True)

    def _alpha(self, words: Sequence[str]) -> None:
        if words:
            self._conversation.set_alphas(_numbers("alpha", words))
        for entry in self._conversation.voice.recipe.vectors:
            click.echo(visible(f"{entry.name} α {alpha_text(entry.alpha)}"))

    def _scale(self, words: Sequence[str]) -> None:
        if words:
            self._conversation.set_scale(_number("scale", " ".join(words)))
        click.echo(f"scale {self._conversation.voice.recipe.scale:g}")

    def _steer(self, words: Sequence[str]) -> None:
        if words:
            self._conversation.steer(_numbers("steer", words))
        steering = self._conversation.voice.steering
        click.echo(visible("  ".join(f"{name} {value:+g}" for name, value in steering.items()) or "not steered"))

    def _rev(self, words: Sequence[str]) -> None:
        if len(words) != 1:
            raise UsageError("/rev takes one revision", "Such as: /rev HEAD~1")
        self._conversation.move(words[0])
        click.echo(visible(self._conversation.voice.label))

    def _why(self, words: Sequence[str]) -> None:
        chatted.explanation(stdout(), self._conversation.why())

    def _save(self, words: Sequence[str]) -> None:
        changed(stdout(), self._conversation.save(self._app.command), "")
        click.echo("written to persona.toml; 'persona commit -m MESSAGE' records it, 'persona restore' discards it")

    def _undo(self, words: Sequence[str]) -> None:
        click.echo(visible(f"taken back: {self._conversation.undo().prompt}"))

    def _reset(self, words: Sequence[str]) -> None:
        self._conversation.reset()
        click.echo("all turns are forgotten")

    def _help(self, words: Sequence[str]) -> None:
        for usage, about in COMMANDS.values():
            click.echo(f"{usage:20} {about}")
        if len(self._conversation.voices) > 1:
            click.echo(visible(f"They change and explain the last model: {self._conversation.voice.label}."))
        click.echo("Type // to begin a text with a /.")

    def _quit(self, words: Sequence[str]) -> None:
        self._over = True


class FirstLoad:
    """Progress of the first load alone, as bars would disturb a conversation; notes are always shown."""

    def __init__(self, shown: Progress) -> None:
        self._shown, self._tasks = shown, shown

    def done(self) -> None:
        """Show no more tasks."""
        self._tasks = SILENT

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show a task of the first load."""
        with self._tasks.task(label, total, unit) as task:
            yield task

    def note(self, text: str) -> None:
        """Show a note."""
        self._shown.note(text)


class _Speech:
    """Prints a reply as it comes."""

    def __init__(self) -> None:
        self._begun = False

    def hear(self, number: int, piece: str) -> None:
        """Print a piece; blanks before the first word are left out."""
        piece = piece if self._begun else piece.lstrip()
        if piece:
            self._begun = True
            click.echo(visible(piece), nl=False)


class _Columns:
    """Draws replies side by side as they come."""

    def __init__(self, console: Console, labels: Sequence[str]) -> None:
        self._labels, self._texts = labels, [""] * len(labels)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> _Columns:
        self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.stop()

    def hear(self, number: int, piece: str) -> None:
        """Add a piece to a column."""
        self._texts[number] += piece
        if time.monotonic() >= self._next:
            self._live.update(
                chatted.columns(self._labels, [escape(text.strip()) for text in self._texts]), refresh=True
            )
            self._next = time.monotonic() + PAUSE


def _finished(reply: Reply) -> str:
    """A reply with what is to be said about it, as markup."""
    remark = _remark(reply)
    return escape(reply.text.strip()) + (f"\n[dim]{escape(remark)}[/]" if remark else "")


def _remark(reply: Reply) -> str:
    """Readings of a reply, and why it ended if the model did not end it."""
    cut = "" if reply.ended or reply.interrupted else f"(cut off after {count(len(reply.tokens), 'token')})"
    return "  ".join(filter(None, (chatted.readings(reply.readings), cut)))


def _numbers(command: str, words: Sequence[str]) -> dict[str, float]:
    """Read ``NAME=NUMBER`` words."""
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"'{word}' is not of the form NAME=NUMBER", f"Such as: /{command} {word}=0.5")
        pairs.append((name, _number(f"{command} {name}=", value)))
    return once(pairs, "name")


def _number(before: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"'{text}' is not a number", f"Such as: /{before}{'' if before.endswith('=') else ' '}0.5"
        ) from None
