"""A model straight from a revision is the one that a build of it loads as; blocks are found in every kind of model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, UsageError
from persona.inference.blocks import find_blocks, stream_of
from persona.inference.load import from_folder
from persona.workspace.loading import load_model
from tests.models import TinyModels, tiny_config

TOKENS = torch.arange(3, 15).reshape(2, 6)

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

KINDS = {
    "llama": SMALL,
    "qwen3": SMALL | {"head_dim": 8},
    "mistral": SMALL,
    "gemma2": SMALL | {"head_dim": 8},
    "mixtral": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi3": SMALL,
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96, "n_positions": 64},
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96},
    "falcon": SMALL,
}
WHERE = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers", "bloom": "transformer.h",
         "falcon": "transformer.h"}  # fmt: skip


def make(kind: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **KINDS[kind])).eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_blocks_are_found_by_structure_and_give_the_hidden_states(kind: str) -> None:
    model = make(kind)
    blocks = find_blocks(model)
    assert (blocks.path, len(blocks), blocks.hidden) == (WHERE.get(kind, "model.layers"), 3, 32)
    seen = []
    for block in blocks.modules:
        block.register_forward_hook(lambda _, __, output: seen.append(stream_of(output)))
    states = model(TOKENS, output_hidden_states=True).hidden_states
    # hidden_states[i + 1] is what block i returns, but for the last one, which is after the final norm
    for layer in range(2):
        assert torch.equal(seen[layer], states[layer + 1])
    assert not torch.equal(seen[2], states[3])


def test_blocks_that_are_not_found_are_asked_for() -> None:
    model = make("llama")
    assert find_blocks(model, "model.layers").path == "model.layers"
    with pytest.raises(UsageError, match=r"no list of blocks at 'model\.h'") as caught:
        find_blocks(model, "model.h")
    assert "model.layers" in caught.value.hint
    with pytest.raises(UsageError, match="no layer 3, 9"):
        find_blocks(model).checked([1, 3, 9])
    assert find_blocks(model).checked([2, 0, 2]) == (0, 2)
    del model.model.layers
    with pytest.raises(UsageError, match="no list of blocks"):
        find_blocks(model)


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    persona.commit(repo, models.run(2), name="b", alpha=-0.3)
    return repo


@pytest.mark.parametrize("said", ["HEAD", "HEAD~1", "HEAD~2", None])
def test_a_revision_in_memory_is_the_model_that_its_build_loads_as(
    work: persona.Repository, tmp_path: Path, said: str | None
) -> None:
    live = load_model(work, said, work.root)
    persona.build(work, tmp_path / "out", said)
    assert (live.base, live.revision) == (work.recipe(work.head()).base, work.resolve(said or "HEAD"))
    assert not live.model.training
    assert_same_model(live.model, from_folder(tmp_path / "out", "out").model)


@pytest.mark.parametrize(("said", "seed"), [("a", 1), ("b@HEAD", 2)])
def test_a_vector_is_run_on_its_base_alone(work: persona.Repository, models: TinyModels, said: str, seed: int) -> None:
    live = load_model(work, said, work.root)
    assert live.revision is None
    assert_same_model(live.model, from_folder(models.run(seed), "the run").model)


@torch.inference_mode()
def assert_same_model(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    wanted = theirs.state_dict()
    assert sorted(ours.state_dict()) == sorted(wanted)
    for name, weight in ours.state_dict().items():
        assert weight.dtype == wanted[name].dtype
        assert torch.equal(weight, wanted[name]), name
    assert torch.equal(ours(TOKENS).logits, theirs(TOKENS).logits)


def test_an_edited_recipe_is_no_revision(work: persona.Repository) -> None:
    text = work.recipe_path.read_text()
    work.recipe_path.write_text(text.replace("alpha = 0.5", "alpha = 0.7"))
    assert load_model(work, None, work.root).revision is None


def test_a_folder_knows_the_revision_that_it_was_built_from(work: persona.Repository, tmp_path: Path) -> None:
    persona.build(work, tmp_path / "out")
    live = load_model(None, tmp_path / "out", tmp_path, dtype="fp32")
    assert (live.base, live.revision) == (work.recipe(work.head()).base, work.head())
    assert live.model.dtype == torch.float32


def test_tied_embeddings_stay_tied(models: TinyModels, tmp_path: Path) -> None:
    persona.init(tmp_path / "work", models.base(tie_word_embeddings=True), author="Test")
    repo = persona.open(tmp_path / "work")
    live = load_model(repo, "HEAD", repo.root)
    assert live.model.lm_head.weight is live.model.model.embed_tokens.weight
    assert live.model.config.tie_word_embeddings


def test_what_cannot_be_run_is_named(work: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no device 'tpu'"):
        load_model(work, "HEAD", work.root, device="tpu")
    with pytest.raises(UsageError, match="unknown dtype 'fp12'"):
        load_model(work, "HEAD", work.root, dtype="fp12")
    with pytest.raises(UsageError, match="not a revision"):
        load_model(work, "nothing", work.root)
    with pytest.raises(UsageError, match="no model given"):
        load_model(None, None, work.root)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_model(work, "HEAD", work.root).need_tokenizer()
    folder = tmp_path / "odd"
    folder.mkdir()
    tiny_config(model_type="martian").save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "martian"}')
    (folder / "model.safetensors").write_bytes((models.base() / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        load_model(None, folder, tmp_path)


def test_the_head_gets_a_few_states_in_one_piece(models: TinyModels) -> None:
    """Or else torch would copy the head's weight for each text of a batch."""
    live = from_folder(models.base(), "tiny")
    heard: list[bool] = []
    live.model.lm_head.register_forward_pre_hook(lambda _, given: heard.append(given[0].is_contiguous()))
    with torch.inference_mode():
        whole = live.model(input_ids=TOKENS).logits
        few = live.model(input_ids=TOKENS, logits_to_keep=2).logits
    assert heard == [True, True]
    assert torch.allclose(few, whole[:, -2:], atol=1e-2)
