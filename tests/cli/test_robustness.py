"""What a hostile shell, terminal, disk or file can do: still two lines, the right exit code, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.building.receipt import is_receipt
from persona.cli.app import App
from persona.cli.output import utf8
from persona.errors import CheckpointError, Damaged, UsageError
from persona.ids import object_digest
from persona.store.objects import canonical
from tests.cli.conftest import Run, Said
from tests.models import TinyModels


def assert_two_lines(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 2, said.err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    for word in words:
        assert word in said.err, said.err


def process(folder: Path, *args: str | bytes | Path, stdout: Any = subprocess.PIPE, **env: str) -> Said:
    """A real process, for what only real outputs do."""
    done = subprocess.run(
        [sys.executable, "-m", "persona", *args],
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        check=False,
    )
    return Said(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> Path:
    persona.commit(repo, models.run(1), name="listening")
    return repo.root


def test_arguments_that_are_not_utf8(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    odd = os.fsdecode(b"m\xff")
    for args in (
        ["commit", models.run(2), "--as", "z", "-m", odd],
        ["commit", models.run(2), "--as", odd],
        ["commit", models.run(2), "--as", "z", "--meta", f"a={odd}"],
        ["checkout", "HEAD", "-b", odd],
        ["alpha", f"{odd}=1"],
        ["show", odd],
    ):
        assert_two_lines(run(work, *args), 2, "is not valid UTF-8", "m\ufffd")
    assert_two_lines(run(work, odd), 2, "no command")
    assert_two_lines(run(work, "log", f"--{odd}"), 2)


def test_a_folder_that_is_not_utf8(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    odd = os.fsdecode(bytes(tmp_path) + b"/run\xff")
    try:
        shutil.copytree(models.run(2), odd)
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    assert_two_lines(run(work, "commit", odd), 2, "not a valid vector name", "--as NAME")
    assert run(work, "commit", odd, "--as", "odd").code == 0
    assert "run\ufffd" in run(work, "op", "log").out
    assert "run\ufffd" in run(work, "show", "odd").out
    assert run(work, "build", "-o", odd + "-out").code == 0
    assert "run\ufffd-out" in run(work, "verify", odd + "-out").out
    assert json.loads(run(work, "verify", odd + "-out", "--json").out)["result"]["ok"]
    assert_two_lines(run(work, "verify", odd + "-nowhere"), 2, "run\ufffd-nowhere")


def test_a_bug_can_always_be_told(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(self: object) -> None:
        raise ZeroDivisionError("a\nb \udcff")

    monkeypatch.setattr("persona.repository.Repository.head", fall_over)
    said = run(work, "diff", os.fsdecode(b"\xff"))
    assert_two_lines(said, 2)
    said = run(work, "diff")
    assert_two_lines(said, 70, "ZeroDivisionError: a b", "details are in")
    Path(said.err.rpartition("details are in ")[2].partition(":")[0]).unlink()
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    assert_two_lines(run(work, "diff"), 70, "--traceback")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output(work: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        for args in (["build", "-o", tmp_path / "a", "--json"], ["build", "-o", tmp_path / "b"], ["log"], ["--help"]):
            assert_two_lines(process(work, *args, stdout=full), 74, "standard output", "no space left")
        assert_two_lines(
            process(work, "show", "nothing", "--json", stdout=full), 2, "is not a vector, readout or revision"
        )
    assert (tmp_path / "a" / "persona.json").exists()


def test_closed_outputs(work: Path) -> None:
    for shell in ("log >&-", "log 2>&-", "show nothing 2>&-", "log >&- 2>&-", "log --json >&-"):
        done = subprocess.run(
            f"{sys.executable} -m persona {shell}", shell=True, cwd=work, check=False, capture_output=True
        )
        assert done.returncode == (2 if "nothing" in shell else 0), (shell, done)
        assert done.stderr == b""


def test_markup_is_text(models: TinyModels, tmp_path: Path, run: Run) -> None:
    said = run(tmp_path, "init", "--base", models.base(), "--name", "a[/b] :smile:", "w[/]")
    assert said.code == 0, said
    assert "a[/b] :smile:" in said.out
    work = tmp_path / "w[/]"
    assert "a[/b] :smile:" in run(work, "status").out
    said = run(work, "commit", models.run(1), "--as", "one", "-m", "x[/y] [bold] :smile:", "--node", "[/n]")
    assert "x[/y] [bold] :smile:" in said.out
    for command in (["log"], ["log", "--oneline"], ["show"], ["op", "log"], ["undo"], ["redo"], ["checkout", "HEAD"]):
        assert "x[/y] [bold] :smile:" in run(work, *command).out, command
    assert "[/n]" in run(work, "vectors").out
    said = run(work, "build", "-o", "x[/y]")
    assert (said.code, said.out.count("into x[/y]:")) == (0, 1), said
    assert "x[/y] is a build of commit" in run(work, "verify", "x[/y]").out
    (work / "x[/y]" / "[bold]").write_text("")
    assert "[bold]: was added" in run(work, "verify", "x[/y]").out
    assert run(work, "convert", models.run(1), "-o", "y[/y]").code in (0, 2)


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_outputs_that_cannot_say_alpha(work: Path, env: dict[str, str]) -> None:
    for args in (["status"], ["vectors"], ["show", "listening"], ["alpha", "listening=0.5", "-m", "τ"]):
        said = process(work, *args, **env)
        assert (said.code, said.err) == (0, ""), said
    assert json.loads(process(work, "log", "--json", **env).out)["result"][0]["subject"] == "τ"
    assert_two_lines(process(work, "show", "τ", **env), 2, "is not a vector, readout or revision")


def test_c_names_a_folder_that_must_exist(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "-C", "nowhere", "status"), 2, "no folder 'nowhere'", "-C")
    assert_two_lines(run(work, "-C", "persona.toml", "status"), 2, "no folder 'persona.toml'")
    assert run(work.parent, "-C", work.name, "status").code == 0


def test_a_hangup_cleans_up(models: TinyModels, work: Path) -> None:
    program = (
        "import os, signal, sys\nfrom persona import files\nfrom persona.cli import main\nseen = []\n"
        "def watch(effect, path):\n    seen.append(1)\n    if len(seen) == 4: os.kill(os.getpid(), signal.SIGHUP)\n"
        "files.observer = watch\nmain.run(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "commit", models.run(2), "--as", "b"]
    done = subprocess.run(command, cwd=work, capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGHUP, done
    assert not list((work / ".persona" / "tmp").iterdir())
    command = [sys.executable, "-c", f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{program}"]
    done = subprocess.run([*command, "log"], cwd=work, capture_output=True, check=False)
    assert done.returncode == 0, done


def test_messages_with_newlines_are_one_line(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "show", "a\nb\r\nc\u2028d"), 2, "'a b c d'")
    assert json.loads(run(work, "show", "a\nb", "--json").out)["error"]["message"].startswith("'a\nb'")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('user = "me"', "user is not a table"),
        ("[user]\nname = 3", "user.name is not a string"),
        ("[user", "config.toml"),
    ],
)
def test_a_wrong_user(work: Path, run: Run, config: str, words: str) -> None:
    (work / ".persona" / "config.toml").write_text(config)
    assert_two_lines(run(work, "alpha", "listening=2"), 2, "config.toml", words)
    assert run(work, "log").code == 0


def test_the_author_is_text(repo: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo.folder / "config.toml").write_text('[user]\nname = "Ä"\nemail = "a@b"')
    assert App().author(repo) == "Ä <a@b>"


def test_a_home_of_nobody(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "commit", "~nobodyx/run", "--as", "a"), 2, "no home folder for '~nobodyx'")


def test_demo_keeps_in_a_folder(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    assert_two_lines(run(tmp_path, "demo", "--keep", "file"), 1, "file is a file")


def rewritten(out: Path, **changes: object) -> None:
    """A receipt that says something else, with the id that belongs to it."""
    fields = {**json.loads((out / "persona.json").read_text()), **changes}
    fields = {key: value for key, value in fields.items() if value is not ... and key != "id"}
    fields["id"] = object_digest(canonical(fields))
    (out / "persona.json").write_text(json.dumps(fields))


RECEIPTS = {
    "schema a string": '{"schema": "v1"}',
    "schema true": '{"schema": true, "id": "a"}',
    "schema null": '{"schema": null, "id": null}',
    "another's file": '{"name": "Ada", "age": 36}',
    "NaN": '{"schema": 1, "id": "a", "x": NaN}',
    "half a pair": '{"schema": 1, "id": "a", "x": "\\ud800"}',
    "deep": '{"schema": 1, "id": "a", "x": ' + "[" * 900 + "]" * 900 + "}",
    "a list": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("case", RECEIPTS)
def test_a_foreign_receipt(work: Path, tmp_path: Path, run: Run, case: str) -> None:
    (tmp_path / "persona.json").write_text(RECEIPTS[case])
    said = run(work, "verify", tmp_path)
    assert said.code in (1, 2), said
    assert_two_lines(said, said.code, "persona.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": ...},
        {"commit": ...},
        {"edited": "no"},
        {"recipe": {}},
        {"recipe": None},
        {"tensors": None},
        {"shards": {"model.safetensors": {}}},
        {"shards": {"model.safetensors": None}},
        {"files": {"../secret": "a"}},
        {"files": {"config.json": 1}},
        {"files": {"config.json": "short"}},
        {"files": {"x" * 300: "0" * 64}},
        {"commit": "../../x"},
        {"schema": True},
    ],
)
def test_a_receipt_with_the_right_id_and_the_wrong_shape(
    work: Path, tmp_path: Path, run: Run, changes: dict[str, object]
) -> None:
    out = tmp_path / "out"
    run(work, "build", "-o", out)
    assert is_receipt(json.loads((out / "persona.json").read_text()))
    rewritten(out)
    assert run(work, "verify", out).code == 0
    rewritten(out, **changes)
    assert not is_receipt(json.loads((out / "persona.json").read_text()))
    assert_two_lines(run(work, "verify", out), 2, "persona.json", "is not a build's receipt")


def test_text_that_is_not_utf8() -> None:
    """JSON may have any surrogate, and the command line those that stand for a byte."""
    assert utf8("a\ud800b") == "a\ufffdb"
    assert utf8(os.fsdecode(b"a\xffb")) == "a\ufffdb"


def test_show_does_not_need_the_recipe_file(work: Path, run: Run) -> None:
    (work / "persona.toml").write_text("alpha 1")
    assert "add listening" in run(work, "show", "HEAD").out
    assert "listening" in run(work, "show", "listening").out
    assert_two_lines(run(work, "show", "lissening"), 2, "persona.toml:1", "restore")
    (work / "persona.toml").write_bytes(b"\xff")
    assert run(work, "show").code == 0


def test_a_damaged_object_has_no_kind(repo: persona.Repository) -> None:
    name = repo.head()
    path = repo.objects.path(name)
    for data in (b"", b"{", b"\xff", b"[]", b"[" * 100_000):
        path.chmod(0o644)
        path.write_bytes(data)
        with pytest.raises(Damaged, match="is damaged"):
            repo.objects.kind(name)
    path.unlink()
    with pytest.raises(Damaged, match="is missing"):
        repo.objects.kind(name)


METRICS = {
    "NaN": "{'a': NaN}",
    "infinity": '{"a": Infinity}',
    "too large": '{"a": 1e999}',
    "half a pair": '{"a": "\\ud800"}',
    "deep": "[" * 100 + "]" * 100,
    "very deep": "[" * 100_000,
    "a long integer": "1" * 5000,
    "not UTF-8": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("case", METRICS)
def test_metrics_that_cannot_be_kept(models: TinyModels, work: Path, tmp_path: Path, run: Run, case: str) -> None:
    text = METRICS[case]
    path = tmp_path / "metrics.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = run(work, "commit", models.run(2), "--as", "b", "--metrics", path)
    assert_two_lines(said, 2, "metrics.json is not plain JSON")


def test_metrics_that_are_not_there(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    assert_two_lines(run(work, "commit", models.run(2), "--metrics", "m.json"), 2, "does not exist", "m.json")
    assert_two_lines(run(work, "commit", models.run(2), "--metrics", tmp_path), 2, "is a folder")


@pytest.mark.parametrize(
    "changes",
    [{"init_lora_weights": ["pissa"]}, {"init_lora_weights": {}}, {"init_lora_weights": 3}, {"lora_alpha": 10**400}],
)
def test_an_adapter_that_says_what_none_says(tmp_path: Path, changes: dict[str, object]) -> None:
    from persona.checkpoints.adapters.config import read_config

    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, **changes}))
    with pytest.raises(CheckpointError, match=next(iter(changes))):
        read_config(path)


def test_a_task_that_is_a_list(tmp_path: Path) -> None:
    from persona.checkpoints.adapters.config import read_config

    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "task_type": ["SEQ_CLS"]}))
    assert read_config(path).headless is False


def test_the_same_name_twice(models: TinyModels, work: Path, run: Run) -> None:
    assert_two_lines(run(work, "alpha", "listening=2", "listening=3"), 2, "'listening' is given twice")
    assert_two_lines(run(work, "commit", "-m", "x", "--meta", "a=1", "--meta", "a=1"), 2, "--meta 'a' is given twice")


def test_a_folder_whose_name_is_no_vectors(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(models.run(2), tmp_path / "v1.2")
    assert_two_lines(run(work, "commit", tmp_path / "v1.2"), 2, "'v1.2' is not a valid vector name", "--as NAME")


def test_a_recipe_is_edited_by_commands_in_any_layout(models: TinyModels, work: Path, run: Run) -> None:
    path = work / "persona.toml"
    text = path.read_text()
    base, _, table = text.partition("[vectors.listening]")
    path.write_text(f"{base}[vectors.listening]{table}\n[merge]\nscale = 1.0\n")
    assert run(work, "commit", "-m", "merge").code == 0
    assert run(work, "commit", models.run(2), "--as", "late").code == 0
    assert run(work, "alpha", "listening=0.5", "late=2").code == 0
    assert run(work, "rm", "listening").code == 0
    assert [one["name"] for one in json.loads(run(work, "vectors", "--json").out)["result"]] == ["late"]


def test_usage_errors_are_of_the_library_too(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"metrics file .* does not exist"):
        persona.commit(repo, models.run(1), name="a", metrics=tmp_path / "none.json")


LIMITS = """
import resource, sys
from persona import files
resource.setrlimit(resource.RLIMIT_NOFILE, (40, int(sys.argv[1])))
files.allow_many_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("hard", [40, 900])
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(hard: int) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITS, str(hard)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"({hard}, {hard})"


def test_a_current_folder_that_was_deleted(tmp_path: Path) -> None:
    """In a shell that stands in a folder which somebody removed."""
    (tmp_path / "gone").mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); from persona.cli.main import invoke; sys.exit(invoke(['status']))"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path / "gone", capture_output=True, text=True, check=False)
    assert done.returncode == 74
    assert "the current folder does not exist any more" in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["log"], ["log", "--json"]])
def test_a_reader_that_goes_away(work: Path, args: list[str]) -> None:
    """As ``head`` does. 141 is what the shell says of a program that SIGPIPE ended, git among them."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert process(work, *args, stdout=writer) == Said(141, "", "")
    finally:
        os.close(writer)


class OutOfMemoryError(RuntimeError):
    """As ``torch.OutOfMemoryError`` is named."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (OutOfMemoryError("CUDA out of memory."), "not enough memory"),
        (OSError(12, "Cannot allocate memory"), "cannot allocate memory"),
        (ImportError("libx.so: cannot open shared object file: Too many open files", name="x"), "x: libx.so"),
        (ImportError("libx.so: failed to map segment from shared object", name="x"), "--memory SIZE"),
        (OSError(24, "Too many open files", "/a"), "/a: too many open files"),
        (PermissionError(13, "Permission denied", "/a"), "/a: permission denied"),
    ],
)
def test_what_the_system_refuses_is_not_a_bug(
    work: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def refuse(self: object) -> None:
        raise error

    monkeypatch.setattr("persona.repository.Repository.head", refuse)
    assert_two_lines(run(work, "diff"), 74, words)


def test_torchs_own_words() -> None:
    """A real allocation that fails, for whatever torch says of it today."""
    import torch

    from persona.cli.main import _refused_by_the_system

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert _refused_by_the_system(caught.value) is not None
