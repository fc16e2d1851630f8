"""The house's import table, read from the source: a line may import only what stands below it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona

ROOT = Path(persona.__file__).parent
DOCS = ROOT.parent / "docs" / "architecture.md"

FENCES = {
    "click": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"cli"},
    "tomlkit": {"recipe"},
    "blake3": {"ids"},
    "jinja2": {"demo"},
    "yaml": {"checkpoints"},
    "peft": {"checkpoints", "training", "demo"},
    "transformers": {"integrations", "live", "readout", "training", "evaluate", "demo"},
    "tokenizers": {"training", "demo"},
    "numba": {"kernels"},
    "sklearn": {"readout"},
    "optuna": {"suggestions"},
    "bitsandbytes": {"training"},
}


def table() -> list[set[str]]:
    """The floors, top first, as the architecture page prints them."""
    block = re.search(r"<!-- import table -->\s*```\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None, "docs/architecture.md has no import table"
    return [{room.strip() for room in line.split("|")} for line in block[1].strip().splitlines()]


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[str]:
    """Absolute names of every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py") or path.parent != ROOT
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    floors = {room: number for number, floor in enumerate(table()) for room in floor}
    room = room_of(path)
    assert room in floors, f"{room} has no place in the import table"
    for name in imports(path):
        if not name.startswith("persona."):
            assert room in FENCES.get(name.partition(".")[0], {room}), f"{room} may not import {name}"
            continue
        other = name.split(".")[1]
        if other in floors and other != room:
            same_ground = floors[room] == floors[other] == max(floors.values())
            assert floors[other] > floors[room] or same_ground, f"{room} may not import {other}"


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(path) for path in SOURCES}
    assert rooms <= set().union(*table())


def test_nothing_but_the_public_surface_is_imported_at_the_top() -> None:
    allowed = {"persona.errors.PersonaError"}
    top = ast.parse((ROOT / "__init__.py").read_text()).body
    found = {f"{n.module}.{a.name}" for n in top if isinstance(n, ast.ImportFrom) for a in n.names}
    assert {name for name in found if name.startswith("persona")} == allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_files_py_touches_the_disk(path: Path) -> None:
    """Creating, renaming, syncing and deleting go through ``files.py``; reading is free."""
    if path.name == "files.py":
        return
    forbidden = {
        "write_text", "write_bytes", "unlink", "rename", "replace_file", "mkdir", "rmdir", "touch", "symlink_to",
        "hardlink_to", "rmtree", "copyfile", "copytree", "move", "fsync", "truncate", "ftruncate", "makedirs", "remove",
    }  # fmt: skip
    modules = {"os", "shutil"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in forbidden:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "files":
                continue
            of_a_module = isinstance(owner, ast.Name) and owner.id in modules
            of_a_path = node.func.attr in {
                "write_text",
                "write_bytes",
                "unlink",
                "mkdir",
                "rmdir",
                "touch",
                "symlink_to",
            }
            assert not of_a_module, f"{path}:{node.lineno} {node.func.attr}"
            assert not of_a_path, f"{path}:{node.lineno} {node.func.attr}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_ever_unpickled(path: Path) -> None:
    """But for tensors alone, by torch's own restricted reader, in one module."""
    names = {name.partition(".")[0] for name in imports(path)}
    calls = re.findall(r"torch\.load\(.*", path.read_text())
    if path.name == "pickled.py":
        assert len([call for call in calls if "weights_only=True, mmap" in call]) == 1
        names -= {"pickle"}  # for the name of its error
        assert "pickle.load" not in path.read_text()
    else:
        assert not calls
    assert not names & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_never_prints_and_never_reads_the_environment(path: Path) -> None:
    if room_of(path) == "cli":
        return
    tree = list(ast.walk(ast.parse(path.read_text())))
    assert not [n for n in tree if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")]
    calls = [n for n in tree if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert not [call for call in calls if call.func.id in ("print", "input")]
