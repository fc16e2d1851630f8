"""h += α⁺·v⁺ − α⁻·v⁻ at just the layer that was named, at just the tokens that were meant, and nothing is left behind."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

import persona
from persona.errors import UsageError
from persona.readout.model import Readout
from tests.inference.test_load import KINDS
from tests.readout.made import TOKENS, by_chance, hooks, make, padded

READOUT = by_chance()
PAIR = {("warmth", "coldness"): (4.0, 2.0)}
GREEDY = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_steering_one_block_shows_there_and_nowhere_before(kind: str, layer: int) -> None:
    """hidden_states[i + 1] is what block i returns, by transformers' own count; the last is after the final norm."""
    model = make(kind)
    bare = model(TOKENS, output_hidden_states=True)
    with persona.readout.steer(model, PAIR, READOUT, layers=[layer], units="raw") as push:
        steered = model(TOKENS, output_hidden_states=True)
    warm, cold = READOUT.vectors[layer]
    assert np.allclose(push[layer], 4 * warm - 2 * cold, atol=1e-6)
    for before in range(layer + 1):
        assert torch.equal(steered.hidden_states[before], bare.hidden_states[before])
    moved = steered.hidden_states[layer + 1] - bare.hidden_states[layer + 1]
    if layer < 2:
        assert torch.allclose(moved, torch.from_numpy(push[layer]).expand_as(moved), atol=1e-4)
    assert moved.abs().max() > 0.1
    assert not torch.equal(steered.logits, bare.logits)
    assert torch.equal(model(TOKENS).logits, bare.logits)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_no_strength_is_no_change_to_the_bit(kind: str) -> None:
    model = make(kind)
    bare = model(TOKENS).logits
    for nothing in ({}, {"warmth": 0.0}, {("warmth", "coldness"): -0.0}):
        with persona.readout.steer(model, nothing, READOUT):
            assert torch.equal(model(TOKENS).logits, bare)


def test_a_sign_two_poles_and_units() -> None:
    model = make("llama")

    def push(strengths: object, units: str = "std") -> np.ndarray:
        with persona.readout.steer(model, strengths, READOUT, units=units) as found:
            return found[1]

    warm, cold = READOUT.vectors[1]
    assert np.array_equal(push({"warmth": 4.0, "coldness": -2}, "raw"), push(PAIR, "raw"))
    assert np.array_equal(push({("warmth", "coldness"): 3}, "raw"), push({"warmth": 3.0, "coldness": -3.0}, "raw"))
    for units, field in (("std", "spreads"), ("norm", "norms")):
        sizes = np.array(READOUT.about[field])[:, 1]
        assert np.allclose(push(PAIR, units), 4 * sizes[0] * warm - 2 * sizes[1] * cold, atol=1e-6)


@torch.inference_mode()
def test_a_strength_in_std_moves_what_is_watched_by_as_much() -> None:
    model = make("gpt2")
    only = by_chance(concepts=["warmth"])
    with persona.readout.watch(model, only, layers=[1]) as before:
        model(TOKENS)
    with (
        persona.readout.watch(model, only, layers=[1]) as after,  # entered first, and yet it reads what is steered
        persona.readout.steer(model, {"warmth": 1.5}, only, layers=[1]),
    ):
        model(TOKENS)
    assert torch.allclose(after.mean("std")[1] - before.mean("std")[1], torch.tensor(1.5), atol=1e-4)
    with (
        persona.readout.steer(model, {"warmth": 1.5}, only, layers=[1]),
        persona.readout.watch(model, only, layers=[1]) as again,
    ):
        model(TOKENS)
    assert torch.equal(again.latest[1], after.latest[1])


@torch.inference_mode()
def test_blocks_within_blocks_add_up() -> None:
    model = make("llama")
    with persona.readout.steer(model, PAIR, READOUT, units="raw"):
        wanted = model(TOKENS).logits
    with persona.readout.steer(model, {"warmth": 4.0}, READOUT, units="raw"):
        first = model(TOKENS).logits
        with persona.readout.steer(model, {"coldness": -2.0}, READOUT, units="raw"):
            assert torch.allclose(model(TOKENS).logits, wanted, atol=1e-5)
        assert torch.equal(model(TOKENS).logits, first)


@pytest.mark.parametrize("where", ["all", "generated"])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_the_same_with_and_without_a_cache(kind: str, where: str) -> None:
    model = make(kind)
    tokens, mask = padded("left")
    asked = {**GREEDY, "attention_mask": mask}
    with persona.readout.steer(model, {"warmth": 6.0, "coldness": -3.0}, READOUT, where=where):
        cached = model.generate(tokens, **asked)
        assert torch.equal(model.generate(tokens, **asked, use_cache=False), cached)
    assert torch.equal(cached, by_hand(model, tokens, mask, 5, where=where))


@torch.inference_mode()
def by_hand(model: object, tokens: torch.Tensor, mask: torch.Tensor, count: int, *, where: str) -> torch.Tensor:
    """Greedy generation where blocks themselves add what steering should, to the whole text each time."""
    asked = tokens.shape[1]
    adding = [
        torch.from_numpy(6 * np.array(spread[0]) * warm - 3 * np.array(spread[1]) * cold).float()
        for spread, (warm, cold) in zip(
            np.array(READOUT.about["spreads"]).T, (READOUT.vectors[layer] for layer in (0, 1, 2)), strict=True
        )
    ]

    def add(layer: int, output: object) -> object:
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        first = asked - 1 if where == "generated" else 0
        stream[:, first:] += adding[layer]
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    path = {"gpt2": "transformer.h", "bloom": "transformer.h", "falcon": "transformer.h",
            "gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers"}.get(model.config.model_type, "model.layers")  # fmt: skip
    handles = [
        block.register_forward_hook(lambda _, __, output, layer=layer: add(layer, output))
        for layer, block in enumerate(model.get_submodule(path))
    ]
    for _ in range(count):
        places = (mask.cumsum(1) - 1).clamp(min=0)
        kwargs = {} if model.config.model_type == "bloom" else {"position_ids": places}
        logits = model(tokens, attention_mask=mask, use_cache=False, **kwargs).logits[:, -1]
        if (stop := model.generation_config.eos_token_id) < logits.shape[1]:
            logits[:, stop] = -torch.inf
        tokens = torch.cat([tokens, logits.argmax(1, keepdim=True)], 1)
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], 1)
    for handle in handles:
        handle.remove()
    return tokens


@pytest.mark.parametrize("where", ["all", "generated"])
@pytest.mark.parametrize(("side", "place"), [("left", slice(2, None)), ("right", slice(0, 4))])
@torch.inference_mode()
def test_padding_on_either_side_is_left_alone_and_changes_nothing(side: str, place: slice, where: str) -> None:
    model = make("llama")
    tokens, mask = padded(side)
    asked = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with persona.readout.watch(model, READOUT) as bare:
        model(tokens, **asked)
    with persona.readout.steer(model, PAIR, READOUT, where=where), persona.readout.watch(model, READOUT) as r:
        alone = model(TOKENS[1:, :4]).logits[0]
        assert torch.allclose(model(tokens, **asked).logits[1, place], alone, atol=1e-5)
    untouched = mask == 0
    assert torch.equal(r.latest[0][untouched], bare.latest[0][untouched])


@torch.inference_mode()
def test_only_what_is_generated_and_what_it_is_chosen_from() -> None:
    model = make("llama")
    with persona.readout.watch(model, READOUT, layers=[0]) as bare:
        model.generate(TOKENS, **GREEDY)
    with (
        persona.readout.steer(model, {"warmth": 1.0}, READOUT, layers=[0], units="raw", where="generated"),
        persona.readout.watch(model, READOUT, layers=[0]) as r,
    ):
        out = model.generate(TOKENS, **GREEDY)
    asked, then = r.steps[0].values[0], bare.steps[0].values[0]
    assert torch.equal(asked[:, :5], then[:, :5])
    assert torch.allclose(asked[:, 5, 0] - then[:, 5, 0], torch.tensor(1.0), atol=1e-5)
    with persona.readout.watch(model, READOUT, layers=[0]) as again:
        model(out)
    assert torch.allclose(r.whole()[0][:, 6:, 0] - again.latest[0][:, 6:10, 0], torch.tensor(1.0), atol=1e-4)


def test_a_chat_that_goes_on_has_a_new_prompt() -> None:
    model = make("llama")
    cache = model(TOKENS[:, :4], use_cache=True).past_key_values
    with persona.readout.watch(model, READOUT, layers=[0]) as bare:
        model(TOKENS[:, 4:], past_key_values=cache)
    cache = model(TOKENS[:, :4], use_cache=True).past_key_values
    with (
        persona.readout.steer(model, {"warmth": 1.0}, READOUT, layers=[0], units="raw", where="generated"),
        persona.readout.watch(model, READOUT, layers=[0]) as r,
    ):
        model(TOKENS[:, 4:], past_key_values=cache)
    assert (r.steps[0].start, r.steps[0].prompt) == (4, 6)
    assert torch.equal(r.latest[0][:, 0], bare.latest[0][:, 0])
    assert not torch.equal(r.latest[0][:, 1], bare.latest[0][:, 1])


@pytest.mark.parametrize("where", ["all", "generated"])
def test_beams(where: str) -> None:
    model = make("llama")
    with persona.readout.steer(model, PAIR, READOUT, where=where):
        cached = model.generate(TOKENS, **GREEDY, num_beams=3)
        assert torch.equal(model.generate(TOKENS, **GREEDY, num_beams=3, use_cache=False), cached)
    assert not torch.equal(model.generate(TOKENS, **GREEDY, num_beams=3), cached)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_the_dtype_stays_and_the_sum_is_rounded_once(dtype: torch.dtype) -> None:
    model = make("llama").to(dtype)
    bare = model(TOKENS, output_hidden_states=True).hidden_states[2]
    with persona.readout.steer(model, PAIR, READOUT, layers=[1]) as push:
        steered = model(TOKENS, output_hidden_states=True).hidden_states[2]
    assert steered.dtype == dtype
    assert torch.equal(steered, (bare.float() + torch.from_numpy(push[1])).to(dtype))


def test_training_through_it() -> None:
    """A steered model can be trained, with checkpoints too: what a backward pass computes again is steered again."""
    grads = []
    for again in (False, True):
        model = make("llama").train()
        if again:
            model.activation_checkpointing_enable()
        with persona.readout.steer(model, PAIR, READOUT):
            torch.autograd.backward(model(TOKENS, labels=TOKENS).loss)
        grads.append(model.model.embed_tokens.weight.grad)
    assert torch.allclose(grads[0], grads[1], atol=1e-6)


def test_hooks_go_whatever_happens() -> None:
    model = make("llama")
    bare = model(TOKENS).logits
    with pytest.raises(ZeroDivisionError), persona.readout.steer(model, PAIR, READOUT):
        raise ZeroDivisionError
    entered = persona.readout.steer(model, PAIR, READOUT)
    entered.__enter__()
    assert hooks(model) > 0
    del entered
    gc.collect()
    assert hooks(model) == 0
    assert torch.equal(model(TOKENS).logits, bare)


def test_compiled_code_is_refused_not_passed_over() -> None:
    model = make("llama")
    with (
        pytest.raises(UsageError, match="does not run hooks"),
        persona.readout.steer(torch.compile(model, backend="eager"), PAIR, READOUT),
    ):
        pytest.fail("it was entered")
    with persona.readout.steer(model, PAIR, READOUT), pytest.raises(UsageError, match="does not run hooks"):
        torch.compile(model, backend="eager")(TOKENS)  # what is compiled now would be steered for ever
    torch._dynamo.reset()


def test_what_cannot_be_meant_is_said_before_anything() -> None:
    model = make("llama")
    plain = Readout(READOUT.concepts, READOUT.layers, READOUT.vectors)
    bad = [
        ("no concept 'warmht'", ({"warmht": 1.0}, READOUT), {}),
        ("the strength of 'warmth' is nan", ({"warmth": float("nan")}, READOUT), {}),
        ("the strength of 'coldness' is '2'", ({("warmth", "coldness"): (1, "2")}, READOUT), {}),
        ("the strength of 'warmth' is True", ({"warmth": True}, READOUT), {}),
        ("'warmth' has 2 strengths for 1 concepts", ({"warmth": (1.0, 2.0)}, READOUT), {}),
        ("has 1 strengths for 2 concepts", ({("warmth", "coldness"): (1.0,)}, READOUT), {}),
        ("has no 'spreads'", ({"warmth": 1.0}, plain), {}),
        ("unknown units 'sdt'", ({"warmth": 1.0}, READOUT), {"units": "sdt"}),
        ("unknown value 'new' of where", ({"warmth": 1.0}, READOUT), {"where": "new"}),
        ("the readout has no layer 5", ({"warmth": 1.0}, READOUT), {"layers": [5]}),
        ("31 wide", ({"warmth": 1.0}, by_chance(hidden=31)), {}),
        ("no readout given", ({"warmth": 1.0},), {}),
    ]  # fmt: skip
    for message, args, kwargs in bad:
        with pytest.raises(UsageError, match=message), persona.readout.steer(model, *args, **kwargs):
            pytest.fail("it was entered")
    assert hooks(model) == 0
    with persona.readout.steer(model, {"warmth": 1.0}, plain, units="raw"):
        pass
