"""`persona completion`."""

from __future__ import annotations

from dataclasses import dataclass

import click
from click.shell_completion import ShellComplete, get_completion_class
from rich.console import Console

from persona.cli.app import App, json_option

VARIABLE = "_PERSONA_COMPLETE"
"""Environment variable with which the scripts ask for completions."""


@dataclass(frozen=True)
class Script:
    """A completion script for `shell`."""

    shell: str
    script: str


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@json_option
@click.pass_obj
def command(app: App, shell: str) -> None:
    """Print a shell completion script

    Completes commands, options, revisions, vectors, nodes and methods. Add the line for your shell to its start-up
    file, or save the script where the shell looks for completions.

    \b
    eval "$(persona completion bash)"                                          # in ~/.bashrc
    eval "$(persona completion zsh)"                                           # in ~/.zshrc, after compinit
    persona completion fish > ~/.config/fish/completions/persona.fish          # once
    """
    script = made_for(shell)

    def render(console: Console) -> None:
        click.echo(script.script)

    app.show("completion", script, render)


def made_for(shell: str) -> Script:
    """Return the completion script for `shell`."""
    from persona.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    script = ShellComplete.source(
        kind(cli, {}, "persona", VARIABLE)
    )  # BashComplete.source runs bash to check its version; skip that
    return Script(shell, script)
