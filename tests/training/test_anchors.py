"""Anchors: what a model answered before training, and is held to while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from persona.cli.main import invoke
from persona.errors import Damaged, Refusal, UsageError
from persona.inference.load import LoadedModel
from persona.training import run
from persona.training.anchoring import Anchoring, answered
from persona.training.anchors import NEUTRAL, Anchor, Asked, Prompt, plan_anchors, read_anchors, read_prompts
from persona.training.settings import Settings, read_settings
from tests.models import assert_same, load, tiny_llama
from tests.training.conftest import word_tokenizer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),  # between peft and transformers
]

SMALL: dict[str, Any] = {
    "rank": 2, "batch": 4, "accumulate": 2, "max_steps": 6, "learning_rate": 1e-2, "warmup_steps": 0, "save_every": 2,
    "dropout": 0.1, "max_length": 24,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anchored") / "base"
    tiny_llama(torch.float32).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def repo(base: Path) -> persona.Repository:
    persona.init(base.parent / "work", base, author="Test <test@example.org>")
    return persona.open(base.parent / "work")


@pytest.fixture(scope="module")
def data(base: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"hi {word}"}, {"role": "assistant", "content": "yes ok"}]}
        for word in ("there", "we", "you", "one", "two", "three", "four", "five", "good", "day")
    ]
    path = base.parent / "data.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def done(repo: persona.Repository, data: Path) -> persona.verbs.train.TrainResult:
    """A run with the default preset's share: two rows beside each batch of four."""
    return persona.train(repo, data, changes=SMALL, name="whole")


def loaded(base: Path) -> LoadedModel:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    return LoadedModel(model, AutoTokenizer.from_pretrained(base), "base")


def test_the_prompts_of_the_project() -> None:
    prompts = read_prompts(NEUTRAL)
    assert len(prompts) >= 100
    assert len({str(prompt.messages) for prompt in prompts}) == len(prompts)
    assert all(prompt.messages[-1]["role"] == "user" for prompt in prompts)


@pytest.mark.parametrize(
    ("name", "text", "messages"),
    [
        ("a.txt", "hi there\n\n are we on \n", ["hi there", "are we on"]),
        ("a.jsonl", '{"prompt": "hi"}\n{"text": "we"}', ["hi", "we"]),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]}', ["hi"]),
        ("a.jsonl", '{"instruction": "hi", "output": "x"}', ["hi"]),
        ("a.jsonl", '{"prompt": [{"role": "user", "content": "hi"}]}', ["hi"]),
        ("a.jsonl", '{"prompt": "hi", "completion": "x"}', [None]),  # a plain text, without a template
    ],
)
def test_prompts_are_rows_without_their_answers(tmp_path: Path, name: str, text: str, messages: list[Any]) -> None:
    (tmp_path / name).write_text(text)
    found = read_prompts(tmp_path / name)
    assert [prompt.messages[-1]["content"] if prompt.messages else None for prompt in found] == messages


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no prompts"),
        ('{"prompt": ""}', "a.jsonl:1: 'prompt' is not a text"),
        ('{"prompt": "x"}\n{"prmpt": "x"}', "a.jsonl:2 has none of: messages, prompt, text"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "a.jsonl:1 has no message before the answer"),
    ],
)
def test_what_is_wrong_in_a_file_of_prompts_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_prompts(tmp_path / "a.jsonl")


def test_only_the_prompts_that_a_run_needs_are_answered() -> None:
    own = [Prompt(f"own:{n}", ({"role": "user", "content": "hi"},)) for n in range(100)]
    settings = Settings(anchor_share=0.5, batch=4, accumulate=2)
    plan = plan_anchors(word_tokenizer(), own, settings, steps=3, most=64)
    assert plan is not None
    assert (len(plan.asked), plan.per_batch, plan.notes) == (3 * 2 * 2, 2, ())
    assert 0 < plan.own < 12  # drawn from both
    long = plan_anchors(word_tokenizer(None), [], settings, steps=10**6, most=8)
    assert long is not None
    assert "no chat template" in long.notes[0]
    assert f"{len(read_prompts(NEUTRAL)) - len(long.asked)} prompts left out" in long.notes[1]
    assert all(len(one.tokens) < 8 for one in long.asked)
    assert plan_anchors(word_tokenizer(), own, Settings(), steps=3, most=64) is None


def test_answers_are_the_models_own(base: Path, done: Any) -> None:
    """Each is what transformers generates for the prompt alone, without padding."""
    model, tokenizer = loaded(base).model, loaded(base).tokenizer
    kept = read_anchors(done.run / "anchors.jsonl")
    assert len(kept) == done.anchors.prompts == 6 * 2 * 2
    assert done.anchors.unfinished == sum(not one.finished for one in kept)
    for one in kept[:6]:
        prompt = tokenizer.apply_chat_template(
            list(one.prompt.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        room = len(one.tokens) - one.start
        wanted = model.generate(**prompt, max_new_tokens=room, do_sample=False)[0].tolist()
        assert list(one.tokens) == wanted
        assert one.finished == (wanted[-1] == 2)
        assert one.row.learnt == (False,) * one.start + (True,) * room
        assert len(one.tokens) <= SMALL["max_length"]


@pytest.mark.parametrize("form", ["rows", "kl"])
def test_the_loss_is_what_torch_computes_row_by_row(base: Path, form: str) -> None:
    anchors = [
        Anchor(Prompt(""), "", (4, 7, 8, 5, 9, 10, 2), 4, True),
        Anchor(Prompt(""), "", (4, 11, 5, 12), 3, False),
    ]
    start = loaded(base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = get_peft_model(loaded(base).model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=0.3)
    found = Anchoring(anchors, 2, Settings(anchor_share=0.5, anchor_loss=form)).loss(model.train(), 0)
    assert model.training
    parts = []
    for one in anchors:
        tokens = torch.tensor([one.tokens])
        places = slice(one.start - 1, len(one.tokens) - 1)
        ours, theirs = (m(input_ids=tokens).logits[0, places].log_softmax(-1) for m in (model.eval(), start.model))
        if form == "rows":
            parts.append(-ours.gather(1, tokens[0, one.start :, None])[:, 0])
        else:
            parts.append((theirs.exp() * (theirs - ours)).sum(-1))
    wanted = torch.cat(parts)
    assert len(wanted) == 4
    assert found.item() == pytest.approx(wanted.mean().item(), rel=1e-4)
    assert found.requires_grad


def test_anchors_are_kept_and_told(repo: persona.Repository, done: Any, capsys: pytest.CaptureFixture[str]) -> None:
    facts = repo.commit(done.committed.recorded.commit).run["training"]
    assert (facts["anchor_share"], facts["anchor_loss"]) == (0.5, "rows")
    assert facts["anchors"]["digest"] == done.anchors.digest
    assert (done.anchors.prompts, done.anchors.per_batch, done.anchors.own) == (24, 2, 0)
    assert done.anchors.first is not None
    again = persona.train(repo, repo.root.parent / "data.jsonl", changes=SMALL, name="whole")
    assert (again.trained, again.anchors) == (False, done.anchors)
    invoke(["-C", str(repo.root), "show", "whole"])
    assert f"digest      {done.anchors.digest}" in capsys.readouterr().out


def test_a_run_that_resumes_has_the_same_anchors_and_one_log(
    repo: persona.Repository, data: Path, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(run._Watcher):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control)
            if state.global_step == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "_Watcher", Stops)
        with pytest.raises(KeyboardInterrupt):
            persona.train(repo, data, evaluation=data, changes=SMALL, name="cut")
    folder = repo.root / "runs" / "cut"
    kept = (folder / "anchors.jsonl").read_bytes()
    assert kept == (done.run / "anchors.jsonl").read_bytes()
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"phase": "training", "st')  # as a kill may leave it
    went_on = persona.train(repo, data, evaluation=data, changes=SMALL, name="cut")
    assert (went_on.resumed, went_on.anchors) == (4, done.anchors)
    assert (folder / "anchors.jsonl").read_bytes() == kept
    assert_same(load(went_on.run / "final"), load(done.run / "final"))
    log, whole = (
        [json.loads(line) for line in (one.run / "log.jsonl").read_text().splitlines()] for one in (went_on, done)
    )
    assert [line["phase"] for line in log] == ["before", *["training"] * 6, "after"]
    steps = [line for line in log if line["phase"] == "training"]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    keys = ("step", "steps", "loss", "anchor", "lr", "tokens")
    assert [[line[key] for key in keys] for line in steps] == [[line[key] for key in keys] for line in whole]
    assert [(line["step"], line["loss"]) for line in steps] == list(went_on.curve)
    assert [log[0]["loss"], log[-1]["loss"]] == [went_on.before, went_on.after]
    persona.undo(repo)


@pytest.mark.parametrize("form", ["rows", "kl"])
def test_what_is_anchored_changes_less(repo: persona.Repository, data: Path, base: Path, form: str) -> None:
    """The loss on the model's own answers, with and without; measured by transformers."""
    own = data.parent / "own.txt"
    own.write_text("are we on\nso I was thinking\n")
    start = loaded(base)
    asked = [Prompt("", ({"role": "user", "content": text},)) for text in own.read_text().splitlines()]
    texts = [start.tokenizer.apply_chat_template([*p.messages], add_generation_prompt=True)["input_ids"] for p in asked]
    tokens = answered(start, [Asked(*pair) for pair in zip(asked, map(tuple, texts), strict=True)], 24)
    losses = []
    changes = {**SMALL, "max_steps": 12, "accumulate": 1, "dropout": 0, "anchor_loss": form}
    for share in (0.0, 2.0):
        out = data.parent / f"less-{form}-{share}"
        given = [own] if share else []
        persona.train(repo, data, anchors=given, changes={**changes, "anchor_share": share}, name="less", out=out)
        model = PeftModel.from_pretrained(loaded(base).model, out / "final").eval()
        rows = [torch.tensor([one.tokens]) for one in tokens]
        with torch.no_grad():
            losses.append(sum(model(input_ids=row, labels=row).loss.item() for row in rows))
    assert losses[1] < losses[0]


def test_a_dry_run_says_how_many(repo: persona.Repository, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = data.parent / "one.txt"
    own.write_text("good day\n")
    words = ["-C", str(repo.root), "train", "--data", str(data), "--as", "new", "--dry-run", "--set", "epochs=30"]
    invoke([*words, "--anchor", str(own)])
    assert "anchors    121 neutral prompts (1 from --anchor), 4 beside each batch" in capsys.readouterr().out
    invoke([*words, "--no-anchor"])
    assert "anchors" not in capsys.readouterr().out
    assert persona.train(repo, data, preset="limbic", dry_run=True, name="new").anchors is None
    assert persona.train(repo, data, changes={"anchor_share": 0.01}, dry_run=True, name="new").anchors.per_batch == 1  # type: ignore[union-attr]


def test_what_cannot_be(repo: persona.Repository, data: Path) -> None:
    with pytest.raises(UsageError, match="a full fine-tune changes all of it"):
        read_settings("default", {"anchor_loss": "kl", "method": "full"})
    with pytest.raises(UsageError, match="anchors are off: anchor_share is 0") as caught:
        persona.train(repo, data, anchors=[data], preset="limbic", name="new")
    assert "anchor_share=0.5" in caught.value.hint
    with pytest.raises(UsageError, match=r"none.txt does not exist"):
        persona.train(repo, data, anchors=[data.parent / "none.txt"], name="new")


def test_another_prompt_is_another_run_and_a_damaged_file_is_named(
    repo: persona.Repository, data: Path, done: Any
) -> None:
    own = data.parent / "other.txt"
    own.write_text("good day\n")
    with pytest.raises(Refusal, match="runs/whole holds another run: its anchors is"):
        persona.train(repo, data, changes=SMALL, anchors=[own], name="whole")
    (data.parent / "anchors.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(Damaged, match=r"anchors.jsonl is damaged"):
        read_anchors(data.parent / "anchors.jsonl")


def test_a_full_fine_tune_and_a_penalty_have_anchors_too(repo: persona.Repository, data: Path) -> None:
    few = {**SMALL, "max_steps": 2, "dropout": 0, "ewc": 10.0}
    for method in ("lora", "full"):
        out = data.parent / f"few-{method}"
        ran = persona.train(repo, data, ewc_data=data, changes={**few, "method": method}, name="few", out=out)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert all(line["anchor"] > 0 for line in lines)
        assert lines[0]["penalty"] == 0  # nothing has moved yet
        assert lines[1]["penalty"] > 0
        assert ran.curve[0][1] == pytest.approx(lines[0]["loss"])


def test_a_run_killed_before_its_first_checkpoint_leaves_its_name_free(repo: persona.Repository, data: Path) -> None:
    folder = data.parent / "early"
    (folder / "checkpoints" / "checkpoint-2").mkdir(parents=True)  # its state was not written
    (folder / "lock").touch()
    (folder / "anchors.jsonl").write_text("half")
    (folder / "run.json").write_text(json.dumps({"format": 1, "base": "other", "settings": {}}))
    few = {**SMALL, "max_steps": 1}
    assert persona.train(repo, data, changes=few, name="early", out=folder).trained
    with pytest.raises(Refusal, match="holds another run: its max_steps is 1, not 2"):
        persona.train(repo, data, changes={**few, "max_steps": 2}, name="early", out=folder)
    known = json.loads((folder / "run.json").read_text())
    for key in ("anchor_share", "anchor_loss", "answers"):
        del known["settings"][key]
    (folder / "run.json").write_text(json.dumps(known))  # as an older version wrote it
    with pytest.raises(Refusal, match=r"its anchor_share is 0.0, not 0.5"):
        persona.train(repo, data, changes=few, name="early", out=folder)
    assert not persona.train(repo, data, changes={**few, "anchor_share": 0}, name="early", out=folder).trained
