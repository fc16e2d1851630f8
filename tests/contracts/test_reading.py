"""Every file is opened by `files.open_regular`, so that no pipe or device can be put where a file is expected."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona
from persona import files
from persona.errors import UsageError
from persona.settings import DEEPEST, parse_toml, read_toml

PACKAGE = Path(persona.__file__).parent

DIRECT = re.compile(r"\.read_bytes\(\)|\.read_text\(|\.open\(\"rb\"|\bos\.open\(|\bopen\([^)]*\"rb?\"")
OWN = {
    "files.py",
    "sharing.py",  # which files needs; it looks at the kind and size of the file itself
    "cli/lazy.py",  # the source of the package
    "checkpoints/ties.py",
    "demo/page.py",
    "demo/story.py",  # what the demo wrote itself
    "demo/teller.py",
    "cli/pager.py",  # /proc
    "threads.py",  # /proc and cgroups
    "readout/working.py",  # its own temporary files
    "inference/gguf.py",  # what transformers wrote a moment ago
    "cli/userconfig.py",  # the user's own
    "cli/output.py",  # /dev/null
}


def test_files_are_opened_in_one_place() -> None:
    found = {
        str(path.relative_to(PACKAGE)): DIRECT.search(path.read_text())
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in OWN
    }
    assert {name: match[0] for name, match in found.items() if match} == {}


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A pipe that nobody writes to, a socket, and a device that never ends."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield {"a pipe": tmp_path / "pipe", "a socket": tmp_path / "socket", "a device": tmp_path / "link"}


def test_pipes_sockets_and_devices_are_not_read(odd: dict[str, Path]) -> None:
    for kind, path in odd.items():
        with pytest.raises(files.Unfit, match=f"not a regular file but {kind}"):
            files.read_bytes(path)
    with pytest.raises(IsADirectoryError):
        files.read_bytes(odd["a pipe"].parent)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(odd["a pipe"].parent / "none")


def test_a_file_may_be_too_large(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(files.Unfit, match="larger than 1 KiB"):
        files.read_bytes(tmp_path / "large", 1 << 10)


NAMES = ("persona.toml", ".persona/config.toml", ".persona/HEAD", ".persona/refs/heads/main", ".persona/op/head")
NAMES += (".persona/op/applied", ".persona/format", "object", "pack")


def test_a_pipe_as_a_part_of_a_repository(repo: persona.Repository, tmp_path: Path) -> None:
    """No command waits for somebody to write into it."""
    places = {"object": repo.objects.path(repo.head()), "pack": next((repo.folder / "packs").iterdir())}
    for path in (places.get(name, repo.root / name) for name in NAMES):
        if path.exists():
            path.rename(tmp_path / "aside")
        os.mkfifo(path)
        for command in (persona.status, persona.log, persona.fsck, lambda repo: persona.build(repo, tmp_path / "out")):
            with contextlib.suppress(persona.PersonaError):
                command(persona.open(repo.root))
        path.unlink()
        if (tmp_path / "aside").exists():
            (tmp_path / "aside").rename(path)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def chain(parts: int, part: str = "a") -> str:
    return ".".join([part] * parts)


@pytest.mark.parametrize("part", ["a", '"a b"', "'a'", "ä-1"])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "\n y = 1\n  {} = 1"])
def test_a_key_of_many_parts(form: str, part: str) -> None:
    """Python's parser takes time that grows with the square of the number of parts."""
    part = part.replace("ä", "a")
    with pytest.raises(ValueError, match=f"a key of more than {DEEPEST} parts"):
        parse_toml(form.format(chain(50_000, part)))
    deepest: object = parse_toml(form.format(chain(DEEPEST - 1, part)))
    assert isinstance(deepest, dict)


def test_toml_that_is_nested_deeply() -> None:
    for text in ("x = " + "[" * 100_000, "x = " + "{a=" * 100_000):
        with pytest.raises(ValueError, match="too deeply nested"):
            parse_toml(text)
    with pytest.raises(UsageError, match=r"evals.toml:3: invalid TOML: a key of more than"):
        read_toml(f"a = 1\n\n{chain(200)} = 1", "evals.toml")


def test_text_with_many_dots_is_no_key() -> None:
    text = f'a = "{"1." * 40}"\nb = 1.5 # {"." * 500}\nc = "{"x" * 100_000}"'
    assert parse_toml(text)["b"] == 1.5
