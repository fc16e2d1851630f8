"""Parameter types that complete revisions, vectors, nodes and methods in the shell.

They convert nothing. Completing only reads small files, and any error means no suggestions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from persona.settings import parse_toml

if TYPE_CHECKING:
    from persona.repository import Repository

_ID = re.compile(r"[0-9a-f]{4,}")


class KnownNames(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.4 on
    """Free text with completions.

    Args:
        words: Returns the possible words, given the repository (None outside one) and what is typed so far.
        folders: Offer folders when no word matches.
    """

    name = "text"

    def __init__(self, words: Callable[[Repository | None, str], Iterable[str]], *, folders: bool = False) -> None:
        self._words = words
        self._folders = folders

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the words that start with `incomplete`."""
        words = [] if incomplete.startswith((".", "/", "~")) else self._matching(ctx, incomplete)
        if self._folders and not words:
            return [CompletionItem(incomplete, type="dir")]
        return [CompletionItem(word) for word in words]

    def _matching(self, ctx: click.Context, incomplete: str) -> list[str]:
        try:
            words = dict.fromkeys(self._words(_repository(ctx), incomplete))
        except Exception:  # the shell would print a traceback into the command line
            return []
        return [word for word in words if word.startswith(incomplete)]


def _repository(ctx: click.Context) -> Repository | None:
    """The repository that the command would open, without finishing an interrupted operation: completion writes nothing."""
    from persona.errors import NoRepository
    from persona.repository import Repository, find

    try:
        return Repository(find(Path(ctx.find_root().params.get("folder") or ".")))
    except NoRepository:
        return None


def _revisions(repo: Repository | None, typed: str) -> Iterator[str]:
    """HEAD, branches, tags; commit ids once four digits are typed."""
    if repo is None:
        return
    from persona.history import refs

    yield refs.HEAD
    yield from refs.short_names(repo.refs())
    if _ID.fullmatch(typed):
        yield from (name.short for name in repo.objects.matching(typed) if repo.objects.kind(name) == "commit")


def _branches(repo: Repository | None, typed: str) -> Iterator[str]:
    if repo is not None:
        from persona.history import refs

        yield from refs.short_names(repo.refs(), (refs.BRANCHES,))


def _vectors(repo: Repository | None, typed: str) -> Iterator[str]:
    yield from _tables(repo)


def _tables(repo: Repository | None, kind: str = "vectors") -> dict[str, dict[str, Any]]:
    """The tables of vectors, or readouts, in `persona.toml`; in HEAD's if the file cannot be parsed."""
    if repo is None:
        return {}
    try:
        tables = parse_toml(repo.recipe_text() or "")[kind]
    except (ValueError, KeyError):
        tables = parse_toml(repo.head_text()).get(kind, {})
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def _readouts(repo: Repository | None, typed: str) -> Iterator[str]:
    yield from _tables(repo, "readouts")


def _entries(repo: Repository | None, typed: str) -> Iterator[str]:
    yield from _vectors(repo, typed)
    yield from _readouts(repo, typed)


def _strengths(repo: Repository | None, typed: str) -> Iterator[str]:
    """`NAME=ALPHA` with the current alpha, to be edited."""
    for name, table in _tables(repo).items():
        alpha = table.get("alpha", 1.0)
        yield f"{name}={alpha}" if isinstance(alpha, int | float) else f"{name}="


def _nodes(repo: Repository | None, typed: str) -> Iterator[str]:
    if repo is None:
        return
    from persona.store.graphs import Graph

    graph = repo.commit(repo.head()).graph
    yield from Graph.get(repo.objects, graph).nodes if graph else ()
    yield from (table["node"] for table in _tables(repo).values() if isinstance(table.get("node"), str))


def _methods(repo: Repository | None, typed: str) -> Iterable[str]:
    from persona import methods

    return methods.names()


def _aggregators(repo: Repository | None, typed: str) -> Iterable[str]:
    from persona.readout import aggregators

    return aggregators.names()


def _suites(repo: Repository | None, typed: str) -> Iterable[str]:
    from persona.evaluate import suite

    return suite.names(repo.root) if repo is not None else ()


def _shown(repo: Repository | None, typed: str) -> Iterator[str]:
    """Vectors, readouts and revisions; after `NAME@`, revisions."""
    yield from _named(repo, typed)
    yield from _revisions(repo, typed)


def _named(repo: Repository | None, typed: str) -> Iterator[str]:
    """Vectors and readouts; after `NAME@`, revisions."""
    name, at, rev = typed.partition("@")
    if at and name in {*_tables(repo), *_tables(repo, "readouts")}:
        yield from (f"{name}@{revision}" for revision in _revisions(repo, rev))
    yield from _entries(repo, typed)


def _measured(repo: Repository | None, typed: str) -> Iterator[str]:
    """Readouts; after `NAME@`, revisions."""
    names = set(_readouts(repo, typed))
    yield from (word for word in _named(repo, typed) if word.partition("@")[0] in names)


REV = KnownNames(_revisions)
"""A revision."""

BRANCH = KnownNames(_branches)
"""A branch."""

VECTOR = KnownNames(_vectors)
"""A vector of the recipe."""

ENTRY = KnownNames(_entries)
"""A vector or a readout of the recipe."""

READOUT = KnownNames(_measured, folders=True)
"""A readout of the recipe, or its folder."""

STRENGTH = KnownNames(_strengths)
"""`NAME=VALUE`, a vector and its alpha."""

NODE = KnownNames(_nodes)
"""A memory-graph node."""

METHOD = KnownNames(_methods)
"""A merge method."""

AGGREGATOR = KnownNames(_aggregators)
"""An aggregator: how labelled texts become a direction."""

SUITE = KnownNames(_suites)
"""An evaluation suite."""

SHOWN = KnownNames(_shown)
"""A vector, a readout or a revision."""

SIDE = KnownNames(_shown, folders=True)
"""One side of a comparison: a vector, a revision or a folder."""
