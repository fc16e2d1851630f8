"""Bad input: two lines, the right exit code, and nothing left half-done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run, Said
from tests.forks import Forks
from tests.models import TinyModels, tiny_llama

USAGE, NO, NO_REPOSITORY, LOCKED, DAMAGED, BUG, STORAGE, INTERRUPTED = 2, 1, 10, 11, 12, 70, 74, 130


def snapshot(root: Path) -> dict[str, str]:
    """Every file below ``root`` by content; the lock and empty folders aside."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def assert_two_lines(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 2, said.err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    for word in words:
        assert word in said.err, said.err


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> Path:
    persona.commit(repo, models.run(1), name="listening")
    return repo.root


def test_outside_a_repository(tmp_path: Path, run: Run) -> None:
    assert_two_lines(run(tmp_path, "status"), NO_REPOSITORY, "no persona repository", "persona init")


def test_a_mistyped_command_and_option(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "comit"), USAGE, "no command 'comit'", "Did you mean 'commit'?")
    assert_two_lines(run(work, "log", "--onelin"), USAGE, "--onelin")
    assert_two_lines(run(work, "build"), USAGE, "--out")


def test_a_mistyped_vector(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "negate", "listning"), USAGE, "no vector 'listning'", "Did you mean 'listening'?")
    assert_two_lines(
        run(work, "show", "listning"), USAGE, "is not a vector, readout or revision", "Did you mean 'listening'?"
    )


def test_errors_are_json_when_asked_for(work: Path, run: Run) -> None:
    said = run(work, "negate", "listning", "--json")
    error = json.loads(said.out)["error"]
    assert said.code == error["exit_code"] == USAGE
    assert error["kind"] == "UsageError"
    assert "listning" in error["message"]
    assert said.err == ""


def write_header(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def tensor(**changes: object) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()


LIES: dict[str, Callable[[Path], None]] = {
    "empty": lambda p: p.write_bytes(b""),
    "short": lambda p: p.write_bytes(b"\x01\x00"),
    "header of 2^63": lambda p: write_header(p, b"{}", length=1 << 63),
    "header beyond the file": lambda p: write_header(p, b"{}", length=100),
    "header not JSON": lambda p: write_header(p, b"{nope}"),
    "header not UTF-8": lambda p: write_header(p, b'{"\xff": 1}'),
    "header a list": lambda p: write_header(p, b"[]"),
    "deep nesting": lambda p: write_header(p, b'{"a":' * 50_000),
    "name twice": lambda p: write_header(p, tensor()[:-1] + b"," + tensor()[1:], bytes(8)),
    "unknown dtype": lambda p: write_header(p, tensor(dtype="F33"), bytes(8)),
    "negative shape": lambda p: write_header(p, tensor(shape=[-2]), bytes(8)),
    "shape of 2^62 by 2^62": lambda p: write_header(p, tensor(shape=[1 << 62, 1 << 62]), bytes(8)),
    "shape of strings": lambda p: write_header(p, tensor(shape=["2"]), bytes(8)),
    "offsets reversed": lambda p: write_header(p, tensor(data_offsets=[8, 0]), bytes(8)),
    "offsets beyond the file": lambda p: write_header(p, tensor(shape=[200], data_offsets=[0, 800]), bytes(8)),
    "size and shape disagree": lambda p: write_header(p, tensor(shape=[3]), bytes(8)),
    "a hole": lambda p: write_header(p, tensor(data_offsets=[4, 12]), bytes(12)),
    "left over": lambda p: write_header(p, tensor(), bytes(9)),
    "metadata of numbers": lambda p: write_header(p, b'{"__metadata__": {"a": 1}}'),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_safetensors_file(work: Path, tmp_path: Path, run: Run, lie: str) -> None:
    (tmp_path / "run").mkdir()
    LIES[lie](tmp_path / "run" / "model.safetensors")
    before = snapshot(work)
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "model.safetensors")
    assert snapshot(work) == before


def test_a_truncated_checkpoint(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(models.run(2), tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    before = snapshot(work)
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "is truncated", "model.safetensors")
    assert snapshot(work) == before


def test_a_missing_shard(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    tiny_llama().save_pretrained(tmp_path / "run", max_shard_size="10KB")
    gone = sorted((tmp_path / "run").glob("model-*.safetensors"))[1]
    gone.unlink()
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, f"lacks {gone.name}")


def test_an_index_that_leaves_its_folder(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    tiny_llama().save_pretrained(tmp_path / "run", max_shard_size="10KB")
    index = tmp_path / "run" / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    table["weight_map"]["x"] = "../secret.safetensors"
    index.write_text(json.dumps(table))
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "is outside its folder")


def test_a_folder_that_is_no_checkpoint(work: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("hello")
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "is not a checkpoint")
    assert_two_lines(run(work, "commit", tmp_path / "missing", "--as", "a"), USAGE, "does not exist")
    assert_two_lines(run(work, "commit", tmp_path / "run" / "notes.txt", "--as", "a"), USAGE, "is a file")


def test_pickles_are_never_opened(work: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert_two_lines(
        run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "pytorch_model.bin", "does not read pickles"
    )


def test_a_run_of_another_base(work: Path, tmp_path: Path, run: Run) -> None:
    tiny_llama(hidden_size=64).save_pretrained(tmp_path / "run")
    before = snapshot(work)
    assert_two_lines(run(work, "commit", tmp_path / "run", "--as", "a"), USAGE, "[96, 64]", "[96, 32]")
    assert snapshot(work) == before


def test_a_build_is_no_run(work: Path, tmp_path: Path, run: Run) -> None:
    assert run(work, "build", "-o", tmp_path / "out").code == 0
    assert_two_lines(run(work, "commit", tmp_path / "out", "--as", "a"), USAGE, "is a build of commit")


RECIPES = {
    "alpha = nan": ("alpha = 1.0", "alpha = nan", "persona.toml:10: vectors.listening.alpha"),
    "alpha = inf": ("alpha = 1.0", "alpha = -inf", "persona.toml:10: vectors.listening.alpha"),
    "alpha = 1e39": ("alpha = 1.0", "alpha = 1e39", "vectors.listening.alpha"),
    "alpha a string": ("alpha = 1.0", 'alpha = "1"', "'1' is not a number from"),
    "alpha true": ("alpha = 1.0", "alpha = true", "True is not a number from"),
    "unknown key": ("alpha = 1.0", "alhpa = 1.0", "persona.toml:10: vectors.listening.alhpa: unknown key"),
    "unknown table": ("[vectors.", "[vector.", "vector: unknown key"),
    "unknown method": (
        "[vectors.",
        '[merge]\nmethod = "tise"\n[vectors.',
        "persona.toml:9: merge.method: unknown method",
    ),
    "unknown parameter": (
        "[vectors.",
        "[merge]\ndensity = 0.2\n[vectors.",
        "persona.toml:9: merge.density: unknown key",
    ),
    "invalid TOML": ("alpha = 1.0", "alpha 1.0", "persona.toml"),
    "a missing vector": ('id = "', 'id = "ffff', "no "),
    "not an id": ('id = "', 'id = "xyz', "is not an id"),
    "only a string": ("alpha = 1.0", 'only = "*.mlp.*"', "vectors.listening.only"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_that_says_what_it_must_not(work: Path, tmp_path: Path, run: Run, case: str) -> None:
    old, new, words = RECIPES[case]
    path = work / "persona.toml"
    text = path.read_text()
    at = text.rindex(old)
    path.write_text(text[:at] + new + text[at + len(old) :])
    before = snapshot(work)
    for command in (["commit", "-m", "x"], ["build", "-o", tmp_path / "out"], ["diff"]):
        assert_two_lines(run(work, *command), USAGE, words)
    assert run(work, "status").code == 0
    assert snapshot(work) == before
    assert not (tmp_path / "out").exists()
    assert run(work, "restore").code == 0
    assert path.read_text() == text


def test_a_vector_of_another_base_in_the_recipe(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other"
    persona.init(other, models.base("float32"))
    persona.commit(persona.open(other), models.run(1, "float32"), name="stranger")
    shutil.copytree(other / ".persona" / "objects", work / ".persona" / "objects", dirs_exist_ok=True)
    table = (other / "persona.toml").read_text()
    with (work / "persona.toml").open("a") as file:
        file.write(table[table.index("[vectors") :])
    assert_two_lines(
        run(work, "commit", "-m", "x"), USAGE, "vector 'stranger'", "belongs to base", "the recipe's base is"
    )


def test_edits_are_protected(work: Path, run: Run) -> None:
    path = work / "persona.toml"
    path.write_text(path.read_text() + "\n# mine\n")
    before = snapshot(work)
    assert_two_lines(run(work, "checkout", "HEAD~1"), NO, "has edits", "persona commit", "persona restore")
    assert_two_lines(run(work, "alpha", "listening=2"), NO, "has uncommitted edits")
    assert_two_lines(run(work, "rm", "listening"), NO, "has uncommitted edits")
    assert snapshot(work) == before
    assert run(work, "restore").code == 0
    assert "# mine" in (work / "persona.toml.orig").read_text()


def test_nothing_to_commit(work: Path, run: Run) -> None:
    assert_two_lines(run(work, "commit", "-m", "x"), NO, "nothing to commit")
    assert_two_lines(run(work, "alpha", "listening=1"), NO, "nothing to change")


@pytest.mark.parametrize("text", ["listening", "listening=", "listening=much", "=1"])
def test_a_wrong_alpha(work: Path, run: Run, text: str) -> None:
    assert_two_lines(run(work, "alpha", text), USAGE)


@pytest.mark.parametrize("rev", ["HEAD~9", "mian", "HEAD~x", "ffff0000", "HEAD^2"])
def test_a_wrong_revision(work: Path, run: Run, rev: str) -> None:
    assert_two_lines(run(work, "checkout", rev), USAGE, rev)


def test_init_twice_and_init_on_a_build(models: TinyModels, work: Path, tmp_path: Path, run: Run) -> None:
    assert_two_lines(run(work, "init", "--base", models.base()), NO, "already exists")
    run(work, "build", "-o", tmp_path / "out")
    (tmp_path / "new").mkdir()
    assert_two_lines(run(tmp_path / "new", "init", "--base", tmp_path / "out"), USAGE, "is a persona build")
    (tmp_path / "new" / "persona.toml").write_text("mine")
    assert_two_lines(run(tmp_path / "new", "init", "--base", models.base()), NO, "persona.toml already exists")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["persona.toml"]


def test_a_failed_init_leaves_nothing(tmp_path: Path, run: Run) -> None:
    (tmp_path / "base").mkdir()
    LIES["left over"](tmp_path / "base" / "model.safetensors")
    (tmp_path / "work").mkdir()
    assert_two_lines(run(tmp_path / "work", "init", "--base", tmp_path / "base"), USAGE)
    assert list((tmp_path / "work").iterdir()) == []


def test_damaged_bytes_are_named_and_never_built(work: Path, tmp_path: Path, run: Run) -> None:
    for pack in (work / ".persona" / "packs").glob("*.safetensors"):
        data = bytearray(pack.read_bytes())
        data[-1] ^= 1
        pack.write_bytes(data)
    said = run(work, "build", "-o", tmp_path / "out")
    assert_two_lines(said, DAMAGED, "packs")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_damaged_object_is_named(work: Path, run: Run) -> None:
    for path in (work / ".persona" / "objects").rglob("*"):
        if path.is_file() and b'"kind":"recipe"' in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b'"alpha":1.0', b'"alpha":9.0'))
    assert_two_lines(run(work, "status"), DAMAGED, "is damaged", "objects")


def test_a_locked_repository(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.repository.LOCK_PATIENCE", 0.0)
    with persona.open(work).transaction("a long one"):
        assert_two_lines(run(work, "alpha", "listening=2"), LOCKED, "a long one", f"pid {os.getpid()}")
        assert run(work, "log").code == 0
    assert run(work, "alpha", "listening=2").code == 0


def test_verify_says_what_changed(work: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    run(work, "build", "-o", out)
    assert run(work, "verify", out).code == 0
    originals = {path: path.read_bytes() for path in out.iterdir()}
    for path, data in originals.items():
        for at in {0, 9, len(data) // 2, len(data) - 1}:
            flipped = bytearray(data)
            flipped[at] ^= 4
            path.write_bytes(flipped)
            said = run(work, "verify", out)
            assert said.code in (NO, USAGE), (path.name, at, said)
            assert path.name in said.out + said.err or "not verified" in said.out
        path.write_bytes(data)
    (out / "extra.txt").write_text("x")
    assert "extra.txt: was added" in run(work, "verify", out).out
    (out / "extra.txt").unlink()
    (out / "config.json").unlink()
    assert "config.json: missing" in run(work, "verify", out).out
    assert_two_lines(run(work, "verify", tmp_path / "nowhere"), USAGE, "is not a folder")


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from persona import files
from persona.cli import main

def watch(effect, path, seen=[0]):
    seen[0] += 1
    if seen[0] == AT:
        ACTION

files.observer = watch
main.run(sys.argv[1:])
"""


Child = Callable[..., Said]


@pytest.fixture
def child(forks: Forks) -> Child:
    """Run a command line in a process of its own, in which ``action`` happens at the ``at``-th file effect."""

    def ran(
        folder: Path, args: list[str | Path], at: int = 0, action: str = "pass", prefix: tuple[str, ...] = ()
    ) -> Said:
        program = CHILD.replace("AT", str(at)).replace("ACTION", action)
        if prefix:
            command = [*prefix, sys.executable, "-c", program, *map(str, args)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        else:
            done = forks.run(["python", "-c", program, *args], cwd=folder)
        return Said(done.returncode, done.stdout, done.stderr)

    return ran


@pytest.mark.parametrize("at", [1, 3, 5, 8])
def test_ctrl_c_in_the_middle(child: Child, models: TinyModels, work: Path, tmp_path: Path, at: int) -> None:
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    before = snapshot(work)
    said = child(work, ["commit", models.run(2), "--as", "b"], at, interrupt)
    assert_two_lines(said, INTERRUPTED, "interrupted")
    now = {name: digest for name, digest in snapshot(work).items() if "/packs/" not in name and "/objects/" not in name}
    assert now == {name: digest for name, digest in before.items() if name in now}
    assert not list((work / ".persona" / "tmp").iterdir())
    said = child(work, ["build", "-o", tmp_path / "out"], at, interrupt)
    assert_two_lines(said, INTERRUPTED)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    assert child(work, ["commit", models.run(2), "--as", "b"]).code == 0
    assert child(work, ["build", "-o", tmp_path / "out"]).code == 0


@pytest.mark.parametrize("command", ["commit", "build", "init"])
def test_a_full_disk(child: Child, models: TinyModels, work: Path, tmp_path: Path, command: str) -> None:
    """A limit on the size of files, which the kernel enforces as it does a full disk."""
    (tmp_path / "new").mkdir()
    args: dict[str, tuple[Path, list[str | Path]]] = {
        "commit": (work, ["commit", models.run(2), "--as", "b"]),
        "build": (work, ["build", "-o", tmp_path / "out"]),
        "init": (tmp_path / "new", ["init", "--base", models.base()]),
    }
    folder, line = args[command]
    before = snapshot(folder)
    said = child(folder, line, 1, "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))")
    assert_two_lines(said, STORAGE, "too large", "run it again")
    assert snapshot(folder) == before
    assert not (tmp_path / "out").exists()
    assert child(folder, line).code == 0


def test_a_disk_without_room(child: Child, models: TinyModels, tmp_path: Path) -> None:
    """A real file system of 300 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a tmpfs")
    try:
        persona.init(disk / "work", models.base())
        before = snapshot(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 20_000)))
        said = child(disk / "work", ["commit", models.run(2), "--as", "b"])
        assert_two_lines(said, STORAGE, "no space left", "Free some space")
        said = child(disk / "work", ["build", "-o", "out"])
        assert_two_lines(said, STORAGE, "no space left")
        filler.unlink()
        assert snapshot(disk) == before
        assert child(disk / "work", ["commit", models.run(2), "--as", "b"]).code == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_unreadable_folder(child: Child, models: TinyModels, work: Path, tmp_path: Path) -> None:
    shutil.copytree(models.run(2), tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").chmod(0)
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root reads everything: give that up
        if shutil.which("setpriv") is None:
            pytest.skip("running as root, and there is no setpriv to give its powers up")
        drop = "-dac_override,-dac_read_search"
        prefix = ("setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}")
    before = snapshot(work)
    said = child(work, ["commit", tmp_path / "run", "--as", "b"], prefix=prefix)
    assert_two_lines(said, STORAGE, "model.safetensors", "permission denied", "permissions")
    (tmp_path / "run").chmod(0)
    said = child(work, ["commit", tmp_path / "run", "--as", "b"], prefix=prefix)
    (tmp_path / "run").chmod(0o755)
    assert_two_lines(said, STORAGE, "run", "permission denied")
    assert snapshot(work) == before


def test_a_bug_is_said_to_be_one(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.repository.Repository.head", lambda self: 1 / 0)
    said = run(work, "diff")
    assert_two_lines(said, BUG, "this is a bug in persona: ZeroDivisionError", "report")
    log = Path(said.err.rpartition("details are in ")[2].partition(":")[0])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


def test_sigterm_cleans_up(child: Child, models: TinyModels, work: Path) -> None:
    said = child(work, ["commit", models.run(2), "--as", "b"], 4, "os.kill(os.getpid(), signal.SIGTERM)")
    assert said.code == 128 + signal.SIGTERM
    assert not list((work / ".persona" / "tmp").iterdir())
