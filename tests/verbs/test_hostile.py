"""Names that lead out of their folder: in a checkpoint that someone sent, and in a repository that someone sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import persona
from persona.errors import CheckpointError, Damaged, PersonaError
from persona.ids import BaseId, VectorId
from persona.recipe.edit import put_vector
from persona.recipe.model import Entry
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
