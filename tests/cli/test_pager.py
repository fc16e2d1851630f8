"""Long output on a terminal: a real pseudo-terminal, and real pagers."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import persona
from tests.models import TinyModels

PATIENCE = 60.0
LESS = pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")


@dataclass(frozen=True)
class Seen:
    """What a terminal showed, and how the command ended."""

    text: str
    code: int


def on_a_terminal(
    folder: Path,
    *args: str,
    rows: int = 8,
    answer: Callable[[str], bytes] | None = None,
    command: list[str] | None = None,
    **settings: str,
) -> Seen:
    """Run a command on a terminal of so many rows. ``answer`` is asked what to type each time something appears."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    drop = {"PAGER", "PERSONA_PAGER", "LESS", "NO_COLOR", "COLUMNS", "LINES"}
    env = {key: value for key, value in os.environ.items() if key not in drop} | {"TERM": "xterm-256color"} | settings
    command = command or [sys.executable, "-m", "persona.cli.main", *args]
    process = subprocess.Popen(
        command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    try:
        while data := _read(ours):
            seen += data
            if answer is not None and (typed := answer(seen)):
                os.write(ours, typed)
        return Seen(seen, process.wait(PATIENCE))
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> str:
    if not select.select([terminal], [], [], PATIENCE)[0]:
        raise TimeoutError("the terminal is silent, and nobody has gone")
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # the other end was closed
        return ""


@pytest.fixture
def long(models: TinyModels, repo: persona.Repository) -> Path:
    """A repository whose log has more lines than a small screen."""
    persona.commit(repo, models.run(1), name="voice")
    for number in range(9):
        persona.alpha(repo, {"voice": number / 10})
    return repo.root


def test_long_output_goes_to_the_pager_with_its_colours(long: Path) -> None:
    seen = on_a_terminal(long, "log", PAGER="tee kept >/dev/null; echo $LESS")
    assert (seen.code, seen.text.strip()) == (0, "FRX")
    kept = (long / "kept").read_text()
    assert "\x1b[33mcommit" in kept
    assert kept.count("commit ") == 11


def test_what_fits_does_not(long: Path) -> None:
    seen = on_a_terminal(long, "log", "--oneline", rows=24, PAGER="echo paged")
    assert "paged" not in seen.text
    assert len(seen.text.splitlines()) == 11
    assert "paged" in on_a_terminal(long, "log", "--oneline", rows=11, PAGER="echo paged").text


@pytest.mark.parametrize("args", [["--no-pager", "log"], ["log", "--json"]], ids=" ".join)
def test_it_can_be_kept_away(long: Path, args: list[str]) -> None:
    seen = on_a_terminal(long, *args, PAGER="echo paged")
    assert "paged" not in seen.text
    assert "voice" in seen.text


@pytest.mark.parametrize("settings", [{"PAGER": "cat"}, {"PAGER": ""}, {"PERSONA_PAGER": "", "PAGER": "echo paged"}])
def test_none_is_a_pager_too(long: Path, settings: dict[str, str]) -> None:
    seen = on_a_terminal(long, "log", **settings)
    assert "paged" not in seen.text
    assert seen.text.count("Author:") == 11


def test_which_one(long: Path) -> None:
    assert on_a_terminal(long, "log", PAGER="echo mine").text.strip() == "mine"
    config = long / "config" / "persona" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[ui]\npager = "echo configured"\n')
    place = {"PAGER": "echo mine", "XDG_CONFIG_HOME": str(long / "config")}
    assert on_a_terminal(long, "log", **place).text.strip() == "configured"
    assert on_a_terminal(long, "log", **place, PERSONA_PAGER="echo chosen").text.strip() == "chosen"


def test_a_repository_does_not_say_what_is_run(long: Path) -> None:
    (long / ".persona" / "config.toml").write_text('[ui]\npager = "touch ran"\n')
    assert on_a_terminal(long, "log", PAGER="echo mine").text.strip() == "mine"
    assert not (long / "ran").exists()


def test_a_pager_that_is_not_there_hides_nothing(long: Path) -> None:
    seen = on_a_terminal(long, "log", PAGER="no-such-pager")
    assert seen.code == 0
    assert seen.text.count("Author:") == 11


def test_a_pager_that_stops_reading_is_no_error(long: Path) -> None:
    seen = on_a_terminal(long, "log", PAGER="head -n 1")
    assert seen.code == 0
    assert len(seen.text.splitlines()) == 1
    assert on_a_terminal(long, "log", PAGER="true").text == ""


def test_the_exit_code_is_the_commands(long: Path) -> None:
    assert on_a_terminal(long, "diff", "HEAD~2", "HEAD", "--exit-code", rows=1, PAGER="true").code == 1


def test_piped_output_has_none(long: Path) -> None:
    env = os.environ | {"PAGER": "echo paged", "PERSONA_PAGER": "echo paged"}
    command = [sys.executable, "-m", "persona.cli.main", "log"]
    done = subprocess.run(command, cwd=long, env=env, check=True, capture_output=True, text=True)
    assert "paged" not in done.stdout
    assert "\x1b" not in done.stdout


@LESS
def test_less_waits_for_its_reader(long: Path) -> None:
    asked = []

    def quit_at_the_prompt(seen: str) -> bytes:
        if not asked and re.search(r":\x1b|:$", seen):
            asked.append(seen)
            return b"q"
        return b""

    seen = on_a_terminal(long, "log", answer=quit_at_the_prompt)
    assert seen.code == 0
    assert asked
    assert seen.text.count("Author:") < 5
    assert "\x1b[33mcommit" in seen.text


def test_ctrl_c_is_for_the_pager(long: Path) -> None:
    typed = []

    def interrupt(seen: str) -> bytes:
        if not typed and "ready" in seen:
            typed.append(seen)
            return b"\x03"
        return b""

    pager = "trap 'echo caught; exit 0' INT; echo ready; read line </dev/tty"
    seen = on_a_terminal(long, "log", answer=interrupt, PAGER=pager)
    assert seen.code == 0
    assert "caught" in seen.text
    assert "interrupted" not in seen.text


@pytest.mark.parametrize(
    "pager",
    [
        pytest.param("less", marks=LESS),
        pytest.param("cat | less", marks=LESS),
        "stty raw -echo </dev/tty; echo ready:; trap '' TERM; read line </dev/tty",
    ],
)
def test_sigterm_ends_the_pager_too(long: Path, pager: str) -> None:
    """And the terminal is as it was: it echoes what is typed. The last pager neither ends by itself nor tidies up."""
    told = []

    def end(seen: str) -> bytes:
        if not told and re.search(r":\x1b|:$|ready:", seen):
            told.extend(pid for pid, command in running(str(long)).items() if b"persona.cli.main" in command)
            os.kill(told[0], signal.SIGTERM)
        return b""

    shell = f"{sys.executable} -m persona.cli.main log; echo code $?; stty -a"
    seen = on_a_terminal(long, "log", answer=end, command=["/bin/sh", "-c", shell], PAGER=pager, MARK=str(long))
    assert len(told) == 1
    assert "code 143" in seen.text
    settings = seen.text.rpartition("code 143")[2].split()
    assert {"echo", "icanon"} <= set(settings)
    assert running(str(long)) == {}, "nothing is left"


def running(mark: str) -> dict[int, list[bytes]]:
    """Processes with this mark in their environment, and their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
