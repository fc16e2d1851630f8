"""A page's ``console`` blocks as one shell session: read them, run them, compare what they show.

In a ``console`` block a line that begins with ``$ `` is typed, and the lines below it are what it prints, on stdout
and stderr together. A comment on the line before a block says more about it:

    <!-- exit: 1 -->                  the block's last command exits with 1 (all others with 0)
    <!-- output: not compared -->     what is printed depends on the model's size; only exit codes count
    <!-- file: ask.py -->             a block of any language that the reader saves under this name

Numbers and ids that differ between two sessions are masked before outputs are compared, see ``mask``.

To write the outputs of a page anew, with the models in their full size (it takes minutes):

    python -m tests.docs.session docs/tutorial.md
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<key>\w+): (?P<value>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)

MASKS = (
    (re.compile(r"^Author: .*", re.M), "Author: WHO"),
    (re.compile(r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4} [+-]\d{4}"), "DATE"),
    (re.compile(r"(?<=^Repository in ).*", re.M), "FOLDER"),
    (re.compile(r"(?<=bytes: )[\d.]+(?: \w?B)?|\b\d+\.\d{4,}"), "N"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "ID"),
    (re.compile(r"\b\d[\d.]* (?:B|kB|MB|GB)(?!\w)"), "SIZE"),
    (re.compile(r"\b\d+(?:\.\d+)?%"), "N%"),
    (re.compile(r"\b\d[\d,]*(?= (?:tensors?|weights|steps|computed|copied|files?)\b)"), "N"),
    (re.compile(r"(?<=dense)( +)\d+(?= )|(?<=lora r8)( +)\d+(?= )"), " N"),
    (re.compile(r"loss \d+\.\d+ → \d+\.\d+"), "loss N → N"),
    (re.compile(r"(?<=\"steps\": )\d+|(?<=steps {7})\d+"), "N"),
)


@dataclass
class Command:
    """One typed line, where it stands, and what it should do."""

    line: int
    text: str
    shown: list[str] = field(default_factory=list)
    exit: int = 0
    compared: bool = True


@dataclass(frozen=True)
class File:
    """A block that the reader saves as a file."""

    line: int
    name: str
    body: str


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    command: Command
    exit: int
    printed: list[str]

    @property
    def difference(self) -> str | None:
        """In what it is not as the page says."""
        if self.exit != self.command.exit:
            said = "\n".join(self.printed)
            return (
                f"line {self.command.line}: $ {self.command.text}\nexit {self.exit}, not {self.command.exit}:\n{said}"
            )
        wanted, got = mask(self.command.shown), mask(self.printed)
        if not self.command.compared or wanted == got:
            return None
        return "\n".join([f"line {self.command.line}: $ {self.command.text}", "shown:", *wanted, "printed:", *got])


def mask(lines: list[str]) -> list[str]:
    """Lines without what differs between two sessions; runs of spaces count as one."""
    text = "\n".join(lines)
    for pattern, placeholder in MASKS:
        text = pattern.sub(placeholder, text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def steps(page: str) -> Iterator[Command | File]:
    """What a reader does, in order."""
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start("body")) + 1
        if block["key"] == "file":
            yield File(line, block["value"], block["body"])
        elif block["language"] == "console":
            yield from _commands(block, line)


def _commands(block: re.Match[str], line: int) -> list[Command]:
    found: list[Command] = []
    for number, text in enumerate(block["body"].splitlines(), line):
        if text.startswith("$ "):
            found.append(Command(number, text[2:], compared=block["key"] != "output"))
        else:
            assert found, f"line {number}: a console block begins with '$ '"
            found[-1].shown.append(text)
    if block["key"] == "exit":
        found[-1].exit = int(block["value"])
    return found


def environment(home: Path, *, quick: bool) -> dict[str, str]:
    """A reader's shell: persona on the PATH, a name for commits, no colours, nothing from the network."""
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **({"PERSONA_DEMO_QUICK": "1", "OMP_NUM_THREADS": "1"} if quick else {}),
    }


def play(page: str, folder: Path, env: dict[str, str]) -> Iterator[Ran]:
    """Carry out a page in ``folder``; every command in the same shell."""
    shell = subprocess.Popen(
        ["sh"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with shell:
        for step in steps(page):
            if isinstance(step, File):
                (folder / step.name).write_text(step.body)
            else:
                yield _type(shell, step)
        assert shell.stdin is not None
        shell.stdin.close()


def _type(shell: subprocess.Popen[str], command: Command) -> Ran:
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{{ {command.text}\n}} </dev/null\nprintf '\\n--done %d\\n' $?\n")
    shell.stdin.flush()
    printed: list[str] = []
    for line in shell.stdout:
        if line.startswith("--done "):
            return Ran(command, int(line.split()[1]), printed[:-1] if printed and not printed[-1] else printed)
        printed.append(line.rstrip())
    raise AssertionError(f"line {command.line}: the shell ended at: {command.text}")


def rewritten(page: str, ran: list[Ran]) -> str:
    """The page with what was printed in place of what it showed."""
    lines = page.splitlines()
    for one in reversed(ran):
        lines[one.command.line : one.command.line + len(one.command.shown)] = one.printed
    return "\n".join(lines) + "\n"


def main() -> None:
    page = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "my-persona")
        shutil.copytree(ROOT / "examples", work / "examples")
        ran = list(play(page.read_text(), work, environment(Path(home), quick=False)))
    page.write_text(rewritten(page.read_text(), ran))
    sys.exit("\n\n".join(f"line {r.command.line}: exit {r.exit}" for r in ran if r.exit != r.command.exit) or 0)


if __name__ == "__main__":
    main()
