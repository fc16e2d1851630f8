"""``gc`` deletes what nothing needs and nothing else, whatever instant it is killed at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import persona
from persona.errors import Damaged, Locked, Storage, UsageError
from persona.ids import CommitId, TensorId, VectorId
from persona.maintenance.report import GcReport
from persona.progress import SILENT
from persona.store.tensors import TensorStore
from tests.cli.conftest import Run
from tests.maintenance.conftest import flip, flip_tensor, objects_of, volume_with
from tests.maintenance.conftest import work as work  # the fixture
from tests.models import TinyModels, assert_same, load
from tests.verbs.test_fsck import everything, fsck, vector_of


def gc(repo: persona.Repository, grace: float = 0.0, **options: object) -> GcReport:
    return persona.gc(persona.open(repo.root), grace=grace, **options)  # type: ignore[arg-type]


def state(repo: persona.Repository) -> dict[str, bytes]:
    return {
        str(path.relative_to(repo.root)): path.read_bytes()
        for path in sorted(repo.root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def sizes(repo: persona.Repository) -> int:
    return sum(map(len, state(repo).values()))


def test_nothing_to_delete(work: persona.Repository) -> None:
    before = state(work)
    done = gc(work)
    assert (done.objects, done.files, done.repacked, done.unfinished, done.freed) == (0, 0, 0, 0, 0)
    assert state(work) == before


def test_an_abandoned_branch_goes_and_the_rest_builds_the_same(
    work: persona.Repository, models: TinyModels, tmp_path: Path
) -> None:
    persona.build(work, tmp_path / "before")
    kept = everything(work)
    main = work.head()
    persona.checkout(work, "HEAD~2", branch="try")
    persona.commit(work, models.run(7), name="seven")
    lost = {spec.id for spec in vector_of(work, "seven").tensors.values()}
    persona.checkout(work, "main")
    (work.folder / "refs/heads/try").unlink()
    size = sizes(work)
    dry = gc(work, dry_run=True)
    assert sizes(work) == size
    done = gc(work)
    assert (dry.objects, dry.files, dry.freed) == (done.objects, done.files, done.freed)
    assert size - sizes(work) == done.freed > 10_000
    assert work.head() == main
    found = fsck(work)
    assert found.ok
    assert found.notes == ()
    assert everything(persona.open(work.root))[3:] == kept[3:]
    store = TensorStore(work.folder / "packs", work.folder / "tmp")
    assert not any(name in store for name in lost)
    persona.build(persona.open(work.root), tmp_path / "after")
    assert_same(load(tmp_path / "after"), load(tmp_path / "before"))


def test_what_history_has_stays_after_rm_and_checkout(work: persona.Repository) -> None:
    before = everything(work)
    persona.rm(work, ["a", "b", "grown", "style"])
    persona.checkout(work, "HEAD~5")
    done = gc(work)
    assert done.freed == 0  # main still has the commit that removed them, and all before it
    assert everything(persona.open(work.root))[3:] == before[3:]
    assert fsck(work).ok


def abandon(work: persona.Repository, run: Path, name: str = "extra") -> CommitId:
    """A commit that only the operation log remembers."""
    before = work.head()
    persona.commit(work, run, name=name)
    gone = work.head()
    with work.transaction("forget") as change:
        change.set_ref("refs/heads/main", before)
        change.set_recipe_text(work.head_text() if work.head() == before else _text(work, before))
    return gone


def _text(work: persona.Repository, commit: CommitId) -> str:
    return str(work.objects.get(work.commit(commit).text, "text")["text"])


def test_the_grace_period(work: persona.Repository, models: TinyModels) -> None:
    gone = abandon(work, models.run(7))
    assert gc(work, 14).objects == 0
    assert gone in work.objects
    assert fsck(work).ok
    later = datetime.now(UTC) + timedelta(days=15)
    assert gc(work, 14, now=later).objects == 0, "it is among the last ten"
    for number in range(10):
        persona.tag(work, f"v{number}")
    assert gc(work, 14, now=later).objects > 0
    assert gone not in work.objects
    assert fsck(work).ok
    assert len(list(work.log.walk())) == 17
    with pytest.raises(UsageError):
        gc(work, -1.0)


def test_the_recipe_as_it_stands_keeps_what_it_names(work: persona.Repository, models: TinyModels) -> None:
    abandon(work, models.run(7))
    vector = next(path for path in objects_of(work, "vector") if path.parent.name + path.name not in named(work))
    name = VectorId(vector.parent.name + vector.name)
    text = work.recipe_path.read_text()
    work.recipe_path.write_text(f'{text}\n[vectors.back]\nid = "{name[:12]}"\n')
    gc(work)
    persona.commit(work, message="back")
    assert fsck(work).ok
    persona.build(work, work.root / "out")


def named(work: persona.Repository) -> set[str]:
    return {entry.id for entry in work.recipe(work.head()).vectors}


def test_an_index_is_followed_to_delta_bases(work: persona.Repository, models: TinyModels) -> None:
    """A base that only a difference needs: no object that stays names it."""
    _, _, wanted = mostly_dead(work, with_base=False)
    before = work.tensors.read(wanted).tobytes()
    base = work.tensors.describe(wanted).base
    assert base is not None
    other = work.root.parent / "other"
    persona.init(other, models.base("float32"))
    for folder in ("objects", "packs"):
        shutil.copytree(other / ".persona" / folder, work.folder / folder, dirs_exist_ok=True)
    for path in objects_of(work, "operation"):
        path.unlink()
    shutil.copytree(other / ".persona" / "objects", work.folder / "objects", dirs_exist_ok=True)
    for name in ("HEAD", "refs/heads/main", "op/head", "op/applied"):
        shutil.copy(other / ".persona" / name, work.folder / name)
    shutil.copy(other / "persona.toml", work.recipe_path)
    assert gc(work).objects > 10
    assert [path.parent.name + path.name for path in objects_of(work, "base")] == [work.recipe(work.head()).base]
    store = TensorStore(work.folder / "packs", work.folder / "tmp")
    assert store.describe(wanted).base == base
    assert store.read(wanted).tobytes() == before
    assert fsck(work).ok


def test_unknown_kinds_and_unknown_files_are_followed(work: persona.Repository, models: TinyModels) -> None:
    """What a later persona may write: an object of a new kind, named by a new file."""
    gone = abandon(work, models.run(7))
    recipe = work.commit(gone).recipe
    kept = work.objects.put("rehearsal", {"recipe": recipe, "anything": [{"x": "y"}]})
    (work.folder / "MERGING").write_text(f"{kept} and more\n")
    gc(work)
    assert gone not in work.objects
    assert recipe in work.objects
    names = {e["id"] for e in work.objects.get(recipe, "recipe")["vectors"]}
    store = TensorStore(work.folder / "packs", work.folder / "tmp")
    for name in names:
        assert all(spec.id in store for spec in work.vector(VectorId(name)).tensors.values())
    (work.folder / "MERGING").unlink()
    assert gc(work).objects > 0
    assert recipe not in work.objects


def test_a_mostly_dead_pack_is_written_anew(work: persona.Repository, models: TinyModels) -> None:
    """All is forgotten but one tensor of 'a', which an object of a later kind names."""
    path, kept, wanted = mostly_dead(work)
    bits = work.tensors.read(wanted).tobytes()
    reader = persona.open(work.root).tensors  # has read the index, and nothing is mapped yet
    assert wanted in reader
    done = gc(work)
    assert done.repacked == 1
    assert not path.exists()
    assert reader.read(wanted).tobytes() == bits
    assert fsck(work).ok
    store = TensorStore(work.folder / "packs", work.folder / "tmp")
    assert store.describe(wanted).base is not None
    assert store.describe(wanted).stored_bytes == kept
    assert gc(work).freed == 0


def mostly_dead(work: persona.Repository, *, with_base: bool = True) -> tuple[Path, int, TensorId]:
    """Leave one tensor of a large pack alive; the pack, the bytes that stay, the tensor."""
    spec = vector_of(work, "a").tensors["model.layers.0.self_attn.k_proj.weight"]
    kept = work.tensors.describe(spec.id).stored_bytes
    path = volume_with(work, spec.id).path
    base = work.recipe(work.head()).base_id
    name = work.objects.put("future", {"needs": [spec.id, base] if with_base else [spec.id]})
    root = next(path for path in objects_of(work, "commit") if b'"parents":[]' in path.read_bytes())
    persona.checkout(work, root.parent.name + root.name)
    (work.folder / "refs/heads/main").unlink()
    (work.folder / "FUTURE").write_text(name)
    return path, kept, spec.id


def test_a_damaged_pack_is_not_given_a_new_name(work: persona.Repository) -> None:
    path, _, wanted = mostly_dead(work)
    flip_tensor(work, wanted)
    done = gc(work)
    assert done.repacked == 0
    assert path.exists()
    assert "is damaged and was left alone" in done.notes[0]


def test_of_two_copies_the_good_one_stays(work: persona.Repository, models: TinyModels) -> None:
    """A pack written twice, as after a collection that was killed; the copy that would be preferred is damaged."""
    from persona.maintenance.repack import copy_frames

    volume = volume_with(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    ids = {*volume.tensors, *volume.blobs}
    some = {vector_of(work, "a").tensors["lm_head.weight"].id}
    small = copy_frames([(volume, some)], work.folder / "packs", work.folder / "tmp")
    assert small is not None
    assert fsck(work).ok
    flip(small, 40)
    assert not fsck(work).ok
    gc(work)
    assert fsck(work).ok
    assert not small.exists()
    again = copy_frames([(volume, ids)], work.folder / "packs", work.folder / "tmp")
    assert again is not None
    gc(work)
    assert fsck(work).ok
    assert len(list((work.folder / "packs").glob("*.pack"))) == len(
        {p.name for p in (work.folder / "packs").glob("*.pack")}
    )


def test_a_kept_file_goes_only_when_none_of_it_is_live(
    work: persona.Repository, models: TinyModels, tmp_path: Path
) -> None:
    (path,) = (work.folder / "packs").glob("*.safetensors")
    with SILENT.task("", 0) as task:
        other = work.tensors.adopt_safetensors(models.run(7) / "model.safetensors", task)
    (work.folder / "packs" / "ff.safetensors").write_bytes(b"no list")
    done = gc(work)
    assert path.exists()
    assert not (work.folder / "packs" / other.name).exists()
    assert not (work.folder / "packs" / other.name).with_suffix(".json").exists()
    assert not (work.folder / "packs" / "ff.safetensors").exists()
    assert done.files == 2


def test_unfinished_files(work: persona.Repository) -> None:
    before = state(work)
    junk = [
        work.folder / "tmp" / "pack.tmp-0123456789ab",
        work.folder / ".HEAD.tmp-0123456789ab",
        work.folder / "op" / ".head.tmp-0123456789ab",
        work.folder / "refs" / "heads" / ".main.tmp-0123456789ab",
        work.objects.path(work.head()).parent / ".x.tmp-0123456789ab",
        work.root / ".persona.toml.tmp-0123456789ab",
    ]
    for path in junk:
        path.write_bytes(b"half")
    (work.root / ".persona.tmp-0123456789ab" / "packs").mkdir(parents=True)
    mine = work.root / ".persona.tmp-mine"
    mine.write_bytes(b"mine")
    assert gc(work).unfinished == 7
    mine.unlink()
    assert state(work) == before


def test_damage_stops_it(work: persona.Repository, models: TinyModels) -> None:
    entry = work.recipe(work.head()).entry("a")
    assert entry is not None
    gone = abandon(work, models.run(7))
    for name in (work.head(), work.commit(work.head()).recipe, VectorId(entry.id), gone, work.commit(gone).recipe):
        path = work.objects.path(name)
        data, before = path.read_bytes(), state(work)
        flip(path, 20)
        with pytest.raises(Damaged, match="are unknown"):
            gc(work, 14)
        path.write_bytes(data)
        assert state(work) == before
    (work.folder / "refs/heads/side").write_text("nonsense")
    with pytest.raises(Damaged, match="not a commit's id"):
        gc(work)


def test_it_takes_the_lock(work: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.repository.LOCK_PATIENCE", 0.0)
    with work.exclusive("another"):
        with pytest.raises(Locked):
            gc(work)
        gc(work, dry_run=True)
        assert fsck(work).ok
    before = work.log.head()
    gc(work)
    assert work.log.head() == before


def test_the_command(work: persona.Repository, models: TinyModels, run: Run) -> None:
    assert "Nothing to delete." in run(work.root, "gc").out
    abandon(work, models.run(7))
    said = run(work.root, "gc", "--grace", "0", "--dry-run")
    assert said.code == 0
    assert "would be deleted" in said.out
    result = json.loads(run(work.root, "gc", "--grace", "0", "--json").out)["result"]
    assert result["freed"] > 0
    assert run(work.root, "gc", "--grace", "x").code == 2


def test_what_a_collection_took_is_written_again(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    """A process that goes on, as a training loop does, has the old pack mapped; a commit must not count on it."""
    persona.commit(repo, models.run(1), name="a")
    persona.build(repo, tmp_path / "before")
    persona.undo(repo)
    gc(persona.open(repo.root))
    persona.commit(repo, models.run(1), name="a")
    assert fsck(repo).ok
    persona.build(persona.open(repo.root), tmp_path / "after")
    assert_same(load(tmp_path / "after"), load(tmp_path / "before"))


DROP = "-dac_override,-dac_read_search"
"""What lets root read everything; without these it is an ordinary user."""


def as_a_user(*command: str) -> subprocess.CompletedProcess[str]:
    """Run persona as somebody whom the system refuses what permissions refuse."""
    drop = ["setpriv", "--bounding-set", DROP, "--inh-caps", DROP] if os.geteuid() == 0 else []
    program = [*drop, sys.executable, "-m", "persona", *command]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything, and no setpriv")
@pytest.mark.parametrize("place", ["refs/heads/team", "objects", "packs", "evaluations", "op/head"])
def test_what_cannot_be_read_stops_it(work: persona.Repository, place: str) -> None:
    """A branch of somebody with another umask was lost with all that only it needed, and the exit code was 0."""
    persona.switch(work, "team/warm", create=True)
    persona.alpha(work, {"a": 0.25})
    persona.switch(work, "main")
    path = work.folder / place
    path.mkdir(exist_ok=True) if not path.exists() else None
    closed = next(iter(sorted(path.iterdir()))) if place in ("objects", "packs") else path
    before, mode = state(work), closed.stat().st_mode
    closed.chmod(0)
    try:
        done = as_a_user("-C", str(work.root), "gc", "--grace", "0")
        checked = as_a_user("-C", str(work.root), "fsck")
    finally:
        closed.chmod(mode)
    assert done.returncode in (12, 74)
    assert f"{closed}: permission denied" in done.stderr
    assert checked.returncode in (1, 12, 74)
    assert str(closed.name) in checked.stdout + checked.stderr
    assert state(work) == before


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("written", ['"""{}"""', '"""\n{}"""', "'{}'", "'''{}'''", '"\\u00{:02x}{}"'])
def test_ids_in_an_edited_recipe_count_however_they_are_written(
    work: persona.Repository, models: TinyModels, written: str, broken: bool
) -> None:
    """The only mention of a vector is in ``persona.toml``, uncommitted."""
    vector = persona.commit(work, models.run(7), name="late").vector
    persona.undo(work)
    text = written.format(ord(vector[0]), vector[1:12]) if "02x" in written else written.format(vector[:12])
    with work.recipe_path.open("a") as file:
        file.write(f"\n[vectors.late]\nid = {text}\n")
        if broken:
            file.write("alpha = = 1\n")
    gc(work)
    assert work.vector(VectorId(vector)).tensors


@pytest.mark.parametrize("kind", ["folder", "pipe", "lost link"])
def test_a_recipe_that_cannot_be_read_stops_it(work: persona.Repository, models: TinyModels, kind: str) -> None:
    """The only mention of a vector may be in ``persona.toml``, uncommitted."""
    vector = persona.commit(work, models.run(7), name="late").vector
    persona.undo(work)
    path = work.recipe_path
    path.unlink()
    if kind == "lost link":
        path.symlink_to(path.parent / "none")
    else:
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises((Storage, UsageError), match=r"persona\.toml"):
        gc(work)
    assert work.vector(VectorId(vector)).tensors


def test_a_pipe_in_the_place_of_a_needed_object_is_damage(work: persona.Repository) -> None:
    path = work.objects.path(work.head())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged, match="damaged or missing"):
        gc(work)
