"""``commit`` stores what a run or an adapter changed, and refuses what was not trained from this base. What ``build`` makes of it: test_messy_checkpoints.py, test_adapters.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, Refusal, UsageError, WrongBase
from persona.ids import CommitId
from tests.checkpoints.peft_folders import build, train
from tests.checkpoints.test_adapter import LLAMA
from tests.models import VOCAB, TinyModels, load, same_bits, tiny_llama, word_tokenizer


def test_the_base_is_no_vector(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    base = repo.recipe(repo.head()).base
    with repo.recipe_path.open("a") as file:
        file.write(f'\n[vectors.x]\nid = "{base[:12]}"\n')
    with pytest.raises(UsageError, match="no vector"):
        persona.commit(repo, message="x")


MakeRepo = Callable[[Path], persona.Repository]


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_factors_stay_factors_and_cost_what_the_adapter_costs(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base())
    train(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]), tmp_path / "adapter")
    done = persona.commit(repo, tmp_path / "adapter", name="a")
    assert done.form == "lora"
    assert done.tensors == 4
    assert done.kept_bytes < (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size + 4096
    (listed,) = persona.vectors(repo)
    assert listed.rank == 4


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_the_same_adapter_again_makes_nothing_new(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base())
    train(base, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    persona.commit(repo, tmp_path / "adapter", name="a")
    before = sorted(p.name for p in (repo.folder / "packs").iterdir())
    shutil.copytree(tmp_path / "adapter", tmp_path / "copy")
    assert persona.commit(repo, tmp_path / "copy", name="a").recorded is None
    assert sorted(p.name for p in (repo.folder / "packs").iterdir()) == before


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_an_adapter_of_another_base_names_both(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    other = AutoModelForCausalLM.from_pretrained(models.run(1))
    other.config._name_or_path = str(models.run(1))
    other.name_or_path = str(models.run(1))
    train(other, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    repo = make_repo(models.base())
    with pytest.raises(WrongBase, match=r"was trained on .*run-1-.*differs from this repository's base"):
        persona.commit(repo, tmp_path / "adapter", name="a")


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_an_adapter_of_another_size_is_an_error(make_repo: MakeRepo, models: TinyModels, tmp_path: Path) -> None:
    train(build(LLAMA), LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    with pytest.raises((CheckpointError, WrongBase), match="q_proj"):
        persona.commit(make_repo(models.base()), tmp_path / "adapter", name="a")


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_pissa_is_refused_with_the_reason(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    train(base, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="pissa") as error:
        persona.commit(repo, tmp_path / "adapter", name="a")
    assert "path_initial_model_for_weight_conversion" in error.value.hint


def test_other_shards_are_the_same_vector(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    one = persona.commit(repo, models.run(1), name="a")
    again = persona.commit(repo, tmp_path / "sharded", name="a")
    assert again.recorded is None
    assert again.vector == one.vector


def test_a_run_without_the_rows_that_pad_the_base(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    model.resize_token_embeddings(VOCAB - 6)
    model.save_pretrained(tmp_path / "run")
    notes = persona.commit(repo, tmp_path / "run", name="a").notes
    assert "lacks 6 of the base's rows in lm_head.weight, which stay as they are" in notes
    persona.build(repo, tmp_path / "out")
    base, run, built = load(models.base()), load(tmp_path / "run"), load(tmp_path / "out")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert same_bits(built[name], torch.cat([run[name], base[name][VOCAB - 6 :]]))
    assert AutoConfig.from_pretrained(tmp_path / "out").vocab_size == VOCAB


def test_a_run_without_rows_of_tokens_is_an_error(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    shutil.copytree(models.base(), tmp_path / "base")
    word_tokenizer(["<unk>", "<s>", "</s>", "<pad>", *map(str, range(89))]).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    model.resize_token_embeddings(92)
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(WrongBase, match="has 92 rows but the base's tokenizer has 93 tokens"):
        persona.commit(make_repo(tmp_path / "base"), tmp_path / "run", name="a")


def test_the_newest_checkpoint_of_a_trainer_is_taken(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    for number, seed in ((2, 1), (10, 2), (9, 3)):
        shutil.copytree(models.run(seed), tmp_path / "run" / f"checkpoint-{number}")
    (tmp_path / "run" / "checkpoint-99").mkdir()
    newest = persona.commit(repo, tmp_path / "run")
    assert newest.name == "run"
    assert newest.vector == persona.commit(repo, models.run(2), name="same").vector
    named = persona.commit(repo, tmp_path / "run" / "checkpoint-2")
    assert named.name == "run"
    assert named.vector == persona.commit(repo, models.run(1), name="first").vector


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 64}, {"num_hidden_layers": 4, "vocab_size": 32}, {"intermediate_size": 64}]
)
def test_a_run_of_another_base_is_an_error(repo: persona.Repository, tmp_path: Path, changes: dict[str, int]) -> None:
    tiny_llama(**changes).save_pretrained(tmp_path / "run")
    with pytest.raises((WrongBase, CheckpointError)):
        persona.commit(repo, tmp_path / "run", name="a")
    assert persona.log(repo)[0].subject.startswith("base ")


def test_unrelated_weights_of_the_same_shape_are_an_error(repo: persona.Repository, tmp_path: Path) -> None:
    tiny_llama(seed=99).save_pretrained(tmp_path / "run")
    with pytest.raises(
        WrongBase, match=r"is not a fine-tune of this base: its matrices differ by 1\d\d% of their norm"
    ):
        persona.commit(repo, tmp_path / "run", name="a")


@pytest.mark.parametrize("indexed", [True, False])
def test_an_interrupted_copy_is_no_smaller_model(repo: persona.Repository, tmp_path: Path, indexed: bool) -> None:
    tiny_llama().save_pretrained(tmp_path / "run", max_shard_size="10KB")
    shards = sorted((tmp_path / "run").glob("*.safetensors"))
    shards[1].unlink()
    index = tmp_path / "run" / "model.safetensors.index.json"
    if indexed:
        table = json.loads(index.read_text())
        table["weight_map"] = {n: f for n, f in table["weight_map"].items() if f != shards[1].name}
        table["weight_map"]["model.norm.weight.gone"] = shards[0].name
        index.write_text(json.dumps(table))
    else:
        index.unlink()
    with pytest.raises(CheckpointError, match="lacks tensor" if indexed else rf"of the {len(shards)} shards"):
        persona.commit(repo, tmp_path / "run", name="a")


def test_amend_replaces_the_newest_commit(half: persona.Repository) -> None:
    old, parent = half.commit(half.head()), half.resolve("HEAD~1")
    persona.tag(half, "v1")
    half.recipe_path.write_text(half.head_text().replace("alpha = 0.5", "alpha = 0.7  # warmer"))
    done = persona.commit(half, message="a little less", amend=True).recorded
    assert done is not None
    assert [change.text for change in done.changes] == ["a α 1 → 0.7"]
    assert done.notes == (f"the earlier commit {half.resolve('v1')[:7]} stays in v1",)
    new = half.commit(half.head())
    assert (new.parents, new.message, new.author) == ((parent,), "a little less", old.author)
    assert "# warmer" in half.head_text()
    assert not half.is_edited()
    persona.commit(half, message="less", amend=True)
    assert half.commit(half.head()).text == new.text
    persona.undo(half)
    persona.undo(half)
    assert half.commit(half.head()) == old
    assert half.recipe_text() == half.head_text()


def test_what_cannot_be_amended(models: TinyModels, half: persona.Repository) -> None:
    with pytest.raises(Refusal, match="nothing to amend"):
        persona.commit(half, amend=True)
    with pytest.raises(UsageError, match="--amend takes no run"):
        persona.commit(half, models.run(2), amend=True)
    half.recipe_path.write_text(half.text(half.resolve("HEAD~1")))
    with pytest.raises(Refusal, match="nothing would be left of the commit"):
        persona.commit(half, message="none", amend=True)
