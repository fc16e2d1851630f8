"""`persona commit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option, once, warn_if_detached
from persona.cli.complete import ENTRY, NODE
from persona.cli.render import changed, count, notes, size
from persona.cli.tables.commits import headline, recorded
from persona.errors import UsageError
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.commit import CommitResult


@click.command("commit")
@click.argument("run", required=False, type=click.Path(readable=False))
@click.option(
    "--as", "name", metavar="NAME", type=ENTRY, help="Name of the vector. [default: name of the run's folder]"
)
@click.option("--alpha", type=float, metavar="A", help="Alpha of the vector. [default: unchanged; 1 for a new vector]")
@click.option(
    "--node", metavar="ID", type=NODE, help="Memory-graph node, or NODE#SECTION, that specifies the behaviour."
)
@click.option(
    "--tied",
    type=click.Choice(("untie", "merge")),
    help="Adapter of one of embedding and head, which the base ties: give the head its own weights, or change both.",
)
@click.option(
    "--readout",
    metavar="FOLDER",
    type=click.Path(readable=False),
    help="Record a readout instead of a run: the folder from 'persona readout train'.",
)
@message_option
@click.option("-a", "--all", "everything", is_flag=True, help="Record the edits of persona.toml, as without it.")
@click.option(
    "--amend", is_flag=True, help="Replace the newest commit: with the edits of persona.toml, the new message, or both."
)
@click.option(
    "--metrics", metavar="FILE", type=click.Path(readable=False), help="JSON file of results to store with the commit."
)
@click.option("--meta", metavar="K=V", multiple=True, help="Fact to store with the commit; repeatable.")
@click.option(
    "--data",
    metavar="PATH",
    multiple=True,
    type=click.Path(readable=False),
    help="File or folder of training data, whose hash is stored with the commit; repeatable.",
)
@click.option(
    "--code",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Git work tree of the training code. [default: that of the current folder, or of the run]",
)
@json_option
@click.pass_obj
def command(
    app: App,
    run: str | None,
    name: str | None,
    alpha: float | None,
    node: str | None,
    tied: str | None,
    readout: str | None,
    message: str | None,
    everything: bool,
    amend: bool,
    metrics: str | None,
    meta: tuple[str, ...],
    data: tuple[str, ...],
    code: str | None,
) -> None:
    """Record a training run or an edited recipe

    RUN is a folder written by save_pretrained or a Trainer: a full fine-tune or an adapter (of PEFT or mlx-lm), sharded or not. If it
    contains several checkpoint-N folders, the newest is used. Losses, hyperparameters, adapter settings, the model card
    and the git commit of the training code are stored with the commit. Without RUN, records persona.toml.

    \b
    persona commit runs/listening --as listening -m "listen first"
    persona commit runs/voice --as voice --alpha 0.8 --node core-personality
    persona commit runs/voice --data data/voice.jsonl --metrics runs/voice/eval.json
    persona commit -m "softer voice"            # after editing persona.toml
    persona commit --amend -m "warmer voice"    # the replaced commit stays in 'persona op log'
    persona commit --readout out/feelings --as feelings
    """
    from persona.verbs.commit import commit

    if readout is not None:
        _check_readout_options(run, alpha, node, tied, metrics, meta, data, code, amend or None)
        _commit_readout(app, readout, name, message)
        return
    repo = app.repository()
    done = commit(
        repo,
        app.optional_path(run),
        name=name,
        alpha=alpha,
        node=node,
        tied=tied,
        metrics=app.optional_path(metrics),
        meta=once((_pair(text) for text in meta), "--meta"),
        data=[app.path(path) for path in data],
        code=_code(app, run, code),
        amend=amend,
        progress=app.progress(),
        **app.recording(repo, message),
    )
    app.show("commit", done, lambda console: _render(console, done))
    warn_if_detached(app, done.recorded)


def _check_readout_options(run: str | None, *others: object) -> None:
    if run is not None:  # a readout belongs to a committed revision, so the run has to be committed before
        raise UsageError("RUN and --readout cannot be used together", "Commit the run first: persona commit RUN")
    if any(other not in (None, ()) for other in others):
        raise UsageError(
            "--readout cannot be used with --alpha, --node, --tied, --metrics, --meta, --data, --code or --amend",
            "Leave them out: the readout's manifest describes it.",
        )


def _commit_readout(app: App, folder: str, name: str | None, message: str | None) -> None:
    from persona.cli.tables import readouts
    from persona.verbs.commit_readout import commit_readout

    repo = app.repository()
    done = commit_readout(repo, app.path(folder), name=name, **app.recording(repo, message))
    app.show("commit", done, lambda console: readouts.committed(console, done))
    warn_if_detached(app, done.recorded)


def _code(app: App, run: str | None, code: str | None) -> dict[str, Any] | None:
    """The git state of the training code: of `code`, or else of the current folder or the one that contains the run."""
    from persona.checkpoints.provenance.code import code_facts, training_code

    if code is not None:
        facts = code_facts(app.path(code))
        if facts is None:
            raise UsageError(
                f"{code} is not in a git work tree with a commit",
                "Pass --code the training code's folder, or leave it out.",
            )
        return facts
    return training_code([Path(app.folder), app.path(run).resolve().parent]) if run is not None else None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is not of the form K=V")
    return key, value


def _render(console: Console, done: CommitResult) -> None:
    if done.recorded is None:
        for text in done.notes:
            console.print(escape(text))
        return
    if done.name is None:
        recorded(console, done.recorded)
        return
    headline(console, done.recorded)
    parts = [f"{done.form}, {count(done.tensors, 'tensor')}, {size(done.kept_bytes)} kept of {size(done.total_bytes)}"]
    if done.relative_norm is not None:
        parts.append(f"‖τ‖/‖W‖ {done.relative_norm:.2%}")
    console.print(f" + [green]{escape(done.name)}[/]   α {alpha_text(done.alpha or 0.0)}   {'   '.join(parts)}")
    notes(console, done.notes)
    changed(console, done.recorded.changes, without={done.name})
