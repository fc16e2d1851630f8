"""What counts as a change of the files beside the weights, and what is only another way to write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from persona.checkpoints import groups, settings

TOKENS = [{"id": 0, "content": "<s>", "special": True}, {"id": 1, "content": "</s>", "special": True}]
JSON = {
    "version": "1.0",
    "added_tokens": TOKENS,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    "post_processor": None,
    "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}, "merges": ["a b"]},
}
CONFIG = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True, "padding_side": "right"}
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def files(change: Change | None = None, **more: Any) -> dict[str, bytes]:
    table, config = json.loads(json.dumps([JSON, CONFIG]))
    if change:
        change(table, config)
    tables = {"tokenizer.json": table, "tokenizer_config.json": config, **more}
    return {name: value if isinstance(value, bytes) else json.dumps(value).encode() for name, value in tables.items()}


def bos(t: dict[str, Any], _: dict[str, Any]) -> None:
    t["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t, c: c.update(eos_token="a"), "eos_token"),
        (lambda t, c: c.pop("eos_token"), "eos_token"),
        (lambda t, c: c.update(pad_token="</s>"), "pad_token"),
        (lambda t, c: c.update(add_bos_token=False), "add_bos_token"),
        (bos, "post_processor"),
        (lambda t, c: t["added_tokens"].append({"id": 5, "content": "<x>"}), "added tokens"),
        (lambda t, c: t["added_tokens"][1].update(lstrip=True), "added tokens"),
        (lambda t, c: t["model"]["vocab"].update(c=5), "vocabulary"),
        (lambda t, c: t.update(normalizer={"type": "Lowercase"}), "normalizer"),
    ],
)
def test_a_tokenizer_with_another_meaning(change: Change, what: str) -> None:
    base, run = files(), files(change)
    assert list(groups.changed(base, run)) == ["tokenizer"]
    meanings = [groups.meaning("tokenizer", one, base) for one in (base, run)]
    assert groups.difference(*meanings).startswith(what)


@pytest.mark.parametrize(
    "change",
    [
        lambda t, c: c.update(padding_side="left", model_max_length=99, tokenizer_class="TokenizersBackend"),
        lambda t, c: c.update(eos_token="</s>", sep_token=None),
        lambda t, c: c.pop("add_bos_token"),
        lambda t, c: t.update(version="2.0", truncation={"max_length": 7}, padding={"strategy": "BatchLongest"}),
        lambda t, c: t["model"].update(merges=[["a", "b"]], dropout=None, byte_fallback=False),
        lambda t, c: t["pre_tokenizer"].update(use_regex=True),
    ],
)
def test_a_tokenizer_that_was_only_written_again(change: Change) -> None:
    assert groups.changed(files(), files(change)) == {}


def test_files_that_repeat_the_vocabulary_do_not_count() -> None:
    slow = {"vocab.json": b'{"a": 2}', "merges.txt": b"a b", "added_tokens.json": b'{"<s>": 0}'}
    assert groups.changed(files(), files(**slow)) == {}
    assert groups.changed(files(**{"tokenizer.model": b"pieces"}), {"tokenizer.model": b"pieces"}) == {}
    assert groups.changed(files(**{"tokenizer.model": b"pieces"}), {"tokenizer.model": b"others"}) != {}


@pytest.mark.parametrize(
    "run",
    [
        {"chat_template.jinja": b"T"},
        {"chat_template.json": b'{"chat_template": "T"}'},
        files(lambda t, c: c.update(chat_template="T")),
        files(lambda t, c: c.update(chat_template=[{"name": "default", "template": "T"}])),
    ],
)
def test_a_template_is_the_same_wherever_it_is_written(run: dict[str, bytes]) -> None:
    assert groups.templates(run) == {"default": "T"}
    in_config = files(lambda t, c: c.update(chat_template="T"))
    assert groups.changed(in_config, run) == {}
    built = dict(files(lambda t, c: c.update(chat_template="OLD"), **{"chat_template.jinja": b"OLD"}))
    groups.put_templates(built, run)
    assert groups.templates(built) == {"default": "T"}
    assert not any(b"OLD" in data for data in built.values())


def test_more_templates_by_name() -> None:
    run = {"chat_template.jinja": b"T", "additional_chat_templates/tool.jinja": b"U"}
    assert groups.templates(run) == {"default": "T", "tool": "U"}
    assert groups.changed({"chat_template.jinja": b"T"}, run) == {"chat_template": sorted(run)}


def test_a_processor_in_one_file_is_the_same_as_in_two() -> None:
    image = {"size": {"height": 16}, "image_processor_type": "X", "do_resize": True}
    two = {"preprocessor_config.json": json.dumps(image).encode(), "processor_config.json": b'{"patch_size": 8}'}
    new = {"image_processor": {**image, "image_processor_type": "XFast"}, "patch_size": 8}
    one = {"processor_config.json": json.dumps(new).encode()}
    assert groups.changed(two, one) == {}
    new["image_processor"]["size"] = {"height": 8}
    one = {"processor_config.json": json.dumps(new).encode()}
    assert groups.changed(two, one) == {"processor": ["processor_config.json"]}
    # a file that refers to a part which the run did not save is completed by the base's
    assert groups.effective("processor", {"processor_config.json": b'{"patch_size": 4}'}, two) == {
        **two, "processor_config.json": b'{"patch_size": 4}'
    }  # fmt: skip


def test_modules_are_those_that_modules_json_lists() -> None:
    listed = json.dumps([{"path": ""}, {"path": "1_Pooling"}]).encode()
    base = {"modules.json": listed, "1_Pooling/config.json": b'{"cls": true}', "notes/a.json": b"{}"}
    assert groups.changed(base, {**base, "notes/a.json": b"[]"}) == {}
    assert groups.changed(base, {**base, "1_Pooling/evil.py": b""}) == {}
    run = {**base, "1_Pooling/config.json": b'{"cls": false}'}
    assert groups.changed(base, run) == {"modules": ["1_Pooling/config.json", "modules.json"]}


@pytest.mark.parametrize(
    ("base", "run", "patch"),
    [
        ({"rope_theta": 1e4, "rope_scaling": None}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, ()),
        (
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            (),
        ),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4}},
            ((("rope_parameters", "rope_theta"), 2e4),),
        ),
        ({}, {"unsloth_version": "1", "_attn_implementation": "sdpa", "auto_map": {"AutoModel": "m.M"}}, ()),
        ({}, {"quantization_config": {"load_in_4bit": True}}, ()),
        ({"quantization_config": {"a": 1}}, {"x": None, "hidden_act": "silu"}, (
            (("hidden_act",), "silu"), (("quantization_config",), None)
        )),
    ],
)  # fmt: skip
def test_settings_that_differ(base: dict[str, Any], run: dict[str, Any], patch: object) -> None:
    assert settings.config_patch(base, run) == patch
