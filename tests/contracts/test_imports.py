"""The house's import table, read from the source: a line may import only what stands below it."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import persona

ROOT = Path(persona.__file__).parent
DOCS = ROOT.parent / "docs" / "architecture.md"

FENCES = {
    "backports": {"store"},
    "bitsandbytes": {"training"},
    "blake3": {"ids"},
    "click": {"cli"},
    "compression": {"store"},
    "huggingface_hub": {"checkpoints"},
    "jinja2": {"demo", "ui"},
    "matplotlib": {"cli"},
    "numba": {"kernels"},
    "optuna": {"suggestions"},
    "peft": {"training", "demo"},
    "regex": {"evaluate"},
    "rich": {"cli"},
    "safetensors": {"training"},
    "sklearn": {"readout"},
    "starlette": {"ui"},
    "threadpoolctl": {"building"},
    "tokenizers": {"demo"},
    "tomlkit": {"recipe"},
    "torch": {
        "building", "checkpoints", "demo", "evaluate", "inference", "methods", "readout", "training", "verbs", "workspace"
    },
    "transformers": {"checkpoints", "demo", "inference", "integrations", "training"},
    "uvicorn": {"ui"},
    "yaml": {"checkpoints"},
}  # fmt: skip
"""Third-party packages, and the rooms that import them; numpy and typing_extensions may be imported anywhere."""

VERBS_OF_VERBS = {
    "diff": {"interference"},
    "merge": {"interference"},
    "negate": {"alpha"},
    "redo": {"undo"},
    "switch": {"checkout"},
    "train": {"commit"},
}
"""A verb that does what another does, and more. What two verbs share otherwise stands in ``workspace/``."""


def table() -> list[set[str]]:
    """The floors, top first, as the architecture page prints them."""
    block = re.search(r"<!-- import table -->\s*```\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None, "docs/architecture.md has no import table"
    return [{room.strip() for room in line.split("|")} for line in block[1].strip().splitlines()]


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def named(path: Path) -> str:
    """A module's name: ``persona.verbs.build``."""
    parts = ("persona", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py") or path.parent != ROOT
)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Absolute names of every module that a file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


@cache
def arrows() -> Mapping[str, set[str]]:
    """Each module of the package, and the modules of the package that it imports."""
    modules = {named(path) for path in SOURCES}
    arrows = {}
    for path in SOURCES:
        ours = (name for name in imports(path) if name.startswith("persona."))
        targets = {name if name in modules else name.rpartition(".")[0] for name in ours}
        arrows[named(path)] = targets & modules - {named(path)}
    return arrows


def test_a_room_imports_only_what_stands_below_it() -> None:
    floors = {room: number for number, floor in enumerate(table()) for room in floor}
    ground = max(floors.values())
    wrong = []
    for path in SOURCES:
        room = room_of(path)
        assert room in floors, f"{room} has no place in the import table"
        for name in imports(path):
            other = name.split(".")[1] if name.startswith("persona.") else ""
            if other in floors and other != room and floors[other] <= floors[room]:
                same_ground = floors[room] == floors[other] == ground
                wrong += [] if same_ground else [f"{named(path)} may not import {name}"]
    assert wrong == []


def test_the_table_has_the_rooms_that_there_are() -> None:
    rooms = [room for floor in table() for room in floor]
    assert Counter(rooms) == Counter({room_of(path) for path in SOURCES})


def test_third_party_packages_are_imported_where_the_fences_say() -> None:
    """And nowhere else: a fence that names a room without such an import is stale."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for name in imports(path):
            package = name.partition(".")[0]
            if package not in sys.stdlib_module_names - {"compression"} and package not in ("persona", "__future__"):
                found.setdefault(package, set()).add(room_of(path))
    assert {
        package: rooms for package, rooms in found.items() if package not in ("numpy", "typing_extensions")
    } == FENCES


def test_a_verb_is_a_verb() -> None:
    """It imports another one only where it does what that does, and more."""
    found: dict[str, set[str]] = {}
    for module, targets in arrows().items():
        if module.startswith("persona.verbs."):
            verbs = {name.removeprefix("persona.verbs.") for name in targets if name.startswith("persona.verbs.")}
            if verbs:
                found[module.removeprefix("persona.verbs.")] = verbs
    assert found == VERBS_OF_VERBS


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside of functions and below TYPE_CHECKING count. A package and its own modules are one."""

    def whole(module: str) -> str:
        return "persona.kernels" if module.startswith("persona.kernels.") else module

    left: dict[str, set[str]] = {}
    for module, targets in arrows().items():
        left.setdefault(whole(module), set()).update(whole(name) for name in targets if whole(name) != whole(module))
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_nothing_but_the_public_surface_is_imported_at_the_top() -> None:
    allowed = {"persona.errors.PersonaError"}
    top = ast.parse((ROOT / "__init__.py").read_text()).body
    found = {f"{n.module}.{a.name}" for n in top if isinstance(n, ast.ImportFrom) for a in n.names}
    assert {name for name in found if name.startswith("persona")} == allowed


def test_only_files_py_touches_the_disk() -> None:
    """Creating, renaming, syncing and deleting go through ``files.py``; reading is free."""
    of_modules = {
        "copyfile", "copytree", "fsync", "ftruncate", "hardlink_to", "makedirs", "mkdir", "move", "remove", "rename",
        "replace_file", "rmdir", "rmtree", "symlink_to", "touch", "truncate", "unlink", "write_bytes", "write_text",
    }  # fmt: skip
    of_paths = {"mkdir", "rmdir", "symlink_to", "touch", "unlink", "write_bytes", "write_text"}
    wrong = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)) if path.name != "files.py" else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                called = node.func.attr
                if owner != "files" and (called in of_paths or (owner in ("os", "shutil") and called in of_modules)):
                    wrong.append(f"{path}:{node.lineno} {called}")
    assert wrong == []


def test_nothing_is_ever_unpickled() -> None:
    """But for tensors alone, by torch's own restricted reader, in one module."""
    for path in SOURCES:
        names = {name.partition(".")[0] for name in imports(path)}
        calls = re.findall(r"torch\.load\(.*", path.read_text())
        if path.name == "pickled.py":
            assert len([call for call in calls if "weights_only=True, mmap" in call]) == 1
            names -= {"pickle"}  # for the name of its error
            assert "pickle.load" not in path.read_text()
        else:
            assert not calls, path
        assert not names & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, path


def test_the_library_never_prints_and_never_reads_the_environment() -> None:
    assert list(_spoken()) == []


def _spoken() -> Iterator[str]:
    for path in SOURCES:
        for node in ast.walk(tree_of(path)) if room_of(path) != "cli" else ():
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                yield f"{path}:{node.lineno} {node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                yield f"{path}:{node.lineno} {node.func.id}"
