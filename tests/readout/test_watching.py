"""What is read is h · v of every pass, of the right layer, and the model does not notice."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

import persona
from persona.errors import CheckpointError, Refusal, UsageError
from persona.readout.folder import write_readout
from persona.readout.model import Readout
from persona.readout.watching import Watch
from tests.inference.test_load import KINDS
from tests.readout.made import TOKENS, by_chance, hooks, make, padded

# peft asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

READOUT = by_chance()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_projection_is_that_of_the_hidden_state(kind: str) -> None:
    model = make(kind)
    bare = model(TOKENS, output_hidden_states=True)
    before = hooks(model)  # transformers leaves some of its own
    with persona.readout.watch(model, READOUT) as r:
        watched = model(TOKENS)
    assert torch.equal(watched.logits, bare.logits)
    for layer in (0, 1):  # that of the last block is not among the hidden states: see persona/inference/blocks.py
        wanted = bare.hidden_states[layer + 1] @ torch.from_numpy(READOUT.vectors[layer]).T
        assert torch.allclose(r.latest[layer], wanted, atol=1e-5)
    assert {layer: tuple(p.shape) for layer, p in r.latest.items()} == dict.fromkeys((0, 1, 2), (2, 6, 2))
    assert hooks(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_read_token_by_token_with_and_without_a_cache(kind: str) -> None:
    model = make(kind)
    tokens, mask = padded("left")
    asked = {"attention_mask": mask, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    bare = model.generate(tokens, **asked)
    with persona.readout.watch(model, READOUT) as cached:
        assert torch.equal(model.generate(tokens, **asked), bare)
    with persona.readout.watch(model, READOUT) as plain:
        assert torch.equal(model.generate(tokens, **asked, use_cache=False), bare)
    assert [(step.start, step.mask.shape[1]) for step in cached.steps] == [(0, 6), (6, 1), (7, 1), (8, 1), (9, 1)]
    assert [(step.start, step.mask.shape[1]) for step in plain.steps] == [(0, n) for n in range(6, 11)]
    assert torch.equal(cached.mask, plain.mask)
    assert torch.equal(cached.tokens, bare[:, :-1])
    for r in (cached, plain):
        assert r.trace()[1].shape == (2, 5, 2)
        assert torch.allclose(r.trace()[1][:, 1:], r.whole()[1][:, 6:], atol=1e-4)  # a new token's own projection
    for layer in READOUT.layers:
        assert torch.allclose(cached.trace()[layer], plain.trace()[layer], atol=1e-4)
        assert torch.allclose(cached.mean()[layer], plain.mean()[layer], atol=1e-4)
        new = cached.whole()[layer][:, 6:].mean(1)
        assert torch.allclose(plain.mean(generated=True)[layer], new, atol=1e-4)


@torch.inference_mode()
def test_the_mean_is_over_real_tokens_whatever_the_padding() -> None:
    model = make("llama")
    found = {}
    for side in ("left", "right"):
        tokens, mask = padded(side)
        with persona.readout.watch(model, READOUT) as r:
            model(tokens, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        assert torch.equal(r.mask, mask.bool())
        found[side] = r
    with persona.readout.watch(model, READOUT) as alone:
        model(TOKENS[1:, :4])
    for layer in READOUT.layers:
        wanted = alone.latest[layer][0].mean(0)
        for r in found.values():
            assert torch.allclose(r.mean()[layer][1], wanted, atol=1e-5)
            assert torch.allclose(r.trace()[layer][1, 0], alone.latest[layer][0, -1], atol=1e-5)


def test_what_comes_after_the_end_of_a_row_is_not_read() -> None:
    model = make("llama")
    bare = model.generate(TOKENS, max_new_tokens=6, do_sample=False)
    model.generation_config.eos_token_id = stop = int(bare[0, 8])  # the third new token of the first row
    assert stop not in bare[1, 6:]
    with persona.readout.watch(model, READOUT) as r:
        model.generate(TOKENS, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert r.mask.sum(1).tolist() == [6 + 3, 6 + 5]
    assert torch.allclose(r.mean(generated=True)[2][0], r.whole()[2][0, 6:9].mean(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_projections_are_fp32_whatever_the_model_runs_in(dtype: torch.dtype) -> None:
    model = make("llama").to(dtype)
    states = model(TOKENS, output_hidden_states=True).hidden_states
    with persona.readout.watch(model, READOUT) as r, torch.autocast("cpu", torch.bfloat16):
        model(TOKENS)
    with persona.readout.watch(model, READOUT) as r:
        model(TOKENS)
    for layer in (0, 1):
        assert r.latest[layer].dtype == torch.float32
        wanted = states[layer + 1].float() @ torch.from_numpy(READOUT.vectors[layer]).T
        assert torch.equal(r.latest[layer], wanted)


@torch.inference_mode()
def test_autocast_does_not_round_projections() -> None:
    model = make("llama")
    seen = []
    handle = model.model.layers[0].register_forward_hook(lambda _, __, output: seen.append(output))
    with persona.readout.watch(model, READOUT, layers=[0]) as r, torch.autocast("cpu", torch.bfloat16):
        model(TOKENS)
    handle.remove()
    assert torch.equal(r.latest[0], seen[0].float() @ torch.from_numpy(READOUT.vectors[0]).T)


def test_concepts_layers_and_units() -> None:
    model = make("gpt2")
    with (
        torch.inference_mode(),
        persona.readout.watch(model, READOUT) as all_,
        persona.readout.watch(model, READOUT, ["coldness"], [2]) as one,
    ):
        model(TOKENS)
    assert (one.concepts, one.layers) == (("coldness",), (2,))
    assert torch.allclose(one.latest[2][..., 0], all_.latest[2][..., 1], atol=1e-6)
    center, spread = READOUT.about["centers"][1][2], READOUT.about["spreads"][1][2]
    assert torch.allclose(one.whole("std")[2], (one.latest[2] - center) / spread)
    assert torch.allclose(one.mean("std")[2][:, 0], all_.mean("std")[2][:, 1], atol=1e-5)


def test_every_pass_is_kept_or_the_last_of_them() -> None:
    model = make("llama")
    with persona.readout.watch(model, READOUT) as every, persona.readout.watch(model, READOUT, keep=2) as few:
        for rows in (1, 2, 1):
            model(TOKENS[:rows])
    assert [len(step.mask) for step in every.steps] == [1, 2, 1]
    assert [len(step.mask) for step in few.steps] == [2, 1]
    assert not every.latest[0].requires_grad
    assert every.trace()[0].shape == (1, 1, 2)


def test_gradients_flow_as_they_did_with_checkpoints_too() -> None:
    found = []
    for watched in (False, True):
        model = make("llama").train()
        model.activation_checkpointing_enable()
        if watched:
            with persona.readout.watch(model, READOUT) as r:
                torch.autograd.backward(model(TOKENS, labels=TOKENS).loss)
            assert len(r.steps) == 1
        else:
            torch.autograd.backward(model(TOKENS, labels=TOKENS).loss)
        found.append(model.model.embed_tokens.weight.grad)
    assert torch.equal(found[0], found[1])


def test_a_wrapped_model_and_embeddings() -> None:
    model = make("llama")
    bare = model(TOKENS).logits
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.inference_mode(), persona.readout.watch(wrapped, READOUT) as r:
        assert torch.equal(wrapped(input_ids=TOKENS).logits, bare)
        by_tokens = r.latest
        assert torch.equal(wrapped(inputs_embeds=model.get_input_embeddings()(TOKENS)).logits, bare)
    assert r.tokens is None
    assert torch.equal(r.latest[2], by_tokens[2])
    with pytest.raises(Refusal, match="no tokens to print"):
        r.table(None)


def test_a_table_of_tokens() -> None:
    class Letters:
        def decode(self, token: int) -> str:
            return "ab\ndefghijklmnopqrstuvwxyz"[token]

    model = make("llama")
    tokens, mask = padded("left")
    with persona.readout.watch(model, READOUT) as r:
        model(tokens, attention_mask=mask)
    lines = r.table(Letters(), row=1, layer=0).splitlines()
    assert lines[0].split() == ["warmth", "coldness"]
    assert [line.split()[0] for line in lines[1:]] == ["j", "k", "l", "m"]
    assert float(lines[1].split()[2]) == pytest.approx(float(r.latest[0][1, 2, 1]), abs=0.006)


def test_hooks_go_whatever_happens() -> None:
    model = make("llama")
    before = hooks(model)
    with pytest.raises(ZeroDivisionError), persona.readout.watch(model, READOUT):
        raise ZeroDivisionError
    assert hooks(model) == before

    def reading() -> Iterator[Watch]:
        with persona.readout.watch(model, READOUT) as r:
            yield r

    abandoned = reading()
    next(abandoned)
    assert hooks(model) > before
    del abandoned
    gc.collect()
    assert hooks(model) == before
    entered = persona.readout.watch(model, READOUT)
    entered.__enter__()
    assert hooks(model) > before
    del entered
    gc.collect()
    assert hooks(model) == before


def test_a_pass_that_breaks_off_is_not_read() -> None:
    model = make("llama")
    with persona.readout.watch(model, READOUT) as r:
        handle = model.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(TOKENS)
        handle.remove()
        assert not r.steps
        model(TOKENS)
    assert len(r.steps) == 1
    assert r.latest[0].shape == (2, 6, 2)


def test_what_does_not_fit_is_said_before_anything() -> None:
    model = make("llama")
    bad: list[tuple[str, dict[str, object]]] = [
        ("31 wide, but the model's residual stream is 32", {"readout": by_chance(hidden=31)}),
        ("no layer 3", {"readout": by_chance((1, 3))}),
        ("no concept 'warmht'", {"concepts": ["warmht"]}),
        ("the readout has no layer 7", {"layers": [7]}),
        ("no concepts or no layers", {"layers": []}),
        ("no list of blocks at 'model.h'", {"blocks": "model.h"}),
        ("no readout given", {"readout": None}),
        ("no readout 'nowhere'", {"readout": "nowhere"}),
    ]
    for message, changes in bad:
        with pytest.raises(UsageError, match=message), persona.readout.watch(model, **{"readout": READOUT, **changes}):
            pytest.fail("it was entered")
    with pytest.raises(UsageError) as caught, persona.readout.watch(model, READOUT, ["warmht"]):
        pass
    assert "Did you mean 'warmth'?" in caught.value.hint
    assert hooks(model) == hooks(make("llama"))


def test_units_that_a_manifest_has_not() -> None:
    model = make("llama")
    plain = Readout(READOUT.concepts, READOUT.layers, READOUT.vectors)
    with persona.readout.watch(model, plain) as r:
        with pytest.raises(Refusal, match="nothing has been read yet"):
            _ = r.latest
        model(TOKENS)
    assert r.mean()[0].shape == (2, 2)
    with pytest.raises(UsageError, match="has no 'spreads'"):
        r.mean("std")
    with pytest.raises(UsageError, match="unknown units 'sd'"):
        r.mean("sd")
    with pytest.raises(Refusal, match="no tokens to average over"):
        r.mean(generated=True)
    odd = Readout(READOUT.concepts, READOUT.layers, READOUT.vectors, {**READOUT.about, "spreads": [[1, 0, 1]] * 2})
    with persona.readout.watch(model, odd) as r:
        model(TOKENS)
    with pytest.raises(
        CheckpointError, match="'spreads' in the readout's manifest is not a table of 2 × 3 positive numbers"
    ):
        r.mean("std")


def test_a_folder_and_one_beside_the_weights(tmp_path: Path) -> None:
    make("llama").save_pretrained(tmp_path / "built")
    write_readout(tmp_path / "alone", READOUT)
    write_readout(tmp_path / "built" / "readouts" / "mood", READOUT)
    model = type(make("llama")).from_pretrained(tmp_path / "built")
    for said in (None, "mood", tmp_path / "alone", str(tmp_path / "alone")):
        with persona.readout.watch(model, said) as r:
            model(TOKENS)
        assert r.concepts == READOUT.concepts
        assert np.array_equal(r.readout.vectors[1], READOUT.vectors[1])
    write_readout(tmp_path / "built" / "readouts" / "tone", READOUT)
    with pytest.raises(UsageError, match="no readout given") as caught, persona.readout.watch(model):
        pass
    assert "'mood', 'tone'" in caught.value.hint


def test_compiled_code_is_refused() -> None:
    inside = make("llama")
    inside.model.layers[0].compile(backend="eager")
    for compiled in (torch.compile(make("llama"), backend="eager"), inside):
        with pytest.raises(UsageError, match="does not run hooks"), persona.readout.watch(compiled, READOUT):
            pytest.fail("it was entered")


def test_the_surface() -> None:
    assert set(persona.readout.__all__) <= set(dir(persona.readout))
    assert persona.readout.Readout is Readout
    with pytest.raises(AttributeError, match="no attribute 'wach'"):
        _ = persona.readout.wach
