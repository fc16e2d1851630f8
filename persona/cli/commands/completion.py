"""``persona completion``."""

from __future__ import annotations

from dataclasses import dataclass

import click
from click.shell_completion import ShellComplete, get_completion_class
from rich.console import Console

from persona.cli.app import App, json_option

VARIABLE = "_PERSONA_COMPLETE"
"""What the scripts set when they ask for words."""


@dataclass(frozen=True)
class Script:
    """What a shell reads to complete ``persona``."""

    shell: str
    script: str


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@json_option
@click.pass_obj
def command(app: App, shell: str) -> None:
    """Print the script with which a shell completes commands, options, revisions, vectors, nodes and methods.

    Put the line for your shell into its start-up file, or write what it prints to a file that is read there.

    \b
    eval "$(persona completion bash)"                                          # in ~/.bashrc
    eval "$(persona completion zsh)"                                           # in ~/.zshrc, after compinit
    persona completion fish > ~/.config/fish/completions/persona.fish          # once
    """
    made = made_for(shell)

    def render(console: Console) -> None:
        click.echo(made.script)

    app.show("completion", made, render)


def made_for(shell: str) -> Script:
    """What ``shell`` reads."""
    from persona.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    script = ShellComplete.source(kind(cli, {}, "persona", VARIABLE))  # bash's own looks for a bash to ask its version
    return Script(shell, script)
