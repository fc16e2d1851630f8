"""`persona readout pairs`: make labelled texts from a memory graph and hand-written contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.errors import Refusal, UsageError
from persona.graph import sources
from persona.readout.contrast import Contrasts, read_contrasts
from persona.readout.extract import ConceptCounts, ConceptOverlap, Extracted, Item, Rules, extract
from persona.readout.pairs import encode
from persona.repository import Repository
from persona.store.graphs import GraphOrigin, Node
from persona.workspace.graphs import needed_graph


@dataclass(frozen=True)
class ReadoutPairs:
    """Labelled texts by concept.

    `out` is null with --dry-run, `source` without a memory graph. `examples` is the number of lines in the file. Of the
    `nodes`, `short` were too short and `copies` have the same text as another. `middling` counts hand-written statements
    labelled 2, 3 or 4, which are left out. `overlaps` lists concepts that mostly occur together.
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
    """Texts, their source, and notes about it."""

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
    """Choose examples of concepts and write them to a file.

    Args:
        source: Folder of Markdown or text, JSONL file, or URL of an MCP server.
        out: File to write; None only counts.
        repo: Repository whose imported memory graph to use, instead of `source`.
        rev: Revision of that graph; by default HEAD.
        contrast: Files of hand-written statements.
        concepts: Concepts to include; by default all.
        rules: Which texts have a concept, and how many to use.
        tools: Names of the MCP server's tools that list and that read.
        patience: Timeout of the MCP server in seconds.
        replace: Replace an existing file.

    Raises:
        UsageError: an argument is invalid, or there are no texts.
        Refusal: no concept has enough texts, or `out` exists with other contents.
    """
    rules = rules or Rules()
    rules.check()
    target = None if out is None else Path(out)
    if target is not None:
        _check_target(target)
    by_hand = read_contrasts([Path(path) for path in contrast], concepts[0] if len(concepts) == 1 else None)
    graph = _texts(source, repo, rev, sources.SourceOptions(tuple(tools), patience))
    if graph.origin is None and not contrast:
        raise UsageError("no source of texts given", "Name a source, a repository or a contrast.")
    extracted = extract(graph.items, rules, concepts, by_hand.examples)
    if target is not None:
        _write(target, extracted, rules, replace=replace)
    return _result(target, graph, extracted, by_hand)


def _texts(
    source: Path | str | None, repo: Repository | None, rev: str | None, options: sources.SourceOptions
) -> _Graph:
    if source is not None:
        if repo is not None:
            raise UsageError("both a source and a repository given", "Name one of them.")
        if len(options.tools) > 2 or not 0 < options.patience < 1e6:
            raise UsageError(
                "more than two tools, or a timeout that is not positive",
                "Name the tool that lists, then the one that reads.",
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
    """Check the output file before reading from a slow source."""
    with files.translated(out):
        if out.is_dir():
            raise UsageError(f"{out} is a folder", "Name a file, such as -o pairs.jsonl.")
        if out.exists() and not out.is_file():  # reading a terminal or pipe would block
            raise UsageError(f"{out} is not a file", "Name a file, such as -o pairs.jsonl.")
        if not out.parent.is_dir():
            raise UsageError(f"no folder {out.parent}", "Create it first, or name another file.")


def _write(out: Path, extracted: Extracted, rules: Rules, *, replace: bool) -> None:
    if not extracted.examples:
        raise _too_little(extracted, rules)
    data = encode(extracted.examples)
    with files.translated(out):
        same = out.exists() and files.read_bytes(out) == data
    if same:
        return
    if out.exists() and not replace:
        raise Refusal(f"{out} already exists, with other contents", "Choose another name, or add --replace.")
    files.write_over(out, data)


def _too_little(extracted: Extracted, rules: Rules) -> Refusal:
    """Explain why there is nothing to write, with the concept that came closest."""
    if not extracted.concepts:
        return Refusal("no text has a score", "Put scores at the end of a text, such as 'warmth:9 clarity:10'.")
    best = max(extracted.concepts, key=lambda concept: min(concept.positive_found, concept.negative_found))
    counts = f"'{best.concept}' has {best.positive_found} positive and {best.negative_found} negative ones"
    if best.highest is not None and best.positive_found == 0:
        hint = f"Its highest score is {best.highest:g}: lower --min-positive-score."
    else:
        hint = "Lower --min-examples, or use --dry-run to see all counts."
    return Refusal(f"no concept has {rules.min_examples} texts on each side: {counts}", hint)


def _result(out: Path | None, graph: _Graph, extracted: Extracted, by_hand: Contrasts) -> ReadoutPairs:
    return ReadoutPairs(
        out=out,
        source=graph.origin,
        examples=len(extracted.examples),
        nodes=len(graph.items),
        short=extracted.short,
        copies=extracted.copies,
        middling=by_hand.left_out,
        concepts=extracted.concepts,
        overlaps=extracted.overlaps,
        notes=graph.notes,
    )
