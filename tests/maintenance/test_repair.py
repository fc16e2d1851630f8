"""``fsck --repair-from``: what the checkpoint has comes back, bit for bit; what it has not is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig

import persona
from persona.ids import VectorId
from persona.maintenance.report import CheckReport
from tests.checkpoints.peft_folders import build, train
from tests.checkpoints.test_alignment import module_names
from tests.cli.conftest import Run
from tests.families import tiny
from tests.maintenance.conftest import flip, flip_tensor, objects_of, volume_with
from tests.models import VOCAB, TinyModels, assert_same, load, nudge, tiny_llama
from tests.verbs.test_fsck import fsck, vector_of


@pytest.fixture
def built(work: persona.Repository, tmp_path: Path) -> Path:
    persona.build(work, tmp_path / "before")
    return tmp_path / "before"


def assert_healed(work: persona.Repository, built: Path, path: Path) -> CheckReport:
    assert not fsck(work).ok
    done = fsck(work, repair_from=path)
    assert done.ok, done
    assert done.healed
    found = fsck(work)
    assert found.ok, found
    assert not list((work.folder / "packs").glob("*.damaged"))
    assert not list((work.folder / "tmp").iterdir())
    persona.build(persona.open(work.root), built.with_name("after"))
    assert_same(load(built.with_name("after")), load(built))
    return done


def test_a_flipped_bit_in_the_base(work: persona.Repository, built: Path, models: TinyModels) -> None:
    base = work.base(work.recipe(work.head()).base_id)
    path = flip_tensor(work, base.tensors["model.layers.0.mlp.up_proj.weight"].id)
    assert_healed(work, built, models.base())
    assert path.exists()


def test_a_flipped_bit_in_the_bases_header(work: persona.Repository, built: Path, models: TinyModels) -> None:
    (path,) = (work.folder / "packs").glob("*.safetensors")
    flip(path, 20)
    assert_healed(work, built, models.base())
    flip(path.with_suffix(".json"), 20)
    assert fsck(work, repair_from=models.run(1)).ok


@pytest.mark.parametrize("what", ["both", "list", "data"])
def test_a_deleted_base(work: persona.Repository, built: Path, models: TinyModels, what: str) -> None:
    (path,) = (work.folder / "packs").glob("*.safetensors")
    if what in ("both", "data"):
        path.unlink()
    if what in ("both", "list"):
        path.with_suffix(".json").unlink()
    assert_healed(work, built, models.base())
    assert path.exists()


def test_a_run(work: persona.Repository, built: Path, models: TinyModels) -> None:
    tensor = vector_of(work, "a").tensors["lm_head.weight"]
    path = flip_tensor(work, tensor.id)
    done = assert_healed(work, built, models.run(1))
    assert not path.exists()
    assert any("was replaced" in text for text in done.healed)
    assert persona.Repository(work.root).tensors.describe(tensor.id).base is not None


def test_a_deleted_pack_and_a_cut_one(work: persona.Repository, built: Path, models: TinyModels) -> None:
    path = volume_with(work, vector_of(work, "a").tensors["lm_head.weight"].id).path
    path.write_bytes(path.read_bytes()[:-9])
    assert_healed(work, built, models.run(1))
    assert not path.exists()
    path = volume_with(persona.Repository(work.root), vector_of(work, "a").tensors["lm_head.weight"].id).path
    path.unlink()
    assert fsck(work, repair_from=models.run(1)).ok


def test_a_grown_run_and_its_files(work: persona.Repository, built: Path, grown: Path) -> None:
    tensor = vector_of(work, "grown").tensors["model.embed_tokens.weight"].id
    volume_with(work, tensor).path.unlink()
    assert_healed(work, built, grown)


def test_an_adapter(work: persona.Repository, built: Path, adapter: Path) -> None:
    spec = next(iter(vector_of(work, "style").low_rank.values()))
    flip_tensor(work, spec.right.id)
    assert_healed(work, built, adapter)


@pytest.mark.parametrize("tied", ["untie", "merge"])
@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_factors_of_experts_and_a_tied_head(tied: str, tmp_path: Path) -> None:
    """Each tensor is a part of one in the adapter's file, or computed; the vector's object is lost as well."""
    model = build("MixtralForCausalLM", tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "base")
    settings = LoraConfig(r=2, target_modules=["embed_tokens"], target_parameters=["experts.down_proj"])
    train(model, settings, tmp_path / "a")
    persona.init(tmp_path / "work", tmp_path / "base")
    work = persona.open(tmp_path / "work")
    persona.commit(work, tmp_path / "a", name="a", tied=tied)
    persona.build(work, tmp_path / "before")
    for spec in vector_of(work, "a").low_rank.values():
        volume_with(work, spec.left.id).path.unlink(missing_ok=True)
        break
    entry = work.recipe(work.head()).entry("a")
    assert entry is not None
    work.objects.path(VectorId(entry.id)).unlink()
    assert_healed(work, tmp_path / "before", tmp_path / "a")


def test_experts_that_the_run_had_in_another_form(tmp_path: Path) -> None:
    tiny("Mixtral", 1).save_pretrained(tmp_path / "base")
    module_names("Mixtral", tmp_path / "run", 2)
    persona.init(tmp_path / "work", tmp_path / "base")
    work = persona.open(tmp_path / "work")
    persona.commit(work, tmp_path / "run", name="a")
    persona.build(work, tmp_path / "before")
    flip_tensor(work, vector_of(work, "a").tensors["model.layers.1.block_sparse_moe.experts.3.w2.weight"].id)
    assert_healed(work, tmp_path / "before", tmp_path / "run")


def test_rows_that_the_run_had_dropped(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "base")
    run = tiny_llama()
    run.resize_token_embeddings(VOCAB - 6)
    nudge(run, 1).save_pretrained(tmp_path / "run")
    persona.init(tmp_path / "work", tmp_path / "base")
    work = persona.open(tmp_path / "work")
    persona.commit(work, tmp_path / "run", name="a")
    persona.build(work, tmp_path / "before")
    flip_tensor(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    assert_healed(work, tmp_path / "before", tmp_path / "run")


def test_the_wrong_checkpoint_heals_nothing_and_harms_nothing(
    work: persona.Repository, adapter: Path, models: TinyModels
) -> None:
    path = flip_tensor(work, vector_of(work, "a").tensors["lm_head.weight"].id)
    before = fsck(work)
    done = fsck(work, repair_from=adapter)
    assert done.lost == before.lost
    assert done.healed == ()
    assert path.exists()
    assert fsck(work, repair_from=models.run(1)).ok


def test_what_one_checkpoint_has_and_what_it_has_not(
    work: persona.Repository, built: Path, models: TinyModels, adapter: Path, tmp_path: Path
) -> None:
    """Two runs' tensors damaged: the first repair heals its own and says what is still lost."""
    lost = vector_of(work, "a").tensors["lm_head.weight"].id
    spec = next(iter(vector_of(work, "style").low_rank.values())).left.id
    flip_tensor(work, lost)
    flip_tensor(work, spec)
    done = fsck(work, repair_from=adapter)
    assert [loss.id for loss in done.lost] == [lost]
    assert done.healed
    assert_healed(work, built, models.run(1))


def test_a_part_of_a_pack_is_saved_and_the_rest_set_aside(work: persona.Repository, tmp_path: Path) -> None:
    """A pack of two lost tensors of which the checkpoint has one."""
    vector = vector_of(work, "a")
    names = ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]
    ids = [vector.tensors[name].id for name in names]
    run = tmp_path / "part"
    run.mkdir()
    persona.build(work, tmp_path / "whole")
    from safetensors.torch import save_file

    from persona.store.tensors import TensorStore

    store = TensorStore(work.folder / "packs", work.folder / "tmp")
    import torch

    bits = store.read(ids[0]).copy()
    shape = vector.tensors[names[0]].shape
    save_file({"x": torch.from_numpy(bits.view("i2")).view(torch.bfloat16).reshape(shape)}, run / "model.safetensors")
    path = flip_tensor(work, ids[0])
    flip_tensor(work, ids[1])
    done = fsck(work, repair_from=run)
    assert [loss.id for loss in done.lost] == [ids[1]]
    assert path.with_name(f"{path.name}.damaged").exists()
    assert any("set aside" in text for text in done.healed)


def test_objects_that_can_be_made_again(
    work: persona.Repository, built: Path, models: TinyModels, adapter: Path
) -> None:
    (base,) = objects_of(work, "base")
    flip(base, 50)
    assert_healed(work, built, models.base())
    built.with_name("after").rename(built.with_name("first"))
    recipe = work.recipe(work.head())
    for name, source in (("a", models.run(1)), ("style", adapter)):
        entry = recipe.entry(name)
        assert entry is not None
        work.objects.path(VectorId(entry.id)).unlink()
        assert fsck(work, repair_from=source).ok
    base.unlink()
    for path in (work.folder / "packs").glob("*.safetensors"):
        path.unlink()
        path.with_suffix(".json").unlink()
    assert fsck(work, repair_from=models.base()).ok


def test_objects_that_cannot(work: persona.Repository, models: TinyModels, run: Run) -> None:
    flip(work.objects.path(work.commit(work.head()).recipe), 10)
    said = run(work.root, "fsck", "--repair-from", models.base())
    assert said.code == 1
    assert "cannot be repaired from a checkpoint" in said.out
    assert run(work.root, "fsck", "--repair-from", work.root / "nowhere").code == 2
