"""The demo's training at its smallest: deterministic, learning, and leaving folders others can load."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from persona.demo.dialogues import Dialogue, dialogues, held_out_prompts
from persona.demo.model import (
    IGNORED,
    collate,
    encode,
    generate_replies,
    load,
    reply_losses,
    text_of,
    token_losses,
)
from persona.demo.training import QUICK, train_base, train_behaviour

# peft asks transformers by an old name.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


@pytest.fixture(scope="module")
def runs(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    train_base(folder / "base", QUICK)
    train_behaviour(folder / "base", "listening", folder / "listening", "full", QUICK)
    train_behaviour(folder / "base", "suggesting", folder / "suggesting", "lora", QUICK)
    return folder


@pytest.fixture(scope="module")
def base(runs: Path) -> tuple[Any, Any]:
    return load(runs / "base")


def test_only_the_reply_and_its_end_are_learnt(base: tuple[Any, Any]) -> None:
    _, tokenizer = base
    said = [Dialogue("neutral", "I feel sad.", "I see."), *dialogues("voice", 3)]
    batch = collate(encode(tokenizer, said), tokenizer.pad_token_id)
    for row, dialogue in enumerate(said):
        learnt = batch.labels[row][batch.labels[row] != IGNORED]
        assert tokenizer.decode(learnt) == f" {dialogue.reply}</s>"
        # Each label is the token that follows its position.
        at = (batch.labels[row] != IGNORED).nonzero().flatten()
        assert torch.equal(batch.tokens[row, at + 1], learnt)


def test_tokens_are_those_of_the_whole_text_and_of_the_chat_template(base: tuple[Any, Any]) -> None:
    _, tokenizer = base
    said = dialogues("listening", 1)[0]
    tokens = list(encode(tokenizer, [said])[0].tokens)
    assert tokenizer.decode(tokens) == f"<s>{text_of(said)}</s>"
    turns = [{"role": "user", "content": said.prompt}, {"role": "assistant", "content": said.reply}]
    assert tokenizer.apply_chat_template(turns, return_dict=False) == tokens


def test_losses_are_those_of_the_model_called_plainly(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    said = dialogues("suggesting", 5, held_out=True)
    measured = reply_losses(model, tokenizer, said, batch_size=2)
    plain = []
    for example in encode(tokenizer, said):
        labels = torch.tensor([example.tokens])
        labels[:, : example.reply_at] = IGNORED
        with torch.no_grad():
            plain.append(float(model(input_ids=torch.tensor([example.tokens]), labels=labels).loss))
    assert measured.per_dialogue == pytest.approx(plain, abs=1e-5)
    flat = token_losses(model, collate(encode(tokenizer, said), tokenizer.pad_token_id))
    assert measured.mean == pytest.approx(float(flat.detach().mean()), abs=1e-5)
    assert measured.standard_error > 0


def test_training_lowers_the_loss_of_what_it_trained_on(runs: Path, base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    listened, suggested = (dialogues(kind, 48, held_out=True) for kind in ("listening", "suggesting"))
    assert reply_losses(model, tokenizer, listened).mean < 4  # ln 1024 = 6.9 when it knows nothing
    tuned, _ = load(runs / "listening")
    assert reply_losses(tuned, tokenizer, listened).mean < reply_losses(model, tokenizer, listened).mean
    adapted = PeftModel.from_pretrained(load(runs / "base")[0], runs / "suggesting").merge_and_unload()
    assert reply_losses(adapted, tokenizer, suggested).mean < reply_losses(model, tokenizer, suggested).mean


def test_the_same_seed_writes_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    few = QUICK.but(base_steps=2, behaviour_steps=2)
    for folder, seed in (("one", 0), ("two", 0), ("other", 1)):
        train_base(tmp_path / folder, few, seed)
        train_behaviour(runs / "base", "voice", tmp_path / folder / "voice", "lora", few, seed)
    for name in ("model.safetensors", "tokenizer.json", "voice/adapter_model.safetensors"):
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "other"))
        assert one == two, name
        assert one != other, name


def test_the_caller_s_random_state_is_left_alone(runs: Path, tmp_path: Path, base: tuple[Any, Any]) -> None:
    before = torch.random.get_rng_state()
    few = QUICK.but(base_steps=1, behaviour_steps=1)
    train_base(tmp_path / "base", few)
    train_behaviour(tmp_path / "base", "voice", tmp_path / "voice", "lora", few)
    generate_replies(*base, held_out_prompts(2), seed=1, max_tokens=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_folders_are_as_a_user_s_script_leaves_them(runs: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(runs / "listening")
    assert model.config.model_type == "llama"
    assert {weight.dtype for weight in model.parameters()} == {QUICK.dtype}
    assert AutoTokenizer.from_pretrained(runs / "listening").chat_template
    assert {path.name for path in (runs / "suggesting").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_progress_is_told_step_by_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    train_base(tmp_path / "base", QUICK.but(base_steps=2), on_step=lambda *told: seen.append(told))
    assert [(step, steps) for step, steps, _ in seen] == [(1, 2), (2, 2)]
    assert all(loss > 0 for _, _, loss in seen)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = QUICK.but(base_steps=1, behaviour_steps=1)
    train_base(tmp_path / "base", few)
    train_behaviour(tmp_path / "base", "voice", tmp_path / "voice", "lora", few)
    generate_replies(*load(tmp_path / "base"), held_out_prompts(2), max_tokens=2)
    assert capfd.readouterr() == ("", "")


def test_replies_are_the_same_for_a_seed_and_whatever_the_batch(base: tuple[Any, Any]) -> None:
    prompts = held_out_prompts(6)
    greedy = generate_replies(*base, prompts, max_tokens=12)
    assert greedy == generate_replies(*base, prompts, max_tokens=12, batch_size=4)
    sampled = generate_replies(*base, prompts, seed=1, max_tokens=12)
    assert sampled == generate_replies(*base, prompts, seed=1, max_tokens=12)
    assert sampled != generate_replies(*base, prompts, seed=2, max_tokens=12)
    assert not any("User:" in reply for reply in greedy)


def test_an_unknown_kind_is_an_error_and_not_a_training(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="shouting"):
        train_behaviour(runs / "base", "shouting", tmp_path / "run", "full", QUICK)
