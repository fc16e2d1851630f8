"""Names that lead out of their folder: in a checkpoint that someone sent, and in a repository that someone sent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.errors import CheckpointError, Damaged, PersonaError
from persona.history.commits import get_text
from persona.ids import BaseId, ObjectId, VectorId
from persona.recipe.edit import put_vector
from persona.recipe.model import Entry
from persona.repository import ENTRIES
from persona.verbs.fsck import open_damaged
from tests.models import TinyModels, assert_same, load
from tests.verbs.test_fsck import fsck

OUT = ["../evil.json", "/tmp/evil.json", "a/../../evil.json", "..", ".", "", "a\\b.json", "x\0.json"]


@pytest.fixture
def sent(models: TinyModels, tmp_path: Path) -> Path:
    """A checkpoint that came from somewhere."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.json").write_text('{"token": "s3cret"}')
    return Path(shutil.copytree(models.base(), tmp_path / "sent"))


@pytest.mark.parametrize("name", ["tokenizer.json", "LICENSE", "notes.txt", "config.json"])
def test_a_link_out_of_a_checkpoint_is_not_followed(name: str, sent: Path, tmp_path: Path) -> None:
    """It would put a file of the user's into the repository, and into every build that is given away."""
    (sent / name).unlink(missing_ok=True)
    (sent / name).symlink_to(tmp_path / "secret" / "key.json")
    with pytest.raises(CheckpointError, match=f"{name} is a link to .*key.json, outside its folder") as caught:
        persona.init(tmp_path / "work", sent)
    assert "replace the link by a copy" in caught.value.hint
    assert not list((tmp_path / "work").iterdir()) if (tmp_path / "work").exists() else True


def test_a_link_out_of_a_run_is_not_followed(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    run = Path(shutil.copytree(models.run(1), tmp_path / "run"))
    (run / "tokenizer.json").symlink_to(models.run(2) / "config.json")
    with pytest.raises(CheckpointError, match="outside its folder"):
        persona.commit(repo, run, name="a")


def test_links_that_stay_are_followed(sent: Path, models: TinyModels, tmp_path: Path) -> None:
    (sent / "real-LICENSE.txt").write_text("text")
    (sent / "LICENSE").symlink_to("real-LICENSE.txt")
    (tmp_path / "also").symlink_to(sent)  # the folder itself may be reached by a link
    persona.init(tmp_path / "work", tmp_path / "also")
    persona.build(persona.open(tmp_path / "work"), tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text() == "text"
    assert_same(load(tmp_path / "out"), load(models.base()))


@pytest.mark.parametrize("name", OUT)
def test_an_index_that_names_a_file_elsewhere(name: str, sent: Path, tmp_path: Path) -> None:
    (sent / "model.safetensors").rename(sent / "m.safetensors")
    (sent / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(PersonaError):
        persona.init(tmp_path / "work", sent)


def with_base(repo: persona.Repository, base: BaseId) -> None:
    """Let ``persona.toml`` name another base, as that of a hostile repository would."""
    before = repo.recipe(repo.head()).base
    repo.recipe_path.write_text(repo.head_text().replace(before[:12], base[:12]))


@pytest.mark.parametrize("name", OUT)
def test_a_base_object_that_names_a_file_elsewhere(name: str, repo: persona.Repository, tmp_path: Path) -> None:
    fields = dict(repo.objects.get(repo.recipe(repo.head()).base_id, "base"))
    fields["files"] = {name: next(iter(fields["files"].values()))}
    hostile = BaseId(repo.objects.put("base", {k: v for k, v in fields.items() if k not in ("kind", "version")}))
    with pytest.raises(Damaged, match="leads out of its folder"):
        repo.base(hostile)
    with_base(repo, hostile)
    with pytest.raises(PersonaError):
        persona.build(repo, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*"))
    assert any(f"object {hostile.short} is damaged" in text for text in fsck(repo).notes)


@pytest.mark.parametrize("name", OUT)
def test_a_vector_object_that_names_a_file_elsewhere(
    name: str, repo: persona.Repository, models: TinyModels, tmp_path: Path
) -> None:
    persona.commit(repo, models.run(1), name="a")
    entry = repo.recipe(repo.head()).entry("a")
    assert entry is not None
    fields = dict(repo.objects.get(VectorId(entry.id), "vector"))
    fields["files"] = {name: next(iter(repo.base(BaseId(fields["base"])).files.values()))}
    hostile = repo.objects.put("vector", {k: v for k, v in fields.items() if k not in ("kind", "version")})
    repo.recipe_path.write_text(put_vector(repo.head_text(), Entry("b", hostile)))
    with pytest.raises(Damaged, match="leads out of its folder"):
        persona.build(repo, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "change",
    [{"tensors": {"w": ["a" * 64, "BF16"]}}, {"tensors": 7}, {"files": []}, {"files": {"a": 7}}, {"files": {"a": "b"}}],
    ids=str,
)
def test_an_object_of_the_right_hash_that_says_nonsense(change: dict[str, object], repo: persona.Repository) -> None:
    fields = repo.objects.get(repo.recipe(repo.head()).base_id, "base")
    kept = {key: value for key, value in fields.items() if key not in ("kind", "version")}
    hostile = BaseId(repo.objects.put("base", {**kept, **change}))
    with pytest.raises(Damaged, match="is not a valid base"):
        repo.base(hostile)
    with_base(repo, hostile)
    assert persona.status(repo).commit == repo.head()
    assert fsck(repo).counts.objects == 6


EVIL: dict[str, dict[str, list[str | None]]] = {
    "a file elsewhere": {"../../x": [None, "cmd #"]},
    "deleting a file elsewhere": {"refs/../../x": ["a", None]},
    "an absolute name": {"/tmp/x": [None, "0" * 64]},
    "no ref": {"config.toml": [None, "[ui]"]},
    "another kind of ref": {"refs/hooks/x": [None, "0" * 64]},
    "a value that is text": {"refs/heads/x": [None, "cmd #"]},
    "a HEAD that leads out": {"HEAD": [None, "ref: refs/heads/../../../x"]},
    "a branch that follows a branch": {"refs/heads/x": [None, "ref: refs/heads/main"]},
}


def forge(repo: persona.Repository, refs: dict[str, list[str | None]]) -> None:
    """The newest operation, with right hashes, that this version would not write; refs do not follow it yet."""
    fields = {"parent": repo.log.head(), "time": "2026-01-01T00:00:00+00:00", "command": "x", "refs": refs}
    name = repo.objects.put("operation", {**fields, "recipe": None, "undoes": None, "redoes": None})
    (repo.folder / "op" / "head").write_text(f"{name}\n")


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("refs", EVIL.values(), ids=list(EVIL))
def test_an_operation_with_refs_that_are_none(repo: persona.Repository, refs: dict[str, list[str | None]]) -> None:
    forge(repo, refs)
    before = everything_in(repo.root.parent)
    for read in (persona.status, persona.log, persona.show):
        with pytest.raises(Damaged, match="is not a valid operation"):
            read(persona.open(repo.root))
    assert any("is not a valid operation" in lost.why for lost in persona.fsck(persona.open(repo.root)).lost)
    with pytest.raises(Damaged):
        persona.gc(persona.open(repo.root), dry_run=True)
    with pytest.raises(Damaged):
        persona.alpha(persona.open(repo.root), {"a": 1.0})
    after = everything_in(repo.root.parent)
    assert {name: data for name, data in after.items() if not name.endswith("/lock")} == {
        name: data for name, data in before.items() if not name.endswith("/lock")
    }


def test_reading_finishes_nothing(repo: persona.Repository, models: TinyModels) -> None:
    """An operation that a crash left half applied is read as if it were finished."""
    persona.commit(repo, models.run(1), name="a")
    text, newest = repo.recipe_text(), repo.head()
    (repo.folder / "refs/heads/main").write_text(f"{repo.commit(newest).parents[0]}\n")
    (repo.folder / "op" / "applied").write_text("0" * 64 + "\n")
    repo.recipe_path.write_text(text_before(repo))
    before = everything_in(repo.root)
    again = persona.open(repo.root)
    assert (again.head(), again.recipe_text(), again.is_edited()) == (newest, text, False)
    assert persona.status(again).branch == "main"
    assert everything_in(repo.root) == before
    persona.alpha(again, {"a": 0.5})
    assert again.commit(again.head()).parents == (newest,)


def text_before(repo: persona.Repository) -> str:
    operation = next(operation for _, operation in repo.log.walk() if operation.recipe is not None)
    assert operation.recipe is not None
    assert operation.recipe[0] is not None
    return get_text(repo.objects, operation.recipe[0])


@pytest.mark.parametrize("name", ENTRIES)
def test_a_part_of_the_repository_that_is_a_link(repo: persona.Repository, tmp_path: Path, name: str) -> None:
    path, elsewhere = repo.folder / name, tmp_path / "elsewhere"
    path.rename(elsewhere) if path.exists() else elsewhere.write_text("")
    path.symlink_to(elsewhere)
    for opening in (persona.open, open_damaged):  # fsck, too, looked into it, and said what to delete there
        with pytest.raises(Damaged, match=f"{name} is a link"):
            opening(repo.root)


@pytest.mark.parametrize("kind", ["link to nothing", "folder", "pipe"])
def test_no_file_in_the_place_of_a_pack(repo: persona.Repository, kind: str) -> None:
    """The commands that need nothing of it go on, ``fsck`` reports it among what is lost, and ``gc`` leaves it alone."""
    pack = next(iter(sorted((repo.folder / "packs").glob("*.pack"))))
    pack.unlink()
    if kind == "link to nothing":
        pack.symlink_to(repo.root / "nothing")
    else:
        pack.mkdir() if kind == "folder" else os.mkfifo(pack)
    again = persona.open(repo.root)
    assert persona.status(again).branch == "main"
    report = fsck(again)
    assert any(pack.name in problem for problem in report.problems)
    assert report.lost
    assert pack.name in persona.gc(again).notes[0]
    assert os.path.lexists(pack)


def test_the_whole_folder_may_be_a_link(repo: persona.Repository, tmp_path: Path) -> None:
    repo.folder.rename(tmp_path / "elsewhere")
    repo.folder.symlink_to(tmp_path / "elsewhere")
    assert persona.status(persona.open(repo.root)).branch == "main"


NOT_OURS: dict[str, tuple[str, str, object]] = {
    "a name with a path": ("recipe", "vectors.0.name", "../../x"),
    "a readout's name": ("recipe", "readouts", [{"name": "../x", "id": "0" * 64}]),
    "an alpha": ("recipe", "vectors.0.alpha", {"a": 1}),
    "a pattern": ("recipe", "vectors.0.only", "*"),
    "a scale": ("recipe", "scale", "1"),
    "a method": ("recipe", "method", ["linear"]),
    "a base": ("recipe", "base", "x"),
    "parameters": ("recipe", "parameters", [1]),
    "an author": ("commit", "author", {"name": "x"}),
    "a time": ("commit", "time", "yesterday"),
    "a message": ("commit", "message", 5),
    "a run": ("commit", "run", []),
    "parents": ("commit", "parents", ["x"]),
    "a text": ("text", "text", 3),
    "a command": ("operation", "command", 3),
}


@pytest.mark.parametrize(("kind", "field", "value"), NOT_OURS.values(), ids=list(NOT_OURS))
def test_objects_that_persona_would_not_write(
    repo: persona.Repository, models: TinyModels, kind: str, field: str, value: object
) -> None:
    """Forged consistently, with right hashes: an error that names the object, never a bug in persona."""
    persona.commit(repo, models.run(1), name="a")
    head, branch = repo.head(), repo.folder / "refs/heads/main"
    commit = json.loads(repo.objects.text(head, "commit"))
    forged = {"commit": head, "recipe": commit["recipe"], "text": commit["text"], "operation": repo.log.head()}[kind]
    fields = json.loads(repo.objects.text(ObjectId(forged or ""), kind))
    inner: Any = fields
    *path, last = field.split(".")
    for step in path:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[last] = value
    own = ("kind", "version")
    name = repo.objects.put(kind, {key: one for key, one in fields.items() if key not in own})
    if kind == "operation":
        (repo.folder / "op/head").write_text(f"{name}\n")
    else:
        commit = fields if kind == "commit" else {**commit, kind: name}
        made = {key: one for key, one in commit.items() if key not in own}
        branch.write_text(f"{name if kind == 'commit' else repo.objects.put('commit', made)}\n")
    found: list[str] = []
    for read in (persona.status, persona.log, persona.show, persona.vectors, persona.diff, text_of):
        try:
            read(persona.open(repo.root))
        except Damaged as error:
            found.append(error.message)
    assert any(f"{kind} {name.short} is not a valid {kind}" in message for message in found), found


def text_of(repo: persona.Repository) -> object:
    return [*repo.log.walk()], repo.head_text()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_file_that_an_interrupted_save_cut_short(
    repo: persona.Repository, models: TinyModels, tmp_path: Path, name: str
) -> None:
    shutil.copytree(models.run(1), tmp_path / "run")
    (tmp_path / "run" / name).write_text('{"model": {"type": "BPE", "vocab"')
    with pytest.raises(CheckpointError, match=f"{name} is not valid JSON") as caught:
        persona.commit(repo, tmp_path / "run", name="run")
    assert "remove it" in caught.value.hint
    (tmp_path / "run" / name).unlink()
    persona.commit(repo, tmp_path / "run", name="run")
