"""What Tab offers: the real protocol, in a process of its own, as a shell speaks it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from persona.cli.main import COMMANDS
from tests.cli.conftest import Run
from tests.models import TinyModels
from tests.readout.handmade import written

SHELLS = ("bash", "zsh", "fish")
Tab = Callable[..., list[str]]


def tab(folder: Path, line: str) -> list[str]:
    """What is offered where ``line`` ends; nothing may be said beside it."""
    words = len(shlex.split(line)) - (not line.endswith(" "))
    env = os.environ | {"_PERSONA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(words)}
    command = [sys.executable, "-m", "persona.cli.main"]
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def two(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    persona.commit(repo, models.run(1), name="listening", node="listen-first", alpha=0.8)
    persona.commit(repo, models.run(2), name="voice")
    persona.checkout(repo, branch="calmer")
    return repo


def test_commands(tmp_path: Path) -> None:
    assert tab(tmp_path, "persona ") == [f"plain,{name}" for name in COMMANDS]
    assert tab(tmp_path, "persona di") == ["plain,diff"]
    assert tab(tmp_path, "persona --no") == ["plain,--no-pager"]
    assert "plain,--stat" in tab(tmp_path, "persona diff --")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("persona checkout ", ["HEAD", "calmer", "main"]),
        ("persona log ma", ["main"]),
        ("persona build c", ["calmer"]),
        ("persona show ", ["listening", "voice", "HEAD", "calmer", "main"]),
        ("persona diff voice m", ["main"]),
        ("persona diff voice@", ["voice@HEAD", "voice@calmer", "voice@main"]),
        ("persona readout pa", ["pairs"]),
        ("persona readout pairs --graph ma", ["main"]),
        ("persona rm l", ["listening"]),
        ("persona negate v", ["voice"]),
        ("persona bake listening v", ["voice"]),
        ("persona alpha l", ["listening=0.8"]),
        ("persona commit --as v", ["voice"]),
        ("persona commit --node ", ["listen-first"]),
        ("persona methods dare_", ["dare_linear", "dare_ties"]),
        ("persona completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_what_is_known(two: persona.Repository, line: str, wanted: list[str]) -> None:
    assert tab(two.root, line) == [f"plain,{word}" for word in wanted]


def test_folders(two: persona.Repository) -> None:
    for said in ("./", "runs/", "../x", "nothing-like-it", "~/"):
        assert tab(two.root, f"persona diff {said}") == [f"dir,{said}"]
    assert tab(two.root, "persona commit r") == ["file,r"]


def test_the_beginning_of_an_id(two: persona.Repository) -> None:
    head = two.head()
    assert tab(two.root, f"persona show {head[:8]}") == [f"plain,{head.short}"]
    assert tab(two.root, f"persona show {head[:3]}") == []


def test_another_folder(two: persona.Repository, tmp_path: Path) -> None:
    assert tab(tmp_path, f"persona -C {two.root} rm l") == ["plain,listening"]


def test_a_recipe_in_the_middle_of_an_edit(two: persona.Repository) -> None:
    two.recipe_path.write_text("[vectors.voice\n")
    assert tab(two.root, "persona rm ") == ["plain,listening", "plain,voice"]


@pytest.mark.parametrize("line", ["persona checkout ", "persona rm ", "persona foo x", "persona -C /no/such rm "])
def test_silence_outside_of_a_repository(tmp_path: Path, line: str) -> None:
    assert tab(tmp_path, line) == []


def test_silence_in_a_broken_one(two: persona.Repository) -> None:
    (two.folder / "HEAD").write_bytes(b"\xff\xfe")
    two.recipe_path.write_text("[[[")
    for command in ("rm", "checkout", "show", "alpha"):
        assert tab(two.root, f"persona {command} ") == []


def test_nothing_heavy_is_imported_and_no_command(two: persona.Repository) -> None:
    program = (
        "import sys\n"
        "from persona.cli import main\n"
        "try: main.run([])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)"
    )
    for line, word in (("persona diff ", 2), ("persona ", 1)):
        env = os.environ | {"_PERSONA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(word)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=two.root, env=env, check=True, capture_output=True, text=True)
        loaded = set(done.stdout.rpartition("LOADED")[2].split())
        assert not loaded & {"torch", "numpy", "transformers"}
        if word == 1:
            assert not {f"persona.cli.commands.{name}" for name in COMMANDS} & loaded


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(run: Run, tmp_path: Path, shell: str) -> None:
    said = run(tmp_path, "completion", shell)
    assert said.code == 0
    assert said.err == ""
    assert f"_PERSONA_COMPLETE={shell}_complete" in said.out
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n", "-c" if shell != "fish" else "--command", said.out], check=True)


def test_an_unknown_shell(run: Run, tmp_path: Path) -> None:
    refused = run(tmp_path, "completion", "tcsh")
    assert refused.code == 2
    assert "bash" in refused.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_it(two: persona.Repository, tmp_path: Path) -> None:
    shim = tmp_path / "bin" / "persona"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m persona.cli.main "$@"\n')
    shim.chmod(0o755)
    program = (
        'eval "$(persona completion bash)"\n'
        "COMP_WORDS=(persona rm l) COMP_CWORD=2\n"
        "_persona_completion persona l rm\n"
        'echo "${COMPREPLY[@]}"\n'
        "complete -p persona\n"
    )
    env = os.environ | {"PATH": f"{shim.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], cwd=two.root, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["listening", "complete -o nosort -F _persona_completion persona"]


def test_readouts(repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit_readout(repo, written(tmp_path / "mood"), author="Test")
    assert tab(repo.root, "persona rm ") == ["plain,mood"]
    assert tab(repo.root, "persona show mo") == ["plain,mood"]
    assert tab(repo.root, "persona diff mood@m") == ["plain,mood@main"]
    assert tab(repo.root, "persona readout export ") == ["plain,mood"]
    assert tab(repo.root, "persona readout export mood@") == ["plain,mood@HEAD", "plain,mood@main"]
    assert tab(repo.root, "persona readout export out/") == ["dir,out/"]
    assert tab(repo.root, "persona alpha mo") == [], "it has no alpha"
