"""Where reachability starts: the ids in the small files of a ``.persona``, and in the operation log.

``read`` trusts nothing and never raises: each problem with a file becomes a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from persona.errors import PersonaError
from persona.files import LARGEST_TOML, LONGEST_LINE, below, read_bytes, translated
from persona.history import evaluations as evaluations_
from persona.history import refs as refs_
from persona.ids import CommitId, ObjectId
from persona.maintenance import ages as ages_
from persona.maintenance.catalog import TEMPORARY, Catalog
from persona.maintenance.references import ids_in, prefixes_in
from persona.settings import parse_toml
from persona.store.fields import shown

_WITHOUT_ROOTS = ("objects", "packs", "tmp", "lock")
"""Entries of a ``.persona`` that do not name any roots."""

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\U(000[0-9a-fA-F]{5})|\\x([0-9a-fA-F]{2})")
"""A character that TOML has another spelling for; those of digits and letters are all that an id may have."""

_BLANKS = re.compile(r"\\?\s+")
"""What may stand between triple quotes and an id."""

LAST = 10
"""Newest operations that are remembered however old they seem: every clock may have been wrong, this one too."""


@dataclass
class Roots:
    """Commits by ref, evaluations by file, the newest operation, and sentences about files that could not be read."""

    commits: dict[str, CommitId] = field(default_factory=dict)
    evaluations: dict[str, ObjectId] = field(default_factory=dict)
    operation: ObjectId | None = None
    applied: bool = True
    problems: list[str] = field(default_factory=list)


def read(folder: Path, version: str) -> Roots:
    """Read the roots of ``folder``, a ``.persona`` whose format should be ``version``."""
    roots = Roots()
    _check_format(folder / "format", version, roots)
    _check_config(folder / "config.toml", roots)
    heads = [path for path in [folder / refs_.HEAD] if path.exists()]
    files = [*heads, *_files_below(folder / "refs", roots)]
    lines = {path.relative_to(folder).as_posix(): _line(path, roots) for path in files}
    for name, line in lines.items():
        if line is not None:
            _read_ref(name, line, lines, roots)
    if refs_.HEAD not in lines:
        roots.problems.append(f"{folder / refs_.HEAD} is missing")
    for path in _files_below(folder / evaluations_.FOLDER, roots):
        _read_evaluation(path, roots)
    head, applied = _operation(folder / "op" / "head", roots), _operation(folder / "op" / "applied", roots)
    roots.operation, roots.applied = head, head == applied
    return roots


def follow(roots: Roots, changes: Mapping[str, tuple[str | None, str | None]]) -> None:
    """Apply the refs of an operation that the ref files do not show yet."""
    for name, (_, after) in changes.items():
        roots.commits.pop(name, None)
        if after is not None and not after.startswith(refs_.SYMBOLIC):
            roots.commits[name] = CommitId(after)


def _check_format(path: Path, version: str, roots: Roots) -> None:
    line = _line(path, roots)
    if line is not None and line != version:
        roots.problems.append(f"{path} is {shown(line)}, but this version of persona reads {version!r}")


def _check_config(path: Path, roots: Roots) -> None:
    try:
        parse_toml(read_bytes(path, LARGEST_TOML).decode())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        roots.problems.append(f"{path} is not valid TOML: {error}")


def _files_below(folder: Path, roots: Roots) -> list[Path]:
    """The files below a folder; a folder that cannot be read is a problem."""

    def unread(error: PersonaError) -> None:
        roots.problems.append(f"{error.message}: what it names is unknown")

    return [path for path in below(folder, unread) if path.is_file() and TEMPORARY not in path.name]


def _read_evaluation(path: Path, roots: Roots) -> None:
    line = _line(path, roots)
    try:
        roots.evaluations[str(path)] = ObjectId(line or "")
    except ValueError:
        roots.problems.append(f"{path} holds {shown(line)}, not an evaluation's id: delete it, and measure again")


def _line(path: Path, roots: Roots) -> str | None:
    try:
        return read_bytes(path, LONGEST_LINE).decode().strip()
    except FileNotFoundError:
        roots.problems.append(f"{path} is missing")
    except OSError as error:
        roots.problems.append(f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        roots.problems.append(f"{path} is not text")
    return None


def _read_ref(name: str, line: str, lines: Mapping[str, str | None], roots: Roots) -> None:
    if name in (refs_.HEAD, refs_.BISECT_FROM) and line.startswith(refs_.SYMBOLIC):
        if line.removeprefix(refs_.SYMBOLIC) not in lines:
            roots.problems.append(f"{name} follows {line.removeprefix(refs_.SYMBOLIC)!r}, but there is no such branch")
        return
    try:
        roots.commits[name] = CommitId(line)
    except ValueError:
        roots.problems.append(f"{name} holds {shown(line)}, which is not a commit's id")


def _operation(path: Path, roots: Roots) -> ObjectId | None:
    line = _line(path, roots)
    try:
        return None if line is None else ObjectId(line)
    except ValueError:
        roots.problems.append(f"{path} holds {shown(line)}, which is not an operation's id")
        return None


def named_by_files(folder: Path) -> set[str]:
    """Return every id in the small files of a ``.persona``: refs, HEAD, op, and files of a later version."""
    ids: set[str] = set()
    for entry in sorted(folder.iterdir()):
        if entry.name in _WITHOUT_ROOTS:
            continue
        for path in [entry] if entry.is_file() else below(entry):
            if path.is_file():
                with translated(path):
                    ids |= ids_in(read_bytes(path))
    return ids


def named_by_recipe(text: str | None) -> set[str]:
    """Return the prefixes of ids in a recipe, committed or not: as it is written, and as TOML reads it (with escapes)."""
    if text is None:
        return set()
    try:
        values = list(_strings(parse_toml(text)))
    except ValueError:  # conflict markers, or a mistake: as near as one can come without TOML
        plain = _ESCAPED.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), text)
        return prefixes_in(text) | prefixes_in(_BLANKS.sub("", plain))
    return prefixes_in(text).union(*(prefixes_in(f'"{value}"') for value in values))


def _strings(value: object) -> Iterator[str]:
    """Every string in a value of TOML, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def remembered(catalog: Catalog, head: ObjectId | None, now: datetime, grace: timedelta) -> set[str]:
    """Return what operations younger than ``grace``, and the last ``LAST``, mention, before and after.

    Args:
        head: The newest operation.
        grace: Nothing is remembered if it is 0.
    """
    if not grace:
        return set()
    young = {name for name, time in ages_.ages(catalog, now).items() if now - time < grace}
    return mentioned(catalog, young | {*ages_.newest(catalog, head, LAST)})


def mentioned(catalog: Catalog, operations: Iterable[ObjectId]) -> set[str]:
    """Return what these operations mention, before and after, besides operations."""
    return set[str]().union(*(catalog.known[name].others for name in operations)) - {*catalog.of_kind("operation")}
