"""``fsck`` finds every damage, names it and who suffers, and never stops at the first."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import persona
from persona.errors import Damaged, PersonaError, UsageError
from persona.ids import TensorId, VectorId
from persona.maintenance.report import CheckReport, LostObject
from persona.store.nouns import Vector
from persona.store.tensors import TensorStore
from persona.verbs.fsck import open_damaged
from tests.cli.conftest import Run
from tests.maintenance.conftest import flip, flip_tensor, objects_of, volume_with
from tests.maintenance.conftest import work as work  # the fixture
from tests.models import TinyModels


def fsck(repo: persona.Repository, **options: object) -> CheckReport:
    return persona.fsck(persona.Repository(repo.root), **options)  # type: ignore[arg-type]


def vector_of(repo: persona.Repository, name: str) -> Vector:
    entry = repo.recipe(repo.head()).entry(name)
    assert entry is not None
    return repo.vector(VectorId(entry.id))


def subjects(loss: LostObject) -> list[str]:
    return [touched.subject for touched in loss.commits]


def test_a_clean_repository(work: persona.Repository) -> None:
    found = fsck(work)
    assert found.ok
    assert found.lost == found.problems == found.notes == ()
    assert found.counts.refs == 1
    assert found.counts.operations == 5
    assert found.counts.tensors == found.counts.tensors_read
    assert found.counts.bytes_read == found.counts.bytes_all > 100_000


def test_a_damaged_tensor_of_a_vector(work: persona.Repository) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    tensor = vector_of(work, "a").tensors[name].id
    path = flip_tensor(work, tensor)
    found = fsck(work)
    (loss,) = found.lost
    assert (loss.kind, loss.id, loss.files, loss.vectors) == ("tensor", tensor, (path.name,), ("a", "b"))
    assert subjects(loss) == ["add style", "add grown", "add b", "add a"]
    assert found.problems == ()


def test_tensors_that_two_vectors_share(work: persona.Repository) -> None:
    shared = {s.id for s in vector_of(work, "a").tensors.values()} & {
        s.id for s in vector_of(work, "b").tensors.values()
    }
    assert len(shared) > 10
    flip_tensor(work, min(shared))
    assert fsck(work).lost[0].vectors == ("a", "b")


def test_an_adapters_factor(work: persona.Repository) -> None:
    spec = next(iter(vector_of(work, "style").low_rank.values()))
    flip_tensor(work, spec.left.id)
    (loss,) = fsck(work).lost
    assert loss.vectors == ("style",)
    assert subjects(loss) == ["add style"]


def test_a_base_tensor_and_what_differs_from_it(work: persona.Repository) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    base = work.base(work.recipe(work.head()).base_id)
    path = flip_tensor(work, base.tensors[name].id)
    found = fsck(work)
    own = next(loss for loss in found.lost if loss.id == base.tensors[name].id)
    assert own.files == (path.name,)
    assert own.vectors == ("a", "b", "grown")
    assert len(own.commits) == 5
    others = [loss for loss in found.lost if loss.id != own.id]
    assert {loss.id for loss in others} == {vector_of(work, v).tensors[name].id for v in ("a", "b", "grown")}
    assert all("delta of tensor" in loss.why for loss in others)


def test_a_deleted_pack_and_a_deleted_base(work: persona.Repository) -> None:
    tensor = vector_of(work, "a").tensors["lm_head.weight"].id
    volume_with(work, tensor).path.unlink()
    found = fsck(work)
    assert {loss.why for loss in found.lost} == {"it is missing: no readable file holds it"}
    assert {*found.lost[0].vectors} <= {"a", "b"}
    for path in (work.folder / "packs").glob("*.safetensors"):
        path.unlink()
    found = fsck(work)
    assert any("is missing" in text for text in found.problems)
    assert {v for loss in found.lost for v in loss.vectors} == {"a", "b", "grown", "style"}


def test_a_damaged_index(work: persona.Repository) -> None:
    path = volume_with(work, vector_of(work, "a").tensors["lm_head.weight"].id).path
    flip(path, -70)
    found = fsck(work)
    assert [path.name in text for text in found.problems] == [True]
    assert {loss.why for loss in found.lost} == {"it is missing: no readable file holds it"}


@pytest.mark.parametrize(
    ("kind", "subject", "vectors"),
    [
        ("commit", "add grown", ()),
        ("recipe", "add style", ()),
        ("text", "add style", ()),
        ("vector", "add style", ("style",)),
    ],
)
def test_a_damaged_object(work: persona.Repository, kind: str, subject: str, vectors: tuple[str, ...]) -> None:
    head = work.commit(work.head())
    entry = work.recipe(work.head()).entry("style")
    assert entry is not None
    name = {"commit": head.parents[0], "recipe": head.recipe, "text": head.text, "vector": entry.id}[kind]
    path = work.objects.path(VectorId(name))
    flip(path, 30)
    loss = next(loss for loss in fsck(work).lost if loss.id == name)
    assert (loss.kind, loss.why, loss.vectors) == (kind, "it does not hash to its name", vectors)
    assert subjects(loss) == ["add style"]
    path.unlink()
    loss = next(loss for loss in fsck(work).lost if loss.id == name)
    assert loss.why == "it is missing"
    assert subject


def test_a_damaged_base_object_touches_everything(work: persona.Repository) -> None:
    (path,) = objects_of(work, "base")
    flip(path, 100)
    found = fsck(work)
    loss = next(loss for loss in found.lost if loss.kind == "base")
    assert loss.vectors == ("a", "b", "grown", "style")
    assert len(loss.commits) == 5


FILES = {
    "format": b"persona 9\n",
    "HEAD": b"ref: refs/heads/nowhere\n",
    "refs/heads/main": b"zzz\n",
    "op/head": b"\xff\n",
    "op/applied": b"no id\n",
    "config.toml": b"[user\n",
}


@pytest.mark.parametrize("name", FILES)
def test_small_files(work: persona.Repository, name: str) -> None:
    (work.folder / name).write_bytes(FILES[name])
    found = fsck(work)
    assert any(name.rpartition("/")[2] in text or name in text for text in found.problems), found
    if name != "config.toml":
        (work.folder / name).unlink()
        found = fsck(open_damaged(work.root))
        assert not found.ok
        assert any("missing" in text or "no such branch" in text for text in found.problems)


def test_a_ref_to_nowhere(work: persona.Repository) -> None:
    (work.folder / "refs/heads/side").write_text("ab" * 32 + "\n")
    (loss,) = fsck(work).lost
    assert loss.kind == "commit"
    assert "refs/heads/side points at it" in loss.why


def test_many_damages_at_once(work: persona.Repository) -> None:
    tensors = [vector_of(work, "a").tensors[n].id for n in ("lm_head.weight", "model.norm.weight")]
    for tensor in tensors:
        flip_tensor(work, tensor)
    path = objects_of(work, "text")[0]
    path.unlink()
    (work.folder / "config.toml").write_text("=")
    found = fsck(work)
    assert {loss.id for loss in found.lost} >= {*tensors, path.parent.name + path.name}
    assert len(found.problems) == 1


def test_leftovers_are_no_errors(work: persona.Repository) -> None:
    persona.checkout(work, "HEAD~1")
    for path in objects_of(work, "operation"):
        path.unlink()
    (work.folder / "op" / "head").unlink()
    (work.folder / "op" / "applied").unlink()
    (work.folder / "refs/heads/main").write_text(f"{work.head()}\n")
    (work.folder / "packs" / "stray.txt").write_text("x")
    found = fsck(work)
    assert found.lost == ()
    assert any("unreferenced" in text for text in found.notes)
    assert any("stray.txt" in text for text in found.notes)


def test_a_sample_reads_a_share_and_all_indexes(work: persona.Repository) -> None:
    few, again = fsck(work, sample=0.2, seed=3), fsck(work, sample=0.2, seed=3)
    assert few == again
    assert 0 < few.counts.tensors_read < few.counts.tensors
    assert few.counts.objects == fsck(work).counts.objects
    path = volume_with(work, vector_of(work, "a").tensors["lm_head.weight"].id).path
    flip(path, -70)
    assert fsck(work, sample=0.01).problems
    with pytest.raises(UsageError, match="not between 0 and 1"):
        fsck(work, sample=0.0)


def test_some_seed_finds_what_a_sample_may_miss(work: persona.Repository) -> None:
    flip_tensor(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    found = {bool(fsck(work, sample=0.3, seed=seed).lost) for seed in range(12)}
    assert found == {True, False}


def test_any_flipped_byte_is_found_or_harmless(work: persona.Repository, tmp_path: Path) -> None:
    """Outside of what people edit: a flip that fsck does not see changes nothing that is read.

    What is damaged but needed by nothing, such as one of several equal entries of a base's list, is a note.
    """
    rng = random.Random(0)
    reads = everything(work)
    assert not fsck(work).notes
    paths = [
        path for path in sorted(work.folder.rglob("*")) if path.is_file() and path.name not in ("lock", "config.toml")
    ]
    for path in [*rng.choices(paths, k=40), *(work.folder / n for n in ("HEAD", "op/head", "op/applied", "format"))]:
        data = path.read_bytes()
        flip(path, rng.randrange(len(data)), 1 << rng.randrange(8))
        try:
            found = fsck(work)
            if found.ok and not found.notes:
                assert everything(persona.open(work.root)) == reads, path
        finally:
            path.write_bytes(data)
    assert fsck(work).ok


def everything(repo: persona.Repository) -> list[object]:
    """All that a repository says."""
    store = TensorStore(repo.folder / "packs", repo.folder / "tmp")
    ids = sorted({name for volume in store.volumes() for name in volume.tensors})
    return [repo.refs(), repo.head_text(), persona.log(repo), ids, [store.read(TensorId(i)).tobytes() for i in ids]]


def test_the_command(work: persona.Repository, run: Run) -> None:
    said = run(work.root, "fsck")
    assert said.code == 0
    assert "No damage found." in said.out
    said = run(work.root, "fsck", "--sample", "30%", "--seed", "7")
    assert "sample of 0.3, seed 7" in said.out
    flip_tensor(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    said = run(work.root, "fsck")
    assert said.code == 1
    assert "damaged" in said.out
    assert "add style" in said.out
    said = run(work.root, "fsck", "--json")
    result = json.loads(said.out)["result"]
    assert (said.code, result["ok"], len(result["lost"])) == (1, False, 1)
    assert run(work.root, "fsck", "--sample", "lots").code == 2
    shutil.rmtree(work.folder / "refs")
    (work.folder / "format").unlink()
    (work.folder / "op" / "head").write_bytes(b"\x00")
    assert run(work.root, "fsck").code == 1


def test_the_table_survives_80_columns(work: persona.Repository, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from persona.cli.commands.fsck import _render

    for name in ("lm_head.weight", "model.norm.weight"):
        flip_tensor(work, vector_of(work, "a").tensors[name].id)
    console = Console(width=80, highlight=False, no_color=True)
    _render(console, fsck(work))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("tensor" in line and "damaged" in line for line in lines)


def test_nothing_is_changed_by_looking(work: persona.Repository) -> None:
    def state() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(work.root.rglob("*")) if p.is_file()}

    flip_tensor(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    before = state()
    fsck(work)
    assert state() == before
    with pytest.raises((Damaged, PersonaError)):
        persona.build(work, work.root / "out")


def test_models_are_left_alone(models: TinyModels, work: persona.Repository) -> None:
    before = {path: path.read_bytes() for path in models.base().iterdir()}
    fsck(work, repair_from=models.base())
    assert before == {path: path.read_bytes() for path in models.base().iterdir()}
