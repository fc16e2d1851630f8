"""Facts about the work tree of the training code, which may be somebody else's: nothing that it configures is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from persona.checkpoints.provenance.code import code_facts


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with one committed file, which was touched since, so that git has to look into it."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("one\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "x")
    (folder / "train.py").write_text("two\n")
    os.utime(folder / "train.py", (1, 1))
    return folder


CONFIG = {
    "a clean filter": '[filter "x"]\n\tclean = "touch {ran}; cat"\n\trequired = true\n',
    "a process": '[filter "x"]\n\tprocess = touch {ran}\n\trequired = true\n',
    "an odd name": '[filter "x y.z"]\n\tclean = "touch {ran}; cat"\n',
    "a monitor": "[core]\n\tfsmonitor = touch {ran}\n",
    "hooks": "[core]\n\thooksPath = {hooks}\n",
    "an included file": "[include]\n\tpath = {included}\n",
}


@pytest.mark.parametrize("attributes", [".gitattributes", ".git/info/attributes"])
@pytest.mark.parametrize("config", CONFIG.values(), ids=list(CONFIG))
def test_nothing_is_run(tree: Path, tmp_path: Path, config: str, attributes: str) -> None:
    ran, hooks, included = tmp_path / "ran", tmp_path / "hooks", tmp_path / "included"
    hooks.mkdir()
    (hooks / "post-index-change").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (hooks / "post-index-change").chmod(0o755)
    included.write_text(CONFIG["a clean filter"].format(ran=ran))
    with (tree / ".git" / "config").open("a") as file:
        file.write(config.format(ran=ran, hooks=hooks, included=included))
    (tree / ".git" / "info").mkdir(exist_ok=True)
    name = "x\\ y.z" if "x y.z" in config else "x"
    (tree / attributes).write_text(f"* filter={name}\n")
    facts = code_facts(tree)
    assert not ran.exists()
    assert facts is not None
    assert facts["changed"] == 1


def test_the_attack_works_on_git_itself(tree: Path, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    with (tree / ".git" / "config").open("a") as file:
        file.write(CONFIG["a clean filter"].format(ran=tmp_path / "ran"))
    (tree / ".gitattributes").write_text("* filter=x\n")
    git(tree, "status")
    assert (tmp_path / "ran").exists()


def test_a_filter_that_cannot_be_switched_off_leaves_the_state_out(tree: Path, tmp_path: Path) -> None:
    with (tree / ".git" / "config").open("a") as file:
        file.write(CONFIG["a clean filter"].format(ran=tmp_path / "ran").replace('"x"', '"a=b"', 1))
    (tree / ".gitattributes").write_text("* filter=a=b\n")
    facts = code_facts(tree)
    assert facts is not None
    assert "changed" not in facts
    assert facts["branch"] == "main"
    assert not (tmp_path / "ran").exists()
