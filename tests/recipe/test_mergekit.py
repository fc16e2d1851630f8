"""Recipes and mergekit configurations: numbers that mean the same, and what has no equal is named."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import PersonaError, RecipeError
from persona.methods.parts.order import kept_of
from persona.recipe.alphas import Depths, alpha_at
from persona.recipe.mergekit.config import ModelReference, parse_config
from persona.recipe.mergekit.density import floor_of, floor_or_one, to_ours, to_theirs
from persona.recipe.mergekit.reading import Merge, merge_of
from persona.recipe.mergekit.setting import alpha_of, evaluate, strengths, weight_of
from persona.recipe.mergekit.slices import without_slices
from persona.recipe.model import Entry
from tests.amount import fuzzed

NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{number}.{part}.weight"
        for number in range(12)
        for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    ),
    "model.norm.weight",
    "lm_head.weight",
]
DEPTHS = Depths.of(NAMES)
A = "ab" * 32
PATTERNS = ["*.mlp.*", "*layers.1.*", "*up_proj.weight", "model.layers.[0-3].*", "*norm*", "lm_head.weight", "*.1?.*"]
NUMBERS = st.floats(-4, 4, width=16)
ALPHAS = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, min_size=1, max_size=5).map(tuple),
    st.lists(st.tuples(st.sampled_from(PATTERNS), NUMBERS), max_size=4, unique_by=lambda one: one[0]).flatmap(
        lambda pairs: NUMBERS.map(lambda last: (*pairs, ("*", last)))
    ),
)
SOME = st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple)


@given(ALPHAS, SOME, SOME)
@fuzzed(300)
def test_a_vector_weighs_at_every_tensor_what_its_alpha_says(alpha: Any, only: Any, excepted: Any) -> None:
    entry = Entry("a", A, alpha, only=only, excepted=excepted)
    setting = weight_of(entry, NAMES, DEPTHS)
    for name, wanted in strengths(entry, NAMES, DEPTHS).items():
        said = evaluate(setting, name, DEPTHS)
        assert said == pytest.approx(wanted, abs=1e-12)


@given(ALPHAS, SOME, SOME)
def test_what_was_written_is_read(alpha: Any, only: Any, excepted: Any) -> None:
    """Not in the same words, but with the same strength everywhere."""
    entry = Entry("a", A, alpha, only=only, excepted=excepted)
    read = alpha_of(weight_of(entry, NAMES, DEPTHS), NAMES, DEPTHS)
    assert read is not None
    for name, wanted in strengths(entry, NAMES, DEPTHS).items():
        assert alpha_at(read, name, DEPTHS) == pytest.approx(wanted, abs=1e-12)


def test_numbers_along_the_depth_are_another_thing_at_the_head() -> None:
    """mergekit gives what is in no block the first number. So it is read, block by block."""
    read = alpha_of([0.0, 1.1], NAMES, DEPTHS)
    assert alpha_at(read, "model.layers.11.mlp.up_proj.weight", DEPTHS) == 1.1
    assert alpha_at(read, "lm_head.weight", DEPTHS) == 0.0
    assert len(read) == 12 + 3
    assert alpha_of([0.0, 1.1], NAMES[:-2], DEPTHS) == (0.0, 1.1)
    assert alpha_of([{"filter": "mlp", "value": 1}], NAMES, DEPTHS) is None


def test_short_where_it_can_be_short() -> None:
    def said(alpha: Any, **more: Any) -> Any:
        return weight_of(Entry("a", A, alpha, **more), NAMES, DEPTHS)

    assert said(0.5) == 0.5
    assert said((0.0, 1.0)) == [
        {"filter": "model.norm.weight", "value": 1.0}, {"filter": "lm_head.weight", "value": 1.0}, {"value": [0.0, 1.0]}
    ]  # fmt: skip
    assert weight_of(Entry("a", A, (0.0, 1.0)), NAMES[:-2], DEPTHS) == [0.0, 1.0]
    assert said((("*.mlp.*", 0.5), ("*", 1.0))) == [{"filter": ".mlp.", "value": 0.5}, {"value": 1.0}]
    assert said(0.5, only=("*.mlp.*",)) == [{"filter": ".mlp.", "value": 0.5}, {"value": 0.0}]
    assert said(0.5, excepted=("*.mlp.*",)) == [{"filter": ".mlp.", "value": 0.0}, {"value": 0.5}]
    assert said(0.5, excepted=("lm_head.weight",)) == [{"filter": "lm_head.weight", "value": 0.0}, {"value": 0.5}]


SIZES = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 1 << 27), min_size=1, max_size=8)
DENSITIES = st.floats(1e-6, 1.0)


@given(DENSITIES, SIZES)
@fuzzed(300)
def test_the_same_number_of_entries_stays(density: float, sizes: dict[str, int]) -> None:
    for theirs in (floor_of, floor_or_one):
        setting = to_theirs(density, sizes, theirs)
        for name, size in sizes.items():
            value = evaluate(setting, name, DEPTHS)
            assert value is not None
            assert theirs(value, size) == kept_of(density, size)


@given(st.integers(1, 100).map(lambda share: share / 100), SIZES)
def test_a_density_comes_back_as_short_as_it_was(density: float, sizes: dict[str, int]) -> None:
    setting = to_theirs(density, sizes, floor_or_one)
    if isinstance(setting, float):
        back = to_ours(setting, sizes, DEPTHS, floor_or_one)
        assert back is not None
        assert len(str(back)) <= len(str(density)) or back == setting
        assert all(kept_of(back, size) == kept_of(density, size) for size in sizes.values())


def test_a_fifth_of_1024() -> None:
    """204.8: 205 here. 0.2 would keep 204 there; 0.201 keeps ⌊205.8⌋."""
    assert to_theirs(0.2, {"a": 1024}, floor_or_one) == 0.201
    assert to_theirs(0.25, {"a": 1024}, floor_or_one) == 0.25
    assert to_ours(0.2, {"a": 1024}, DEPTHS, floor_or_one) == 0.199  # 203.8: rounds to 204


def read(text: str, *bases: str) -> Merge:
    config = without_slices(parse_config(text, "m.yml"), NAMES)
    return merge_of(config, {ModelReference(base) for base in ("base", *bases)})


TIES = """
merge_method: ties
base_model: base
models:
- model: base
- model: a
  parameters: {weight: 1e-1, density: 0.5}
- model: b
  parameters:
    weight:
    - {filter: mlp, value: 0.5}
    - value: 1
parameters: {normalize: false, lambda: 0.7, int8_mask: true, density: 0.25}
dtype: bfloat16
"""


def test_reading_ties() -> None:
    merge = read(TIES)
    assert (merge.method, merge.scale, merge.parameters) == ("ties", 0.7, {"normalize": "none"})
    assert [part.weight for part in merge.parts] == [0.1, [{"filter": "mlp", "value": 0.5}, {"value": 1.0}]]
    assert [part.parameters for part in merge.parts] == [{"density": 0.5}, {"density": 0.25}]
    assert len(merge.notes) == 2


@pytest.mark.parametrize(
    ("text", "method", "alphas", "scale", "parameters"),
    [
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: base, parameters: {weight: 3}}]",
         "linear", [0.25], 1.0, {}),
        ("merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}, {model: b}]\n"
         "parameters: {weight: [0.5, 1]}", "linear", [[0.5, 1.0], [0.5, 1.0]], 1.0, {}),
        ("merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}, {model: b}]\n"
         "parameters: {weight: 2, normalize: true, lambda: 2}", "linear", [2.0, 2.0], 0.5, {}),
        ("merge_method: dare_ties\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1, density: 0.5}",
         "dare_ties", [1.0], 1.0, {"rescale": "l1", "normalize": "none"}),
        ("merge_method: della\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}",
         "della", [1.0], 1.0, {"rescale": "l1", "normalize": "weights"}),
        ("merge_method: slerp\nbase_model: base\nmodels: [{model: base}, {model: a}]\nparameters: {t: 0.25}",
         "slerp", [1.0], 1.0, {"t": 0.25}),
        ("merge_method: slerp\nbase_model: a\nmodels: [{model: base}, {model: a}]\nparameters: {t: 0.25}",
         "slerp", [1.0], 1.0, {"t": 0.75}),
        ("merge_method: slerp\nbase_model: a\nmodels: [{model: b}, {model: a}]\nparameters: {t: 0.25}",
         "slerp", [1.0, 1.0], 1.0, {"t": 0.25}),
        ("merge_method: nuslerp\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]",
         "slerp", [1.0, 1.0], 1.0, {"t": 0.75}),
        ("merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters: {tol: 1e-4}",
         "karcher", [1.0, 1.0], 1.0, {"max_iter": 10, "tol": 1e-4}),
        ("merge_method: sce\nbase_model: base\nmodels: [{model: a}, {model: b}]", "sce", [1.0, 1.0], 1.0, {"select_topk": 1.0}),
        ("merge_method: model_stock\nbase_model: base\nmodels: [{model: a}, {model: b}]", "model_stock", [1.0, 1.0], 1.0, {}),
        ("merge_method: ram\nbase_model: base\nmodels: [{model: a}, {model: b}]", "ram", [1.0, 1.0], 1.0, {"epsilon": 1e-5}),
        ("merge_method: ramplus_tl\nbase_model: base\nmodels: [{model: a}]\nparameters: {alpha: 2, epsilon: 0}",
         "ramplus_tl", [1.0], 1.0, {"r": 0.1, "limit": 2.0, "epsilon": 0.0}),
    ],
)  # fmt: skip
def test_reading(text: str, method: str, alphas: list[Any], scale: float, parameters: dict[str, Any]) -> None:
    merge = read(text)
    assert (merge.method, merge.scale, merge.parameters) == (method, scale, parameters)
    assert [part.weight for part in merge.parts] == alphas


def test_slerp_has_its_base_first() -> None:
    merge = read("merge_method: slerp\nbase_model: a\nmodels: [{model: b}, {model: a}]\nparameters: {t: 0.25}")
    assert [part.reference.path for part in merge.parts] == ["a", "b"]


SLICED = "merge_method: task_arithmetic\nbase_model: base\nparameters: {lambda: 0.5}\nslices:\n"


def sliced(*pieces: tuple[int, int, str]) -> str:
    """A configuration of slices: first layer, the one after the last, parameters of the model."""
    sources = "- sources: [{{model: base, layer_range: [{0}, {1}]}}, {{model: a, layer_range: [{0}, {1}], parameters: {{{2}}}}}]\n"
    return SLICED + "".join(sources.format(*piece) for piece in pieces)


def test_one_slice_of_all_layers_is_the_list_of_its_models() -> None:
    listed = "merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: 2}}, {model: b}]\n"
    listed += "parameters: {density: 0.5, weight: [0, 1]}"
    slices = """
merge_method: ties
base_model: base
parameters: {density: 0.1, weight: [0, 1]}
slices:
  - sources:
      - {model: a, layer_range: [0, 12], parameters: {weight: 2}}
      - {model: b, layer_range: [0, 12]}
    parameters: {density: 0.5}
"""
    theirs, ours = read(slices), read(listed)
    assert replace(theirs, parts=()) == replace(ours, parts=())
    assert [(p.reference, p.weight, p.parameters) for p in theirs.parts] == [
        (p.reference, p.weight, p.parameters) for p in ours.parts
    ]


def test_slices_give_numbers_by_layer() -> None:
    """As plan.py of mergekit reads them: along each slice, and at depth 0 of the first and last outside of the layers."""
    merge = read(
        sliced(
            (0, 4, "weight: [0, 1.5]"),
            (4, 5, "weight: [7, 3]"),
            (5, 12, "weight: [{filter: mlp, value: 2}, {value: 9}]"),
        )
    )
    assert merge.scale == 0.5
    (part,) = merge.parts
    alpha = alpha_of(part.weight, [name for name in NAMES if "mlp" in name], DEPTHS)
    assert alpha is not None
    found = [alpha_at(alpha, f"model.layers.{layer}.mlp.up_proj.weight", DEPTHS) for layer in range(12)]
    assert found == pytest.approx([0, 0.5, 1, 1.5, 3, *[2] * 7])

    (part,) = read(sliced((0, 6, "weight: [0.25, 1]"), (6, 12, "weight: [0.5, 1]"))).parts
    outside = [
        evaluate(part.weight, name, DEPTHS)
        for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    ]
    assert outside == [0.25, 0.5, 0.5]
    assert read(sliced((0, 6, "weight: 2"), (6, 12, "weight: 2.0"))).parts[0].weight == 2.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (sliced((0, 6, "weight: 1"), (4, 12, "weight: 1")), "slices[1].sources[0].layer_range: layer 4 of base comes twice"),
        (sliced((0, 6, "weight: 1"), (7, 12, "weight: 1")), "puts layer 7 of base in the place of layer 6"),
        (sliced((0, 6, "weight: 1")), "slices: layers 6 to 11 are left out"),
        (sliced((0, 11, "weight: 1")), "slices: layer 11 is left out"),
        (sliced((0, 13, "weight: 1")), "the base has no layer 12: its last one is 11"),
        (sliced((0, 0, "weight: 1")), "[0, 0] has no layers"),
        (sliced((0, 12, "weight: 1")).replace("a, layer_range: [0, 12]", "a, layer_range: [0, 11]"), "ends at 11"),
        (sliced((0, 12, "weight: 1")).replace("a, layer_range: [0, 12]", "a, layer_range: [1, 12]"), "layer 1 of a"),
        (sliced((0, 6, "weight: 1"), (6, 12, "weight: 1")).replace("model: a", "model: b", 1), "a is not in slices[0]"),
        (sliced((0, 6, "weight: 1"), (6, 12, "")), "slices[1].sources[1].parameters.weight: is missing"),
        (sliced((0, 6, "weight: {filter: x, value: 1}"), (6, 12, "weight: 1")), "no filter matches model.embed_tokens"),
    ],
)  # fmt: skip
def test_slices_that_move_layers_are_named(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert said in caught.value.message


HEAD = "base_model: base\nmodels: [{model: a, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[]", "m.yml is not a mergekit configuration"),
        ("a: [", "not valid YAML"),
        ("merge_method: ties\nslices: []", "slices: [] is not a list of tables"),
        ("merge_method: ties\nmodels: [{model: a}]\nslices: [{sources: [{model: a, layer_range: [0, 12]}]}]", "slices: cannot"),
        ("merge_method: ties\nslices: [{sources: [{model: a}]}]", "slices[0].sources[0].layer_range"),
        ("merge_method: ties\nslices: [{sources: [], residual_weight: 1}]", "slices[0].residual_weight"),
        ("merge_method: ties\nmodules: {}", "modules"),
        ("merge_method: ties\nmodels: []", "models"),
        ("merge_method: ties\nmodels: [a]", "models[0]"),
        ("merge_method: ties\nmodels: [{model: a, weight: 1}]", "models[0].weight"),
        ("merge_method: ties\ntokenizer_source: union\n" + HEAD, "tokenizer_source"),
        ("merge_method: ties\nout_dtyp: x\n" + HEAD, "out_dtyp"),
        ("merge_method: arcee_fusion\n" + HEAD, "merge_method: 'arcee_fusion'"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a}]", "models[0].parameters.weight: is missing"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: x}}]", "models[0].parameters.weight"),
        ("merge_method: ties\nparameters: {wieght: 1}\n" + HEAD, "parameters.wieght"),
        ("merge_method: ties\nparameters: {epsilon: 0.1}\n" + HEAD, "parameters.epsilon"),
        ("merge_method: dare_ties\nparameters: {density: [0.1, 0.2]}\n" + HEAD, "parameters.density"),
        ("merge_method: ties\nparameters: {density: 0}\n" + HEAD, "models[0].parameters.density"),
        ("merge_method: ties\nparameters: {normalize: 1}\n" + HEAD, "parameters.normalize"),
        ("merge_method: ties\nparameters: {rescale: true}\n" + HEAD, "parameters.rescale"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: -1}}]", "models[0].parameters.weight"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1, normalize: false}}]",
         "models[0].parameters.normalize"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a@main}]\nparameters: {weight: .nan}", "parameters.weight"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: base}]", "models: 0 models"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: {model: {path: a, revision: main}}}]", "models[0].model"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: a+b+c}]", "models[0].model"),
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: 2}}]\nparameters: {normalize: false}",
         "parameters.normalize"),
        ("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: [0, 1]}", "parameters.t"),
        ("merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}", "models"),
        ("merge_method: karcher\nmodels: [{model: a}, {model: base}]", "models"),
        ("merge_method: model_stock\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {filter_wise: true}",
         "parameters.filter_wise"),
        ("merge_method: ram\nbase_model: base\nmodels: [{model: a, parameters: {epsilon: 0.1}}]", "models[0].parameters.epsilon"),
        ("merge_method: ram\nbase_model: base\nmodels: [{model: a}]\nparameters: {epsilon: -1}", "parameters.epsilon"),
        ("merge_method: ram\nparameters: {weight: 1}\n" + HEAD, "weight"),
    ],
)  # fmt: skip
def test_what_a_recipe_cannot_say_is_named(text: str, key: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert "m.yml" in caught.value.message
    assert key in caught.value.message


KEYS = st.sampled_from(
    [
        "merge_method",
        "base_model",
        "models",
        "slices",
        "sources",
        "layer_range",
        "parameters",
        "weight",
        "model",
        "filter",
        "value",
        "x",
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["ties", "base"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.dictionaries(KEYS, VALUES, max_size=6).map(repr)))
@fuzzed(500)
def test_any_text_is_a_merge_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(PersonaError):
        read(text)
