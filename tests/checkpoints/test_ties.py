"""What is tied, against the models that transformers makes of a checkpoint."""

from __future__ import annotations

import json
from importlib import metadata, resources
from typing import Any

import pytest

from docs.tools import ties as generator
from persona.checkpoints.ties import tied_names
from tests.families import FAMILIES, tiny

Groups = set[frozenset[str]]


def shared(model: Any) -> Groups:
    """Names of one parameter each, in the loaded model."""
    names: dict[int, list[str]] = {}
    for name, weight in model.state_dict(keep_vars=True).items():
        names.setdefault(id(weight), []).append(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}


def grouped(tied: dict[str, str]) -> Groups:
    groups: dict[str, set[str]] = {}
    for alias, name in tied.items():
        groups.setdefault(name, {name}).add(alias)
    return {frozenset(group) for group in groups.values()}


def saved_config(model: Any) -> dict[str, Any]:
    model.config.architectures = [type(model).__name__]
    config: dict[str, Any] = json.loads(model.config.to_json_string())
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_ties_are_those_of_the_loaded_model(family: str) -> None:
    model = tiny(family)
    config = saved_config(model)
    assert grouped(tied_names(config, model.state_dict())) == shared(model)
    assert grouped(tied_names(config, dict(model.named_parameters()))) == shared(model)  # each tensor once


def test_the_config_decides_and_its_class_where_it_is_silent() -> None:
    model = tiny("GPT-2")
    config, names = saved_config(model), {"wte.weight": None, "h.0.ln_1.weight": None}
    assert tied_names(config, names) == {"lm_head.weight": "wte.weight"}
    del config["tie_word_embeddings"]
    assert tied_names(config, names) == {"lm_head.weight": "wte.weight"}
    assert tied_names({**config, "tie_word_embeddings": False}, names) == {}
    llama = {"architectures": ["LlamaForCausalLM"]}
    assert tied_names(llama, {"model.embed_tokens.weight": None}) == {}


def test_the_switch_of_a_vision_language_model_may_stand_in_its_text_config() -> None:
    names = {"language_model.model.embed_tokens.weight": None, "language_model.lm_head.weight": None}
    config = {"architectures": ["LlavaForConditionalGeneration"], "text_config": {"tie_word_embeddings": True}}
    assert tied_names(config, names) == {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}


def test_only_one_of_several_names_may_have_been_saved() -> None:
    config = {"architectures": ["T5ForConditionalGeneration"]}
    saved = {"decoder.embed_tokens.weight": None, "decoder.block.0.layer.0.layer_norm.weight": None}
    others = {"shared.weight", "encoder.embed_tokens.weight", "lm_head.weight"}
    assert set(tied_names(config, saved)) >= others - {"lm_head.weight"}
    assert set(tied_names(config, saved).values()) == {"decoder.embed_tokens.weight"}


def test_code_that_comes_with_a_checkpoint_is_judged_by_names() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "auto_map": {"AutoModel": "own.Model"},
        "tie_word_embeddings": True,
    }
    assert tied_names(config, {"tok_embeddings.weight": None, "output.weight": None}) == {
        "output.weight": "tok_embeddings.weight"
    }
    assert tied_names({**config, "tie_word_embeddings": False}, {"tok_embeddings.weight": None}) == {}


@pytest.mark.every  # creates 1,700 models, without weights
@pytest.mark.filterwarnings("ignore")
def test_the_table_is_that_of_the_installed_transformers() -> None:
    shipped = json.loads(resources.files("persona.checkpoints").joinpath("ties.json").read_text())
    if shipped["transformers"] != metadata.version("transformers"):
        pytest.skip(f"the table was made with transformers {shipped['transformers']}")
    assert generator.table() == shipped
