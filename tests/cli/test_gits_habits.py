"""Forty habits of people who know git: each does what they expect, or says truly what to do instead."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run
from tests.models import TinyModels

NO, USAGE = 1, 2
EDIT, MISTAKE = "(edit)", "(mistake)"

HABITS: tuple[tuple[str, int, str], ...] = (
    ("help", 0, "Usage: persona"),
    ("help merge", 0, "Usage: persona merge"),
    ("status -s", 0, "^$"),
    (f"{EDIT} status -s", 0, "^M voice α 0.5 → 0.7$"),
    ("log --oneline -2", 0, r"^\w{7} \(HEAD, main\) .*\n\w{7} .*$"),
    ("log -1 -p", 0, "voice α 1 → 0.5"),
    ("log --stat -n 1", 0, "1 alpha changed"),
    ("log --graph --oneline --all", 0, r"^\* "),
    ("log --graph --oneline -n 2", 0, r"\n\|\\$"),
    ("log --grep ^merge --oneline", 0, "^.*merge warm$"),
    ("log --author=Ada --oneline -1", 0, "add calm"),
    ("log main..warm", 0, "^$"),
    ("reflog", USAGE, "persona op log"),
    ("show HEAD~1", 0, "merge warm"),
    ("show warm:persona.toml", USAGE, "is not a vector, readout or revision"),
    (f"{EDIT} diff", 0, "voice α 0.5 → 0.7"),
    ("diff HEAD~1..HEAD", 0, "^voice α 1 → 0.5$"),
    ("diff HEAD~2...warm", 0, r"^\+ voice α 1$"),
    (f"{EDIT} add persona.toml", USAGE, "there is no staging area"),
    (f"{EDIT} commit -am warmer", 0, r"^\[main \w{7}\] warmer"),
    ("commit --amend -m 'less voice'", 0, r"^\[main \w{7}\] less voice"),
    (f"{EDIT} commit -a --amend -m more", 0, r"more\n voice α 1 → 0.7"),
    ("commit -m nothing", NO, "nothing to commit"),
    (f"{EDIT} restore persona.toml", 0, "is the committed version again"),
    (f"{EDIT} checkout -- persona.toml", USAGE, "persona restore"),
    (f"{EDIT} stash", 0, r"^Stashed stash@\{0\}"),
    (f"{EDIT} stash; stash list; stash pop; diff", 0, "^voice α 0.5 → 0.7$"),
    ("stash drop", USAGE, "Nothing is stashed"),
    ("reset --hard HEAD~1", USAGE, "persona undo"),
    ("rebase -i HEAD~3", USAGE, "history is not replayed"),
    ("branch -a", 0, "main .*\n .*warm"),
    ("branch -vv", 0, "add voice"),
    ("branch -d main", NO, "is the current branch"),
    ("checkout -b new; branch -D warm; branch", 0, r"\*\s+new"),
    ("switch -", 0, "On branch warm"),
    ("tag v1.0; tag v2.0; tag -l 'v1*'", 0, r"^(?!.*v2)(?s:.*)v1\.0"),
    ("cherry-pick warm", NO, "Conflicts with"),
    ("checkout -b new HEAD~2; cherry-pick warm", 0, r"^\[new \w{7}\] add voice"),
    ("revert HEAD", 0, "revert"),
    ("mv voice gentle", 0, "voice renamed|rename voice to gentle"),
    ("rm voice", 0, "remove voice"),
    ("merge warm", 0, "up to date"),
    ("push origin main", USAGE, "has no remotes"),
    ("pull", USAGE, "has no remotes"),
    ("clone . elsewhere", USAGE, "Copy the folder"),
    ("config user.name Ada", USAGE, r"config\.toml"),
    ("blame voice", USAGE, "evals"),
    ("grep voice", USAGE, "persona log --grep"),
    ("gc --dry-run", 0, "."),
    (f"{MISTAKE} status", 0, r"Next: fix line \d+ of persona\.toml \(or discard"),
    (f"{MISTAKE} status -s", 0, r"^U persona\.toml:\d+:"),
    (f"{MISTAKE} checkout warm", USAGE, r"persona\.toml:\d+:.*\n.*Fix the line"),
    (f"{MISTAKE} alpha voice=1", USAGE, r"persona\.toml:\d+:.*\n.*Fix the line"),
    (f"{MISTAKE} stash", USAGE, r"persona\.toml:\d+:.*\n.*Fix the line"),
    ("comit", USAGE, "Did you mean 'commit'"),
)
"""What is typed, one command after another, and the exit code and output of the last one."""


@pytest.fixture(scope="module")
def begun(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """main: listening, calm, the merge of warm, voice at 0.5. warm: listening, voice."""
    root = tmp_path_factory.mktemp("habits") / "work"
    ada = "Ada <ada@example.org>"
    persona.init(root, models.base(), author=ada)
    repo = persona.open(root)
    persona.commit(repo, models.run(1), name="listening", author="Bo <bo@example.org>")
    persona.switch(repo, "warm", create=True)
    persona.commit(repo, models.run(2), name="voice", author="Bo <bo@example.org>")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(3), name="calm", author=ada)
    persona.merge(repo, ["warm"], author="Bo <bo@example.org>")
    persona.alpha(repo, {"voice": 0.5}, author="Bo <bo@example.org>")
    return root


def test_there_are_forty() -> None:
    assert len(HABITS) >= 40


@pytest.mark.parametrize(("typed", "code", "wanted"), HABITS, ids=[typed for typed, _, _ in HABITS])
def test_habit(begun: Path, tmp_path: Path, run: Run, typed: str, code: int, wanted: str) -> None:
    work = Path(shutil.copytree(begun, tmp_path / "work"))
    for mark, alpha in ((EDIT, "alpha = 0.7"), (MISTAKE, "alpha = 0.7]")):
        if typed.startswith(mark):
            path, typed = work / "persona.toml", typed.removeprefix(mark)
            path.write_text(path.read_text().replace("alpha = 0.5", alpha))
    *before, last = [shlex.split(line) for line in typed.split(";")]
    for words in before:
        assert run(work, *words).code == 0
    said = run(work, *last)
    assert said.code == code, said
    text = (said.err if code == USAGE else said.out + said.err).strip()
    assert re.search(wanted, text), text
    assert "bug in persona" not in text
