"""``persona readout pairs``: labelled texts from a memory graph, and from contrasts that were written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.errors import Refusal, UsageError
from persona.graph import sources
from persona.graph.nodes import GraphOrigin, Node
from persona.readout.contrast import Contrasts, read_contrasts
from persona.readout.extract import ConceptCounts, ConceptOverlap, Extracted, Item, Rules, extract
from persona.readout.pairs import encode
from persona.repository import Repository
from persona.workspace.graphs import needed_graph


@dataclass(frozen=True)
class ReadoutPairs:
    """Labelled texts, by concept. ``out`` is None where nothing was to be written, ``source`` without a memory graph.

    ``examples`` are the lines of the file. Of the ``nodes``, ``short`` were too short, and ``copies`` have the text of
    another one. Of hand-written statements, ``middling`` were labelled 2, 3 or 4. ``overlaps`` are concepts that are seldom
    apart.
    """

    out: Path | None
    source: GraphOrigin | None
    examples: int
    nodes: int
    short: int
    copies: int
    middling: int
    concepts: tuple[ConceptCounts, ...]
    overlaps: tuple[ConceptOverlap, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Graph:
    """Texts, where they came from, and what there is to say of that."""

    items: tuple[Item, ...] = ()
    origin: GraphOrigin | None = None
    notes: tuple[str, ...] = ()


def readout_pairs(
    source: Path | str | None,
    out: Path | str | None,
    *,
    repo: Repository | None = None,
    rev: str | None = None,
    contrast: Sequence[Path | str] = (),
    concepts: Sequence[str] = (),
    rules: Rules | None = None,
    tools: Sequence[str] = (),
    patience: float = 30.0,
    replace: bool = False,
) -> ReadoutPairs:
    """Write examples of concepts to the file ``out``; ``None`` only counts them.

    ``source`` is a folder of Markdown or text, a JSONL file, or the URL of an MCP server; with ``repo`` instead it is the
    memory graph that was imported, as it is at ``rev`` or HEAD. ``contrast`` names files of hand-written statements.
    Which texts have a concept, ``rules`` say. A file that is there and says something else stays, unless ``replace``.
    """
    rules = rules or Rules()
    rules.check()
    target = None if out is None else Path(out)
    if target is not None:
        _check_target(target)
    by_hand = read_contrasts([Path(one) for one in contrast], concepts[0] if len(concepts) == 1 else None)
    graph = _texts(source, repo, rev, sources.SourceOptions(tuple(tools), patience))
    if graph.origin is None and not contrast:
        raise UsageError("there are no texts to take", "Name a source, a repository or a contrast.")
    found = extract(graph.items, rules, concepts, by_hand.examples)
    if target is not None:
        _write(target, found, rules, replace=replace)
    return _result(target, graph, found, by_hand)


def _texts(
    source: Path | str | None, repo: Repository | None, rev: str | None, options: sources.SourceOptions
) -> _Graph:
    if source is not None:
        if repo is not None:
            raise UsageError("a source and a repository are two places", "Name one of them.")
        if len(options.tools) > 2 or not 0 < options.patience < 1e6:
            raise UsageError(
                "at most two tools, and a positive patience", "Name the tool that lists, then the one that reads."
            )
        read = sources.read(str(source), options)
        return _Graph(tuple(map(_item, read.nodes)), read.origin, read.notes)
    if repo is None:
        return _Graph()
    commit = repo.resolve(rev or "HEAD")
    graph = needed_graph(repo, commit)
    nodes = (Node.get(repo.objects, name) for name in graph.nodes.values())
    return _Graph(tuple(map(_item, nodes)), GraphOrigin("graph", f"{rev or 'HEAD'} ({commit.short})"))


def _item(node: Node) -> Item:
    return Item(node.name, node.text, node.tags)


def _check_target(out: Path) -> None:
    """Before a server is asked for everything."""
    with files.translated(out):
        if out.is_dir():
            raise UsageError(f"{out} is a folder", "Give the file a name, such as -o pairs.jsonl.")
        if out.exists() and not out.is_file():  # a terminal or a pipe, which reading would wait for
            raise UsageError(f"{out} is not a file", "Give a name such as -o pairs.jsonl.")
        if not out.parent.is_dir():
            raise UsageError(f"there is no folder {out.parent}", "Make it first, or write the file elsewhere.")


def _write(out: Path, found: Extracted, rules: Rules, *, replace: bool) -> None:
    if not found.examples:
        raise _too_little(found, rules)
    data = encode(found.examples)
    with files.translated(out):
        same = out.exists() and out.read_bytes() == data
    if same:
        return
    if out.exists() and not replace:
        raise Refusal(f"{out} is there, and says something else", "Choose another name, or add --replace.")
    files.write_over(out, data)


def _too_little(found: Extracted, rules: Rules) -> Refusal:
    """Why there is nothing to write, by the concept that came closest."""
    if not found.concepts:
        return Refusal("no text has a score", "Scores stand at the end of a text, such as 'warmth:9 clarity:10'.")
    best = max(found.concepts, key=lambda one: min(one.positive_found, one.negative_found))
    said = f"'{best.concept}' has {best.positive_found} positive and {best.negative_found} negative ones"
    if best.highest is not None and best.positive_found == 0:
        hint = f"Its highest score is {best.highest:g}: see --min-positive-score."
    else:
        hint = "See --min-examples, and what --dry-run says."
    return Refusal(f"no concept has {rules.min_examples} texts of each side: {said}", hint)


def _result(out: Path | None, graph: _Graph, found: Extracted, by_hand: Contrasts) -> ReadoutPairs:
    return ReadoutPairs(
        out=out,
        source=graph.origin,
        examples=len(found.examples),
        nodes=len(graph.items),
        short=found.short,
        copies=found.copies,
        middling=by_hand.left_out,
        concepts=found.concepts,
        overlaps=found.overlaps,
        notes=graph.notes,
    )
