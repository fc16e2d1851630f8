"""Import Python modules that lie beside a suite, without leaving them in ``sys.modules``.

Suites of several repositories may each have a module ``judge``, with helpers. Modules imported from a suite's folder are
therefore removed from ``sys.modules`` after each run, and put back, with their state, when code of that folder runs again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from persona import files
from persona.errors import UsageError
from persona.ids import blob_id

if TYPE_CHECKING:
    from importlib.abc import PathEntryFinder


@dataclass
class _Kept:
    """Modules imported from a folder, and the digests of the files that suites name."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


_KEPT: dict[Path, _Kept] = {}


def file_of(folder: Path, module: str) -> Path | None:
    """The file of a module in ``folder``, or None if it is not there."""
    path = module.replace(".", "/")
    return next((file for file in (folder / f"{path}.py", folder / path / "__init__.py") if file.is_file()), None)


@contextmanager
def importable(folder: Path, module: str, digest: str = "") -> Iterator[None]:
    """Within the context, import modules from ``folder`` in preference to installed ones.

    Args:
        folder: Folder of the suite.
        module: The module that the suite names.
        digest: Digest of the module's file when the suite was read; empty if it is not in ``folder``.

    Raises:
        UsageError: the file has changed since.
    """
    folder = folder.resolve()
    kept = _kept(folder, module, digest)
    names = _roots([*kept.modules, module] if digest else kept.modules)
    hidden = _removed(names)
    before = dict(sys.modules)
    sys.modules.update(kept.modules)
    sys.path.insert(0, str(folder))
    try:
        with _from_source(folder):
            yield
    finally:
        with suppress(ValueError):  # code may change the path
            sys.path.remove(str(folder))
        kept.modules = _removed(names | {name for name in _new(before) if _is_of(sys.modules[name], folder)})
        sys.modules.update(hidden)


class _Source(SourceFileLoader):
    """Compiles sources anew. What is in ``__pycache__`` may have come with the suite and be of another source."""

    def get_data(self, path: str) -> bytes:
        if path.endswith(tuple(BYTECODE_SUFFIXES)):
            raise FileNotFoundError(path)
        return super().get_data(path)

    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Write no bytecode."""


_LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (_Source, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


@contextmanager
def _from_source(folder: Path) -> Iterator[None]:
    """Within the context, ignore bytecode caches in ``folder``."""
    find = FileFinder.path_hook(*_LOADERS)

    def hook(path: str) -> PathEntryFinder:
        if not Path(path).resolve().is_relative_to(folder):
            raise ImportError(f"not in {folder}", path=path)
        return find(path)

    sys.path_hooks.insert(0, hook)
    _forget_finders(folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path_hooks.remove(hook)
        _forget_finders(folder)


def _forget_finders(folder: Path) -> None:
    for path in list(sys.path_importer_cache):
        if Path(path).is_relative_to(folder):
            del sys.path_importer_cache[path]
    importlib.invalidate_caches()


def _kept(folder: Path, module: str, digest: str) -> _Kept:
    """What was imported from a folder; starts afresh if the module's file has changed."""
    kept = _KEPT.get(folder)
    if kept is None or kept.digests.get(module, digest) != digest:
        kept = _KEPT[folder] = _Kept()
    if digest and module not in kept.digests:
        path = file_of(folder, module)
        if path is None or blob_id(_bytes(path)) != digest:
            raise UsageError(
                f"{path or folder / module} has changed since the suite was read", "Run the command again."
            )
        kept.digests[module] = digest
    return kept


def _bytes(path: Path) -> bytes:
    with files.translated(path):
        return files.read_bytes(path)


def _roots(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _removed(roots: set[str]) -> dict[str, ModuleType]:
    """Remove modules and packages of these names, with their submodules, from ``sys.modules``."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in roots}


def _new(before: dict[str, ModuleType]) -> list[str]:
    return [name for name, module in sys.modules.items() if "." not in name and before.get(name) is not module]


def _is_of(module: ModuleType, folder: Path) -> bool:
    """Whether a module or package lies directly in ``folder``, or a part of a namespace package does."""
    places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return any(place is not None and Path(place).parent == folder for place in places)
