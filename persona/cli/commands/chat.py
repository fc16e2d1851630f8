"""``persona chat``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from persona.cli.app import App, json_option
from persona.cli.complete import READOUT, SHOWN
from persona.cli.running import device_option, dtype_option
from persona.cli.tables import chatted
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.repository import Repository
    from persona.workspace.conversation import TalkOptions


@click.command("chat")
@click.argument("revs", nargs=-1, metavar="[REV|NAME|base]...", type=SHOWN)
@click.option(
    "--prompt", "prompts", multiple=True, metavar="TEXT", help="Print the replies to this prompt; repeatable."
)
@click.option(
    "--prompts", "file", type=click.Path(readable=False), metavar="FILE",
    help="Print the replies to the prompts of a file: one per line, or in a .jsonl file the 'prompt' of each.",
)  # fmt: skip
@click.option("--readout", type=READOUT, metavar="NAME|FOLDER", help="Read each reply along a readout.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="N",
    help="Maximum tokens per reply.",
)
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, metavar="T",
    help="Sampling temperature; 0 takes the most probable token.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Random seed for sampling."
)
@click.option("--system", metavar="TEXT", help="System message.")
@device_option
@dtype_option
@json_option
@click.pass_obj
def command(
    app: App,
    revs: tuple[str, ...],
    prompts: tuple[str, ...],
    file: str | None,
    readout: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    system: str | None,
    device: str,
    dtype: str | None,
) -> None:
    """Talk to a revision, or to several side by side

    Without REV, talks to the current persona.toml. A vector is alone on its base, and 'base' is the base without vectors.
    Models are built in memory, and share it.

    Commands in the conversation change the last REV: /alpha NAME=0.5, /scale, /steer CONCEPT=2 and /rev. /why says what each
    vector did to its last reply, /save writes its strengths to persona.toml, and /help lists all. Ctrl-C ends a reply.

    With --prompt or --prompts, or prompts on standard input, prints replies and ends. Each prompt is then a conversation of its
    own.

    \b
    persona chat
    persona chat base main --readout mood
    persona chat base main --prompts held-out.txt
    persona chat HEAD~1 HEAD --prompt "I had a long day." --json
    """
    from persona.workspace.conversation import TalkOptions

    repo, options = app.repository(), TalkOptions(max_tokens, temperature, seed, system, device, dtype)
    asked = _prompts(app, prompts, file)
    if asked:
        _print(app, repo, asked, revs, options, readout)
    elif app.json:
        raise UsageError("--json needs prompts", "Give --prompt TEXT or --prompts FILE.")
    else:
        _talk(app, repo, revs, options, readout)


def _prompts(app: App, prompts: tuple[str, ...], file: str | None) -> tuple[str, ...]:
    """The prompts to reply to; none for a conversation.

    Raises:
        UsageError: standard input was to have some, and has none.
    """
    from persona.workspace.reading import prompts_in

    asked = (*prompts, *(prompts_in(app.path(file)) if file is not None else ()))
    if asked or sys.stdin.isatty():
        return asked
    asked = tuple(line.strip() for line in sys.stdin if line.strip())
    if not asked:
        raise UsageError("there are no prompts on standard input", "Give --prompt TEXT or --prompts FILE.")
    return asked


def _print(
    app: App,
    repo: Repository,
    prompts: tuple[str, ...],
    revs: tuple[str, ...],
    options: TalkOptions,
    readout: str | None,
) -> None:
    from persona.verbs.chat import chat

    done = chat(repo, prompts, revs, options=options, readout=readout, cwd=app.folder, progress=app.progress())
    app.show("chat", done, lambda console: chatted.result(console, done))


def _talk(app: App, repo: Repository, revs: tuple[str, ...], options: TalkOptions, readout: str | None) -> None:
    from persona.cli.chatting import Chat, FirstLoad
    from persona.workspace.conversation import Conversation

    progress = FirstLoad(app.progress())
    conversation = Conversation(repo, revs, options, readout=readout, cwd=app.folder, progress=progress)
    conversation.load()
    progress.done()
    Chat(app, conversation).run()
