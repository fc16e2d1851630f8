"""``init``, above all ``--link`` and ``--reference``: the base's bytes are shared, or stay where they are; reading is as strict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
)

import persona
from persona import files
from persona.errors import Damaged, PersonaError, Refusal, UsageError
from persona.store.kept import Keep
from persona.verbs.fsck import open_damaged
from tests.cli.conftest import Run
from tests.maintenance.conftest import flip
from tests.models import TinyModels, assert_same, load


@pytest.fixture
def base(models: TinyModels, tmp_path: Path) -> Path:
    """A base of the test's own, to be moved and spoilt."""
    return Path(shutil.copytree(models.base(), tmp_path / "base"))


@pytest.fixture
def make(base: Path, models: TinyModels, tmp_path: Path) -> Callable[[Keep], persona.Repository]:
    def make(keep: Keep) -> persona.Repository:
        done = persona.init(tmp_path / "work", base, keep=keep, author="Test")
        assert done.kept == keep
        repo = persona.open(tmp_path / "work")
        persona.commit(repo, models.run(1), name="a", author="Test")
        return repo

    return make


def fresh(repo: persona.Repository) -> persona.Repository:
    return persona.Repository(repo.root)


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def kept_files(repo: persona.Repository) -> list[Path]:
    return sorted((repo.folder / "packs").glob("*.safetensors"))


def list_of(repo: persona.Repository) -> Path:
    (path,) = (repo.folder / "packs").glob("*.json")
    return path


def build_is_right(repo: persona.Repository, models: TinyModels) -> None:
    out = repo.root / "out"
    persona.build(fresh(repo), out, replace=True)
    assert_same(load(out), load(models.run(1)))
    persona.build(fresh(repo), out, "HEAD~1", replace=True)
    assert_same(load(out), load(models.base()))


@pytest.mark.parametrize("keep", ["copy", "link", "reference"])
def test_the_same_history_however_it_is_kept(
    keep: Keep, make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    repo = make(keep)
    build_is_right(repo, models)
    assert persona.fsck(fresh(repo)).ok
    persona.alpha(repo, {"a": 0.5})
    persona.undo(repo)
    persona.undo(repo)
    persona.gc(repo, grace=0)
    persona.commit(repo, models.run(1), name="a")
    build_is_right(repo, models)
    found = persona.fsck(fresh(repo), repair_from=base)
    assert found.ok
    assert found.healed == ()
    assert found.notes == ()
    assert found.self_contained == persona.status(repo).self_contained == (keep != "reference")
    assert weights(base).read_bytes() == weights(models.base()).read_bytes()
    assert weights(base).stat().st_nlink == (2 if keep == "link" else 1)


def test_a_link_shares_the_bytes_and_outlives_the_base(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    repo = make("link")
    (kept,) = kept_files(repo)
    assert kept.samefile(weights(base))
    assert list((repo.folder / "tmp").iterdir()) == []
    shutil.rmtree(base)
    build_is_right(repo, models)
    assert persona.fsck(fresh(repo)).ok


def test_writing_into_a_linked_file_is_found(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    repo = make("link")
    flip(weights(base), -5)
    with pytest.raises(Damaged, match="is damaged"):
        persona.build(fresh(repo), repo.root / "out", "HEAD~1")
    found = persona.fsck(fresh(repo))
    assert [loss.vectors for loss in found.lost if "delta" not in loss.why] == [("a",)]
    assert persona.fsck(fresh(repo), repair_from=models.base()).ok
    build_is_right(repo, models)
    assert kept_files(repo)[0].stat().st_nlink == 1, "what heals it is a copy of its own"


def test_gc_takes_only_our_name_of_a_linked_file(make: Callable[[Keep], persona.Repository], base: Path) -> None:
    repo = make("link")
    list_of(repo).unlink()  # nothing leads to the file any more
    persona.gc(fresh(repo), grace=0)
    assert kept_files(repo) == []
    assert weights(base).stat().st_nlink == 1


@pytest.mark.parametrize("error", [18, 1, 95, 31], ids=["EXDEV", "EPERM", "EOPNOTSUPP", "EMLINK"])
def test_a_link_that_cannot_be(error: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(Refusal, match=r"cannot hard-link .*model\.safetensors into") as caught:
        persona.init(tmp_path / "work", base, keep="link")
    assert "drop --link" in caught.value.hint
    assert not list((tmp_path / "work").iterdir())


def test_a_link_from_another_file_system(base: Path, tmp_path: Path, run: Run) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev or not os.access(other, os.W_OK):
        pytest.skip("there is one file system only")
    root = other / f"persona-test-{os.getpid()}"
    try:
        said = run(tmp_path, "init", "--base", base, "--link", root)
        assert said.code == 1
        assert "it is on another file system" in said.err
        assert not list(root.iterdir())
        assert run(tmp_path, "init", "--base", base, "--reference", root).code == 0
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_how_to_keep_is_one_of_three(base: Path, tmp_path: Path, run: Run) -> None:
    said = run(tmp_path, "init", "--base", base, "--link", "--reference", "work")
    assert said.code == 2
    assert "--link and --reference cannot be used together" in said.err
    assert not (tmp_path / "work").exists()
    with pytest.raises(UsageError, match="unknown keep 'move'"):
        persona.init(tmp_path / "work", base, keep="move")  # type: ignore[arg-type]


def test_a_reference_keeps_no_bytes_and_says_so(
    make: Callable[[Keep], persona.Repository], base: Path, run: Run
) -> None:
    repo = make("reference")
    assert kept_files(repo) == []
    fields = json.loads(list_of(repo).read_bytes())
    assert (fields["path"], fields["size"]) == (str(weights(base)), weights(base).stat().st_size)
    assert f"Not self-contained: 1 file of the base in {base}" in run(repo.root, "status").out
    status = json.loads(run(repo.root, "status", "--json").out)["result"]
    assert status["self_contained"] is False
    assert status["outside"] == [{"path": str(weights(base)), "size": fields["size"], "wrong": ""}]
    assert f"Not self-contained: the repository does not store {weights(base)}" in run(repo.root, "fsck").out
    checked = json.loads(run(repo.root, "fsck", "--json").out)["result"]
    assert (checked["self_contained"], checked["outside"]) == (False, [str(weights(base))])


def spoil_missing(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def spoil_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def spoil_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def spoil_text(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoil_missing, "is missing"),
        (spoil_cut, "has changed"),
        (spoil_pipe, "is no longer a regular file"),
        (spoil_text, "has changed"),
    ],
)
def test_a_referenced_file_that_is_not_what_it_was(
    spoil: Callable[[Path], None],
    what: str,
    make: Callable[[Keep], persona.Repository],
    models: TinyModels,
    base: Path,
    run: Run,
) -> None:
    repo = make("reference")
    spoil(weights(base))
    for use in (
        lambda: persona.build(fresh(repo), repo.root / "out", "HEAD~1"),
        lambda: persona.commit(fresh(repo), models.run(2), name="b"),
    ):
        with pytest.raises(Damaged, match=f"{weights(base)} {what}") as caught:
            use()
        assert "--repair-from" in caught.value.hint
    assert run(repo.root, "log").code == run(repo.root, "status").code == 0
    assert (what in run(repo.root, "status").out) == (spoil is not spoil_text)
    found = persona.fsck(fresh(repo))
    assert not found.ok
    assert {loss.vectors for loss in found.lost} == {("a",)}
    assert any(f"{weights(base)} {what}" in loss.why for loss in found.lost)
    assert any(len(loss.commits) == 2 for loss in found.lost)
    assert any(f"{weights(base)} {what}" in problem for problem in found.problems)


def test_a_changed_byte_in_a_referenced_file(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    repo = make("reference")
    flip(weights(base), -5)
    changed = weights(base).read_bytes()
    with pytest.raises(Damaged, match=str(weights(base))):
        persona.build(fresh(repo), repo.root / "out", "HEAD~1")
    found = persona.fsck(fresh(repo))
    own = next(loss for loss in found.lost if "delta" not in loss.why)
    assert own.files == (str(weights(base)),)
    assert own.vectors == ("a",)
    healed = persona.fsck(fresh(repo), repair_from=models.base())
    assert healed.ok
    assert healed.outside == (str(weights(models.base())),)
    build_is_right(repo, models)
    assert weights(base).read_bytes() == changed, "a user's own file is left alone"


def test_a_moved_base_is_referred_to_where_it_is_now(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path, run: Run
) -> None:
    repo = make("reference")
    build_is_right(repo, models)
    base.rename(base.with_name("moved"))
    assert run(repo.root, "fsck").code == 1
    said = run(repo.root, "fsck", "--repair-from", "../moved")
    assert said.code == 0, said
    assert said.out.count("is now referred to") == 1
    assert kept_files(repo) == []
    assert persona.status(repo).outside[0].path == weights(base.with_name("moved"))
    persona.build(repo, repo.root / "out", replace=True)  # which had the old place open
    build_is_right(repo, models)


def test_a_base_in_other_shards_is_referred_to_as_well(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    repo = make("reference")
    AutoModelForCausalLM.from_pretrained(base, dtype="auto").save_pretrained(tmp_path / "two", max_shard_size="20KB")
    shutil.rmtree(base)
    healed = persona.fsck(fresh(repo), repair_from=tmp_path / "two")
    assert healed.ok, healed
    assert len(healed.outside) > 1
    assert kept_files(repo) == []
    build_is_right(repo, models)


def test_gc_never_touches_a_users_file(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    repo = make("reference")
    second = Path(shutil.copytree(models.base(seed=3), base.with_name("second")))
    with persona.progress.SILENT.task("", 0) as task:
        repo.tensors.adopt_safetensors(weights(second), task, "reference")
    assert len(persona.status(repo).outside) == 2
    done = persona.gc(fresh(repo), grace=0)
    assert done.freed < 20_000
    assert [one.path for one in persona.status(repo).outside] == [weights(base)]
    assert weights(second).read_bytes() == weights(models.base(seed=3)).read_bytes()
    assert persona.fsck(fresh(repo)).ok
    build_is_right(repo, models)


def test_the_bytes_inside_are_kept_rather_than_those_outside(
    make: Callable[[Keep], persona.Repository], models: TinyModels, base: Path
) -> None:
    """Where the store has a copy after all, a collection lets the reference go, and not the copy."""
    repo = make("reference")
    again = Path(shutil.copytree(models.base(), base.with_name("again")))

    save_file(load(again), weights(again), metadata={"format": "np"})  # the same tensors in another file
    with persona.progress.SILENT.task("", 0) as task:
        repo.tensors.adopt_safetensors(weights(again), task)
    persona.gc(fresh(repo), grace=0)
    assert persona.status(repo).self_contained
    shutil.rmtree(base)
    build_is_right(repo, models)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "model.safetensors"}, {"path": "../../../base/model.safetensors"}, {"path": 7}, {"path": "/a\0b"},
        {"path": "/dev/zero"}, {"path": "/proc/self/mem"}, {"path": "/"}, {"path": None}, {"size": -1}, {"size": True},
        {"size": 1 << 70}, {"size": None}, {"tensors": ["../" * 21 + "a"]}, {"tensors": None}, {"tensors": []},
        {"version": 3}, {"version": "2"}, {"path": "/" + "a" * 5000},
    ],
    ids=str,
)  # fmt: skip
def test_a_hostile_list_leads_nowhere(
    change: dict[str, object], make: Callable[[Keep], persona.Repository], run: Run
) -> None:
    repo = make("reference")
    path = list_of(repo)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(PersonaError):
        persona.build(fresh(repo), repo.root / "out", "HEAD~1")
    assert not persona.fsck(open_damaged(repo.root)).ok
    assert run(repo.root, "status").code == 0
    persona.gc(fresh(repo), grace=0)
    assert path.exists()


def test_a_name_that_is_not_text(models: TinyModels, tmp_path: Path) -> None:
    base = tmp_path / os.fsdecode(b"b\xff")
    shutil.copytree(models.base(), base)
    with pytest.raises(UsageError, match="cannot be referenced"):
        persona.init(tmp_path / "work", base, name="b", keep="reference")
    assert persona.init(tmp_path / "work", base, name="b", keep="link").kept == "link"


def test_a_file_in_a_hub_cache_is_linked_by_its_bytes(base: Path, tmp_path: Path) -> None:
    """There a snapshot's files are symbolic links; a hard link to one of those would keep nothing."""
    snapshot = tmp_path / "models--me--tiny" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--me--tiny" / "blobs").mkdir()
    for path in base.iterdir():
        blob = tmp_path / "models--me--tiny" / "blobs" / f"sha-{path.name}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    persona.init(tmp_path / "work", snapshot, keep="link")
    (kept,) = kept_files(persona.open(tmp_path / "work"))
    assert not kept.is_symlink()
    assert kept.samefile(tmp_path / "models--me--tiny" / "blobs" / "sha-model.safetensors")


def test_a_base_in_other_shards_is_the_same_base(models: TinyModels, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base(), dtype="auto")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    one = persona.init(tmp_path / "one", models.base())
    other = persona.init(tmp_path / "other", tmp_path / "sharded")
    assert one.base == other.base


def test_a_hub_cache_of_links_is_a_base(models: TinyModels, tmp_path: Path) -> None:
    hub = tmp_path / "models--acme--Tiny-Llama"
    snapshot = hub / "snapshots" / ("a" * 40)
    blobs = hub / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(models.base().iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    done = persona.init(tmp_path / "work", snapshot)
    assert done.base_name == "tiny-llama"
    assert done.base == persona.init(tmp_path / "plain", models.base()).base


def test_two_inits_in_one_folder(models: TinyModels, tmp_path: Path) -> None:
    root = tmp_path / "work"

    def other(effect: str, path: Path) -> None:
        files.observer = None
        persona.init(root, models.base())
        persona.commit(persona.open(root), models.run(1), name="a")

    root.mkdir()
    files.observer = other
    try:
        with pytest.raises(Refusal):
            persona.init(root, models.base())
    finally:
        files.observer = None
    assert persona.log(persona.open(root))[0].subject == "add a"
    assert sorted(p.name for p in root.iterdir()) == [".persona", "persona.toml"]


@pytest.mark.parametrize("kind", ["folder", "file", "none"])
def test_git_does_not_add_the_store(models: TinyModels, tmp_path: Path, kind: str) -> None:
    work = tmp_path / "code" / "models" / "work"
    work.parent.mkdir(parents=True)
    if kind == "folder":
        subprocess.run(["git", "init", "-q", tmp_path / "code"], check=True)
    elif kind == "file":
        (tmp_path / "code" / ".git").write_text("gitdir: elsewhere\n")
    persona.init(work, models.base(), author="Test")
    assert (work / ".persona" / ".gitignore").exists() == (kind != "none")
    if kind == "folder":
        said = subprocess.run(
            ["git", "status", "--short", "-uall"], cwd=tmp_path / "code", check=True, capture_output=True, text=True
        )
        assert said.stdout == "?? models/work/persona.toml\n"
    assert persona.fsck(persona.open(work)).ok
    persona.gc(persona.open(work))
    assert (work / ".persona" / ".gitignore").exists() == (kind != "none")
