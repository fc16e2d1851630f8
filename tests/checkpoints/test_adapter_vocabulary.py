"""Adapters that were trained after the vocabulary was resized, down to the tokenizer's or up for new tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from persona.checkpoints.adapter import open_adapter
from persona.checkpoints.dtypes import widen
from persona.errors import CheckpointError
from tests.checkpoints.peft_folders import FakeBase, base_of, build, randomise, rebuilt

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's own
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def trained(rows: int, folder: Path, config: dict[str, Any], *, tied: bool) -> tuple[FakeBase, dict[str, torch.Tensor]]:
    """A base with 40 rows, and what PEFT's merge makes of an adapter of it with ``rows`` rows."""
    model = build("LlamaForCausalLM", tie_word_embeddings=tied)
    base = base_of(model, "F32", folder / "base")
    resized = copy.deepcopy(model)
    resized.resize_token_embeddings(rows)
    adapted = get_peft_model(copy.deepcopy(resized), LoraConfig(r=2, **config))
    randomise(adapted)
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=True)
    merged = PeftModel.from_pretrained(resized, folder / "adapter").merge_and_unload()
    return base, {name: tensor.detach() for name, tensor in merged.state_dict().items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [32, 43])
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 31]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
)
def test_rows_are_pefts_and_padding_is_the_bases(config: dict[str, Any], rows: int, tied: bool, tmp_path: Path) -> None:
    base, merged = trained(rows, tmp_path, config, tied=tied)
    if rows > 40 and not tied and "embed_tokens" in config["target_modules"]:  # PEFT saves only the embedding's rows
        with pytest.raises(
            CheckpointError, match=r"43 rows for 'model.embed_tokens.weight' but 40 for 'lm_head.weight'"
        ):
            open_adapter(tmp_path / "adapter", base)
        return
    choice = "merge" if tied and "embed_tokens" in config["target_modules"] else None
    adapter = open_adapter(tmp_path / "adapter", base, choice)
    made = rebuilt(adapter, base)
    assert (HEAD in made) == (not tied or bool(adapter.untied))
    for name in {EMBEDDING, HEAD} & made.keys():
        ours = torch.tensor(widen(made[name][1], "F32"))
        assert torch.allclose(ours[:rows], merged[name], rtol=0, atol=1e-6), name
        assert torch.equal(ours[rows:], torch.tensor(widen(base.bits(base.tied.get(name, name)), "F32"))[rows:]), name
    for name, tensor in merged.items():
        if name not in (EMBEDDING, HEAD):
            assert torch.allclose(torch.tensor(widen(made[name][1], "F32")), tensor, rtol=0, atol=1e-6), name


def test_new_tokens_alone_stay_tied(tmp_path: Path) -> None:
    base, merged = trained(42, tmp_path, {"target_modules": ["q_proj"], "trainable_token_indices": [40, 41]}, tied=True)
    adapter = open_adapter(tmp_path / "adapter", base)
    assert not adapter.untied
    made = torch.tensor(widen(rebuilt(adapter, base)[EMBEDDING][1], "F32"))
    assert torch.equal(made, merged[EMBEDDING])
