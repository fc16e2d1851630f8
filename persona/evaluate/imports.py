"""Python modules that lie beside a suite: they can be imported while one of them runs, and are not left behind.

Suites of several repositories may each have a ``judge``, and a judge its helpers. What was imported from a folder is therefore
taken out of ``sys.modules`` when it has run; it is put back when that folder's code runs again, and still has what it had loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from persona import files
from persona.errors import UsageError
from persona.ids import blob_id


@dataclass
class _Kept:
    """What was imported from a folder, and the digests of the files that suites named."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


_KEPT: dict[Path, _Kept] = {}


def file_of(folder: Path, module: str) -> Path | None:
    """The file of a module that lies in ``folder``, None if none does."""
    path = module.replace(".", "/")
    return next((one for one in (folder / f"{path}.py", folder / path / "__init__.py") if one.is_file()), None)


@contextmanager
def importable(folder: Path, module: str, digest: str = "") -> Iterator[None]:
    """Let ``module`` and what else lies in ``folder`` be imported meanwhile, before what is installed.

    ``digest`` is that of the module's file when the suite was read, empty where it lies elsewhere; UsageError if it is another now.
    """
    folder = folder.resolve()
    kept = _kept(folder, module, digest)
    names = _roots([*kept.modules, module] if digest else kept.modules)
    hidden = _taken_out(names)
    before = dict(sys.modules)
    sys.modules.update(kept.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # code may change the path
            sys.path.remove(str(folder))
        kept.modules = _taken_out(names | {name for name in _new(before) if _is_of(sys.modules[name], folder)})
        sys.modules.update(hidden)


def _kept(folder: Path, module: str, digest: str) -> _Kept:
    """What is known of a folder; nothing where the module's file is another than that which was imported."""
    kept = _KEPT.get(folder)
    if kept is None or kept.digests.get(module, digest) != digest:
        kept = _KEPT[folder] = _Kept()
    if digest and module not in kept.digests:
        path = file_of(folder, module)
        if path is None or blob_id(_bytes(path)) != digest:
            raise UsageError(f"{path or folder / module} was changed since the suite was read", "Run it again.")
        kept.digests[module] = digest
    return kept


def _bytes(path: Path) -> bytes:
    with files.translated(path):
        return path.read_bytes()


def _roots(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _taken_out(roots: set[str]) -> dict[str, ModuleType]:
    """Modules and packages of these names, with all that is in them, out of ``sys.modules``."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in roots}


def _new(before: dict[str, ModuleType]) -> list[str]:
    return [name for name, one in sys.modules.items() if "." not in name and before.get(name) is not one]


def _is_of(module: ModuleType, folder: Path) -> bool:
    """Whether a module or package lies in ``folder`` itself; of a namespace, a part of it."""
    places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return any(place is not None and Path(place).parent == folder for place in places)
