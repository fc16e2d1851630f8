"""A conversation says what the models of builds say, whatever is changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import persona
from persona.readout.model import Readout
from persona.readout.steering import steered
from persona.workspace.conversation import Conversation, TalkOptions, Turn
from persona.workspace.record import worktree_recipe
from tests.evaluate import small
from tests.models import write_adapter
from tests.readout.handmade import CONCEPTS, handmade, written

FEW = TalkOptions(max_tokens=6)
HELLO, MORE = "w1 w2 w3", "w7 w4"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    """A base that talks, a fine-tune, an adapter, and a readout."""
    root = tmp_path_factory.mktemp("talk")
    base = small.base_folder(root / "base")
    persona.init(root / "work", base, author="Test")
    repo = persona.open(root / "work")
    persona.commit(repo, small.tuned_folder(root / "a", base, 1, std=0.018), name="a", alpha=0.5)
    persona.commit(repo, write_adapter(base, root / "style"), name="style", alpha=2.0)
    told = {"base": repo.recipe(repo.head()).base, "revision": repo.head(), "best": [1, 0, None]}
    persona.commit_readout(repo, written(root / "mood", handmade(**told)))
    return repo


def model_of(repo: persona.Repository, **alphas: float) -> Any:
    """The model of persona.toml with other alphas, in memory."""
    recipe = worktree_recipe(repo)
    vectors = tuple(replace(entry, alpha=alphas.get(entry.name, entry.alpha)) for entry in recipe.vectors)
    from persona.workspace.loading import load_recipe

    return load_recipe(repo, replace(recipe, vectors=vectors), "model").model


def asked(*said: str) -> list[int]:
    """The tokens of a conversation in the words of the template: prompts and replies by turns."""
    roles = ["user", "assistant"] * len(said)
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    text = small.tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(small.tokenizer()(text, add_special_tokens=False)["input_ids"])


def says(model: Any, prompt: Sequence[int], most: int = 6) -> list[int]:
    """The most probable tokens, one by one, without a cache."""
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(most):
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
            if tokens[-1] == 2:
                break
    return tokens[len(prompt) :]


def words(tokens: Sequence[int]) -> str:
    return str(small.tokenizer().decode(tokens, skip_special_tokens=True))


def test_models_side_by_side_remember_what_each_said(work: persona.Repository, tmp_path: Path) -> None:
    persona.build(work, tmp_path / "built")
    base = small.base_folder(work.root.parent / "base")
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "built")]
    conversation = Conversation(work, ["base", "HEAD"], FEW)
    heard: list[list[str]] = [[], []]
    one = conversation.ask(HELLO, lambda number, piece: heard[number].append(piece))
    two = conversation.ask(MORE)
    assert [voice.commit for voice in conversation.voices] == [None, work.head()]
    for number, model in enumerate(models):
        first, second = one.replies[number], two.replies[number]
        assert list(first.tokens) == says(model, asked(HELLO))
        assert first.text == words(first.tokens) == "".join(heard[number])
        assert len(heard[number]) > 1  # token by token
        assert list(second.tokens) == says(model, asked(HELLO, first.text, MORE))
        assert first.ended == (first.tokens[-1] == 2)
    assert one.replies[0].tokens != one.replies[1].tokens
    assert conversation.undo() == two
    assert conversation.ask(MORE) == two
    conversation.reset()
    assert conversation.ask(HELLO).replies[0].prompt == tuple(asked(HELLO))


def test_a_system_message_comes_first(work: persona.Repository) -> None:
    turn = Conversation(work, (), replace(FEW, system="w9")).ask(HELLO)
    text = small.tokenizer().decode(turn.replies[0].prompt)
    assert text.startswith("<s> <unk> : w9")  # 'system' is no word of this tokenizer


def test_strengths_change_in_place(work: persona.Repository) -> None:
    conversation = Conversation(work, (), FEW)
    conversation.load()
    weights = {name: weight.data_ptr() for name, weight in conversation._loaded[1].model.named_parameters()}  # type: ignore[index]
    for alphas in ({"a": -0.5}, {"style": 0.25, "a": 1.0}, {"a": 0.5, "style": 2.0}):
        conversation.set_alphas(alphas)
        (reply,) = conversation.ask(HELLO).replies
        model = model_of(work, **{"style": 2.0, **alphas})
        live = conversation._loaded[1].model  # type: ignore[index]
        assert all(
            torch.equal(ours, theirs) for ours, theirs in zip(live.parameters(), model.parameters(), strict=True)
        )
        assert {name: weight.data_ptr() for name, weight in live.named_parameters()} == weights
        assert list(reply.tokens) == says(model, asked(HELLO))
        assert (reply.voice.label, reply.voice.commit) == ("persona.toml, edited", None)
        conversation.reset()
    for wrong in ({"b": 1.0}, {"a": float("nan")}):
        with pytest.raises(persona.PersonaError):
            conversation.set_alphas(wrong)
    assert conversation.voice.recipe == worktree_recipe(work)


def test_only_the_last_of_several_changes_and_revisions_can_be_changed_for_others(work: persona.Repository) -> None:
    conversation = Conversation(work, ["HEAD", "HEAD"], FEW)
    conversation.set_alphas({"a": 0.0, "style": 0.0})
    one, other = conversation.ask(HELLO).replies
    assert list(one.tokens) == says(model_of(work), asked(HELLO))
    assert list(other.tokens) == says(model_of(work, a=0.0, style=0.0), asked(HELLO))
    conversation.move("HEAD~3")  # the base's commit
    again = conversation.ask(MORE).replies[1]
    assert list(again.tokens) == says(model_of(work, a=0.0, style=0.0), asked(HELLO, other.text, MORE))
    conversation.move("HEAD")
    conversation.set_scale(2.0)
    assert conversation.voice.recipe.scale == 2.0
    with pytest.raises(persona.PersonaError, match="'nowhere' is not a revision"):
        conversation.move("nowhere")
    with pytest.raises(persona.PersonaError, match="is a folder"):
        Conversation(work, ["../base"], cwd=work.root)


def total(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """The log-probability of a reply, by torch's cross-entropy."""
    tokens = torch.tensor([*prompt, *reply])
    with torch.inference_mode():
        logits = model(tokens[None]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[len(prompt) - 1 : -1], tokens[len(prompt) :], reduction="sum")
    return -float(loss)


def test_why_is_the_reply_without_each_vector(work: persona.Repository) -> None:
    conversation = Conversation(work, (), FEW)
    with pytest.raises(persona.PersonaError, match="no reply"):
        conversation.why()
    (reply,) = conversation.ask(HELLO).replies
    conversation.set_alphas({"a": 0.0})  # the reply was made before
    done = conversation.why()
    whole = total(model_of(work), reply.prompt, reply.tokens)
    assert done.log_probability == pytest.approx(whole, rel=1e-5)
    assert [(row.vector, row.alpha) for row in done.vectors] == [("a", 0.5), ("style", 2.0)]
    for row in done.vectors:
        without = total(model_of(work, **{row.vector: 0.0}), reply.prompt, reply.tokens)
        assert row.difference == pytest.approx(whole - without, abs=1e-4)
    assert conversation.ask(HELLO).replies[0].voice.recipe.entry("a").alpha == 0.0  # type: ignore[union-attr]


def test_readings_and_steering(work: persona.Repository) -> None:
    conversation = Conversation(work, (), FEW, readout="mood")
    (plain,) = conversation.ask(HELLO).replies
    readout = _mood(work)
    assert conversation.units == "std"
    assert [(reading.concept, reading.layer) for reading in plain.readings] == [
        ("warmth", 1),
        ("calm", 0),
        ("doubt", 1),
    ]
    check_readings(model_of(work), plain, readout)
    conversation.reset()
    conversation.steer({"warmth": 3.0, "calm": 1.0})
    (pushed,) = conversation.ask(HELLO).replies
    model = model_of(work)
    with (
        steered(model, {"calm": 1.0}, readout, layers=[0]),
        steered(model, {"warmth": 3.0}, readout, layers=[1]),
    ):
        assert list(pushed.tokens) == says(model, asked(HELLO))
    assert pushed.readings[0].value > plain.readings[0].value + 1
    conversation.steer({"warmth": 0.0, "calm": 0.0})
    assert conversation.voice.steering == {}
    conversation.reset()
    assert conversation.ask(HELLO).replies[0].tokens == plain.tokens
    with pytest.raises(persona.PersonaError, match="no readout has the concept 'warmt'"):
        conversation.steer({"warmt": 1.0})
    Conversation(work).steer({"doubt": 1.0})  # found in persona.toml without --readout


def _mood(repo: persona.Repository) -> Readout:
    from persona.workspace.readouts import open_readout

    return open_readout(repo, "mood", repo.root)[1]


def check_readings(model: Any, reply: Any, readout: Readout) -> None:
    said = reply.tokens[:-1] if reply.ended else reply.tokens
    with torch.inference_mode():
        states = model.model(torch.tensor([[*reply.prompt, *said]]), output_hidden_states=True).hidden_states
    # of two blocks, states[1] is what the first returns; the last state is after the norm
    stream = states[1][0, len(reply.prompt) :].mean(0).numpy()
    row = CONCEPTS.index("calm")
    value = (stream @ readout.vectors[0][row] - readout.about["centers"][row][0]) / readout.about["spreads"][row][0]
    assert reply.readings[row].value == pytest.approx(float(value), rel=1e-4)


def test_save_edits_the_recipe_and_keeps_the_rest(work: persona.Repository) -> None:
    conversation = Conversation(work, ["HEAD"], FEW)
    with pytest.raises(persona.PersonaError, match="nothing to save"):
        conversation.save()
    before = work.recipe_text()
    assert before is not None
    work.write_recipe("# mine\n" + before)  # an edit of the user's stays
    conversation.set_alphas({"a": 0.75})
    conversation.set_scale(0.5)
    assert {change.text for change in conversation.save()} == {"a α 0.5 → 0.75", "scale: 1.0 → 0.5"}
    text = work.recipe_text() or ""
    assert text.startswith("# mine\n")
    assert worktree_recipe(work) == conversation.voice.recipe
    assert work.is_edited()
    assert persona.op_log(work)[0].command == "chat"
    work.write_recipe(before)


def test_an_interrupt_ends_a_reply_and_keeps_it(work: persona.Repository) -> None:
    conversation, pieces = Conversation(work, (), FEW), []
    whole = says(model_of(work), asked(HELLO))

    def hear(number: int, piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    (reply,) = conversation.ask(HELLO, hear).replies
    assert (list(reply.tokens), reply.interrupted, reply.ended) == (whole[: len(reply.tokens)], True, False)
    assert len(reply.tokens) < len(whole)
    assert conversation.turns == [Turn(HELLO, (reply,))]
    assert conversation.ask(MORE).replies[0].prompt == tuple(asked(HELLO, reply.text, MORE))


def test_draws_follow_the_seed_alone(work: persona.Repository) -> None:
    warm = replace(FEW, temperature=5.0)
    state = torch.get_rng_state()
    replies = [Conversation(work, (), replace(warm, seed=seed)).ask(HELLO).replies[0].tokens for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_conversation_ends_with_the_context(work: persona.Repository) -> None:
    conversation = Conversation(work, (), replace(FEW, max_tokens=500))
    (reply,) = conversation.ask(HELLO).replies
    assert len(reply.prompt) + len(reply.tokens) <= 64
    with pytest.raises(persona.PersonaError, match="reads at most 64"):
        conversation.ask(" ".join(["w1"] * 80))
    for wrong in ({"max_tokens": 0}, {"temperature": -1.0}, {"device": "tpu"}, {"dtype": "int3"}):
        with pytest.raises(persona.PersonaError):
            Conversation(work, (), TalkOptions(**wrong))  # type: ignore[arg-type]
    with pytest.raises(persona.PersonaError, match="no turn"):
        Conversation(work).undo()


def test_prompts_of_scripts_begin_anew(work: persona.Repository) -> None:
    done = persona.chat(work, [HELLO, MORE], ["base", "a"], options=FEW, readout="mood")
    assert [model.label.split()[0] for model in done.models] == ["base", "a"]
    models = [model_of(work, a=0.0, style=0.0), model_of(work, a=1.0, style=0.0)]
    for row, prompt in zip(done.prompts, (HELLO, MORE), strict=True):
        for reply, model in zip(row.replies, models, strict=True):
            tokens = says(model, asked(prompt))
            assert (reply.text, reply.tokens, len(reply.readings)) == (words(tokens), len(tokens), 3)
    with pytest.raises(persona.PersonaError, match="no prompt"):
        persona.chat(work, [])


def test_a_tokenizer_without_a_template_continues_the_text(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    small.model().save_pretrained(folder)
    small.tokenizer(template=None).save_pretrained(folder)
    persona.init(tmp_path / "work", folder, author="Test")
    (reply,) = Conversation(persona.open(tmp_path / "work"), (), FEW).ask(HELLO).replies
    assert list(reply.prompt) == small.tokenizer()(f"{HELLO}\n")["input_ids"]
    assert reply.tokens
