"""`persona chat` on a terminal and in scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona
from persona.cli.app import App
from persona.cli.chatting import Chat, FirstLoad
from persona.cli.tables import chatted
from persona.progress import SILENT
from persona.workspace.conversation import Conversation, TalkOptions
from tests.cli.conftest import Run
from tests.evaluate import small
from tests.models import word_tokenizer
from tests.readout.handmade import handmade, written

FEW = TalkOptions(max_tokens=4)
EVIL = "w2\x1b[31m\u202e"


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose model says words that a terminal would obey."""
    root = tmp_path_factory.mktemp("chatting")
    small.model().save_pretrained(root / "base")
    words = [*small.SPECIAL, "user", "assistant", ":", *(f"{EVIL}{number}" for number in range(40))]
    word_tokenizer(words, small.TEMPLATE).save_pretrained(root / "base")
    persona.init(root / "work", root / "base", author="Test")
    repo = persona.open(root / "work")
    tuned = small.tuned_folder(root / "a", root / "base", 1, std=0.018)
    word_tokenizer(words, small.TEMPLATE).save_pretrained(tuned)
    persona.commit(repo, tuned, name="a", alpha=0.5)
    persona.commit_readout(repo, written(root / "mood", handmade(base=repo.recipe(repo.head()).base)))
    return root / "work"


class Typed:
    """Lines of a user, whose last one is Ctrl-D."""

    def __init__(self, *lines: str) -> None:
        self._lines: Iterator[str] = iter(lines)

    def __call__(self, prompt: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line


def talk(
    root: Path, capsys: pytest.CaptureFixture[str], *lines: str, revs: tuple[str, ...] = (), readout: str | None = None
) -> tuple[list[str], list[str]]:
    """What a conversation prints on stdout and on stderr."""
    conversation = Conversation(persona.open(root), revs, FEW, readout=readout)
    capsys.readouterr()
    Chat(App(argv=["chat"], folder=str(root)), conversation, Typed(*lines)).run()
    said = capsys.readouterr()
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    return said.out.splitlines(), said.err.splitlines()


def test_a_conversation_and_its_commands(talking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = talk(
        talking, capsys, "hello w1", "", "/alpha a=0.25", "/alpha", "/scale 2", "/steer warmth=2", "/steer",
        "/steer warmth=0", "/why", "/undo", "/undo", "/rev HEAD", "/save", "/alph a=1", "/alpha a", "/alpha a=x",
        "/alpha a=1 a=2", "/scale", "/scale x", "/rev", "/reset", "/help", "//usr", "/quit", "never",
        readout="mood",
    )  # fmt: skip
    assert out[0].startswith("persona.toml, 1 vector")
    said = [line for line in out if line.startswith("w2\\x1b[31m\\u202e")]
    assert len(said) == 2  # to the first prompt and to '/usr'
    assert out[3].startswith("warmth ")
    assert "  calm " in out[3]
    for line in ("a α 0.25", "scale 2", "warmth +2", "not steered", "taken back: hello w1", "all turns are forgotten"):
        assert line in out, line
    assert any(line.startswith("log-probability of the reply: -") for line in out)
    assert any(line.split()[:2] == ["a", "0.5"] for line in out)  # the alpha of the reply, not of now
    assert "/why                 what each vector adds to the last reply's log-probability" in out
    errors = [line.removeprefix("error: ") for line in err if line.startswith("error: ")]
    assert [error.split(":")[0] for error in errors] == [
        "there is no turn to take back",
        "nothing to save",
        "no command '/alph'",
        "'a' is not of the form NAME=NUMBER",
        "'x' is not a number",
        "name 'a' is given twice",
        "'x' is not a number",
        "/rev takes one revision",
    ]
    assert "hint: Did you mean 'alpha'?" in err


def test_the_recipe_is_written(talking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = persona.open(talking)
    before = repo.recipe_text()
    out, _ = talk(talking, capsys, "/alpha a=0.75", "/save")
    assert "a α 0.5 → 0.75" in out
    assert "alpha = 0.75" in (repo.recipe_text() or "")
    assert persona.restore(repo).changed
    assert repo.recipe_text() == before


def test_ctrl_c_at_the_prompt_ends_it(talking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talk(talking, capsys, "^C", "never said")[0][-1] == ""


def test_several_are_printed_in_columns(talking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = talk(talking, capsys, "w1 w2", "/help", revs=("base", "HEAD"))
    heading = next(line for line in out if line.startswith("base  "))
    assert "HEAD (" in heading
    assert any(line.startswith("They change and explain the last model: HEAD (") for line in out)


def test_scripts(talking: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked.txt"
    asked.write_text("w1 w2\n\nw3\n")
    done = run(talking, "chat", "base", "HEAD", "--prompts", asked, "--max-tokens", "4", "--readout", "mood")
    assert (done.code, "\x1b" in done.out) == (0, False)
    lines = done.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "w1 w2", "", "w3", "", "Readings are in standard deviations from the mean of texts without the concept.",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines if line.startswith(" ")] == ["base", "HEAD", "base", "HEAD"]
    rows = tmp_path / "asked.jsonl"
    rows.write_text('{"prompt": "w1 w2", "completion": "w3"}\n{"text": "w3"}\n')
    spoken = json.loads(run(talking, "chat", "--prompts", rows, "--prompt", "w5", "--max-tokens", "4", "--json").out)
    assert [row["prompt"] for row in spoken["result"]["prompts"]] == ["w5", "w1 w2", "w3"]
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 w2\n\nw3\n"))
    again = json.loads(run(talking, "chat", "--max-tokens", "4", "--json").out)
    assert again["result"]["prompts"] == spoken["result"]["prompts"][1:]


def test_what_is_no_prompt(talking: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"prompt": 3}\n')
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "no prompts on standard input" in run(talking, "chat").err
    assert "missing 'prompt'" in run(talking, "chat", "--prompts", wrong).err
    assert "--max-tokens" in run(talking, "chat", "--prompt", "w1", "--max-tokens", "0").err


def test_bars_are_drawn_for_the_first_load_only() -> None:
    class Told:
        def __init__(self) -> None:
            self.notes: list[str] = []
            self.tasks: list[str] = []

        def task(self, label: str, total: int, unit: str = "bytes") -> object:
            self.tasks.append(label)
            return SILENT.task(label, total, unit)

        def note(self, text: str) -> None:
            self.notes.append(text)

    told = Told()
    progress = FirstLoad(told)  # type: ignore[arg-type]
    with progress.task("one", 1):
        progress.done()
    with progress.task("two", 1):
        progress.note("a")
    assert (told.tasks, told.notes) == (["one"], ["a"])


def test_a_terminal_shows_columns(talking: Path) -> None:
    from rich.console import Console

    done = persona.chat(persona.open(talking), "w1 w2", ["base", "HEAD"], options=FEW)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, no_color=True)
    chatted.result(console, done)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "base" in lines[1]
    assert "HEAD" in lines[1]
