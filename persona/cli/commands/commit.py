"""``persona commit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, once
from persona.cli.complete import ENTRY, NODE
from persona.cli.output import note
from persona.cli.render import changed, count, size
from persona.cli.tables.commits import headline, recorded
from persona.errors import UsageError
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.commit import CommitResult
    from persona.workspace.record import RecordedCommit


@click.command("commit")
@click.argument("run", required=False, type=click.Path(readable=False))
@click.option(
    "--as", "name", metavar="NAME", type=ENTRY, help="The vector's name in the recipe; the run folder's otherwise."
)
@click.option("--alpha", type=float, metavar="A", help="How strongly it acts; 1 otherwise.")
@click.option(
    "--node", metavar="ID", type=NODE, help="The memory-graph node that specifies this behaviour, or NODE#SECTION."
)
@click.option(
    "--readout",
    metavar="OUT",
    type=click.Path(readable=False),
    help="Record a readout instead of a run: the folder that 'persona readout train' wrote.",
)
@click.option("-m", "--message", metavar="MSG", help="What this commit is for.")
@click.option(
    "--metrics", metavar="FILE", type=click.Path(readable=False), help="JSON file of results to keep with the commit."
)
@click.option("--meta", metavar="K=V", multiple=True, help="A fact to keep with the commit; repeatable.")
@click.option(
    "--data",
    metavar="PATH",
    multiple=True,
    type=click.Path(readable=False),
    help="A file or folder that it was trained on: its hash is kept with the commit; repeatable.",
)
@click.option(
    "--code",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Git work tree of the training code; the folder you are in, or the run's, otherwise.",
)
@json_option
@click.pass_obj
def command(
    app: App,
    run: str | None,
    name: str | None,
    alpha: float | None,
    node: str | None,
    readout: str | None,
    message: str | None,
    metrics: str | None,
    meta: tuple[str, ...],
    data: tuple[str, ...],
    code: str | None,
) -> None:
    """Record a training run as a vector, a readout, or the recipe as it stands in persona.toml.

    RUN is a folder that save_pretrained or a Trainer wrote: a full fine-tune or a PEFT adapter, in one file or in
    shards; of several checkpoint-N in it the newest is taken. What the run says of itself (losses, hyperparameters,
    adapter settings, model card) and the git commit of the code are kept with it.

    \b
    persona commit runs/listening --as listening -m "listen first"
    persona commit runs/voice --as voice --alpha 0.8 --node core-personality
    persona commit runs/voice --data data/voice.jsonl --metrics runs/voice/eval.json
    persona commit -m "softer voice"            # after editing persona.toml
    persona commit --readout out/feelings --as feelings
    """
    from persona.verbs.commit import commit

    if readout is not None:
        _only_a_readout(run, alpha, node, metrics, meta, data, code)
        _commit_readout(app, readout, name, message)
        return
    repo = app.repository()
    done = commit(
        repo,
        app.optional_path(run),
        name=name,
        alpha=alpha,
        node=node,
        message=message,
        author=app.author(repo),
        metrics=app.optional_path(metrics),
        meta=once((_pair(text) for text in meta), "--meta"),
        data=[app.path(path) for path in data],
        code=_code(app, run, code),
        command=app.command,
        progress=app.progress(),
    )
    app.show("commit", done, lambda console: _render(console, done))
    _say_detached(app, done.recorded)


def _say_detached(app: App, recorded: RecordedCommit | None) -> None:
    if not app.json and recorded is not None and recorded.branch is None:
        note("HEAD is detached: keep this on a branch with 'persona switch -c NAME'.")


def _only_a_readout(run: str | None, *others: object) -> None:
    """A readout is captured on a revision, so what it was captured on is committed before."""
    if run is not None:
        raise UsageError("a run and a readout are two commits", "Commit the run first: persona commit RUN")
    if any(other not in (None, ()) for other in others):
        raise UsageError(
            "with --readout there is no --alpha, --node, --metrics, --meta, --data or --code",
            "Its manifest says what is known of a readout.",
        )


def _commit_readout(app: App, folder: str, name: str | None, message: str | None) -> None:
    from persona.cli.tables import readouts
    from persona.verbs.commit_readout import commit_readout

    repo = app.repository()
    done = commit_readout(
        repo, app.path(folder), name=name, message=message, author=app.author(repo), command=app.command
    )
    app.show("commit", done, lambda console: readouts.committed(console, done))
    _say_detached(app, done.recorded)


def _code(app: App, run: str | None, code: str | None) -> dict[str, Any] | None:
    """Where the training code stands: as told, or else where we are, or where the run lies; never inside of the run."""
    from persona.checkpoints.provenance.code import code_facts, training_code

    if code is not None:
        facts = code_facts(app.path(code))
        if facts is None:
            raise UsageError(
                f"{code} is in no git work tree with a commit", "Give the folder of the training code, or leave it out."
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
    for text in done.notes:
        console.print(f"   {escape(text)}")
    changed(console, (change for change in done.recorded.changes if change.name != done.name))
