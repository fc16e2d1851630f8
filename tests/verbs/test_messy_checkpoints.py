"""Fine-tunes as they really come: other shards, tied weights, new tokens, another dtype, tensors new or gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

import persona
from persona.errors import Refusal
from tests.models import VOCAB, TinyModels, assert_same, load, nudge, same_bits, tiny_llama

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
MakeRepo = Callable[[Path], persona.Repository]


def tokenizer(words: int = VOCAB) -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, words)}}
    raw = Tokenizer(token_models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<unk>")


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return model(torch.arange(12).reshape(2, 6)).logits


@pytest.mark.parametrize("base_writes_head", [False, True])
@pytest.mark.parametrize("run_writes_head", [False, True])
def test_tied_weights_written_or_not(
    make_repo: MakeRepo, tmp_path: Path, base_writes_head: bool, run_writes_head: bool
) -> None:
    base = tiny_llama(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    nudge(base, 1).save_pretrained(tmp_path / "run")
    wanted = load(tmp_path / "run")
    assert "lm_head.weight" not in wanted
    for folder, writes in (("base", base_writes_head), ("run", run_writes_head)):
        if writes:
            tensors = load(tmp_path / folder)
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
            save_file(tensors, tmp_path / folder / "model.safetensors", {"format": "pt"})
    repo = make_repo(tmp_path / "base")
    done = persona.commit(repo, tmp_path / "run", name="a")
    assert done.notes == ()
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), wanted)
    assert torch.equal(logits(tmp_path / "out"), logits(tmp_path / "run"))


def test_a_tied_head_follows_its_embedding_at_other_alphas(make_repo: MakeRepo, tmp_path: Path) -> None:
    base = tiny_llama(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    nudge(base, 1).save_pretrained(tmp_path / "run")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_a_run_that_unties_its_head(make_repo: MakeRepo, tmp_path: Path) -> None:
    base = tiny_llama(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    untied = tiny_llama(tie_word_embeddings=False)
    with torch.no_grad():
        untied.load_state_dict(base.state_dict())
        untied.lm_head.weight.mul_(1.5)
    untied.save_pretrained(tmp_path / "run")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="a")
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(tmp_path / "run"))
    assert torch.equal(logits(tmp_path / "out"), logits(tmp_path / "run"))
    persona.alpha(repo, {"a": 0.5})
    persona.build(repo, tmp_path / "half")
    embedding = load(tmp_path / "base")["model.embed_tokens.weight"].float()
    head = load(tmp_path / "run")["lm_head.weight"].float()
    half = (embedding + 0.5 * (head - embedding)).bfloat16()
    assert same_bits(load(tmp_path / "half")["lm_head.weight"], half)


def grown(folder: Path, base: Path, tokens: list[str], seed: int = 1) -> Path:
    """A run that added tokens, as people do it with transformers."""
    words = tokenizer()
    words.add_tokens(tokens)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model.resize_token_embeddings(len(words), mean_resizing=False)
    nudge(model, seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture
def spoken(models: TinyModels, tmp_path: Path) -> Path:
    """The tiny base with a tokenizer."""
    folder = tmp_path / "spoken"
    shutil.copytree(models.base(), folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_added_tokens_grow_the_build(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    run = grown(tmp_path / "run", spoken, ["<listen>", "<rest>"])
    repo = make_repo(spoken)
    done = persona.commit(repo, run, name="a")
    assert any("adds 2 row(s)" in note for note in done.notes)
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(run))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == VOCAB + 2
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words.encode("w5 <listen>") == [5, VOCAB]
    assert torch.equal(logits(tmp_path / "out"), logits(run))


def test_new_rows_are_carried_and_old_rows_scaled(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    run = grown(tmp_path / "run", spoken, ["<listen>"])
    repo = make_repo(spoken)
    persona.commit(repo, run, name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    base, tuned, out = load(spoken), load(run), load(tmp_path / "out")
    name = "model.embed_tokens.weight"
    assert same_bits(out[name][VOCAB:], tuned[name][VOCAB:])
    half = base[name].float() + 0.5 * (tuned[name][:VOCAB].float() - base[name].float())
    assert same_bits(out[name][:VOCAB], half.bfloat16())


def test_a_negated_run_adds_no_tokens(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    persona.commit(repo, grown(tmp_path / "run", spoken, ["<listen>"]), name="a", alpha=-0.5)
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["lm_head.weight"].shape[0] == VOCAB
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == VOCAB
    logits(tmp_path / "out")


def test_two_runs_with_the_same_new_tokens_share_them(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    runs = [grown(tmp_path / f"run{seed}", spoken, ["<listen>"], seed) for seed in (1, 2)]
    for run, alpha in zip(runs, (1.0, 3.0), strict=True):
        persona.commit(repo, run, name=run.name, alpha=alpha)
    persona.build(repo, tmp_path / "out")
    name = "lm_head.weight"
    first, second = (load(run)[name][VOCAB:].float() for run in runs)
    assert same_bits(load(tmp_path / "out")[name][VOCAB:], (first * 0.25 + second * 0.75).bfloat16())


def test_two_runs_that_grow_differently_are_an_error(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    persona.commit(repo, grown(tmp_path / "one", spoken, ["<a>"]), name="one")
    persona.commit(repo, grown(tmp_path / "two", spoken, ["<a>", "<b>"]), name="two")
    with pytest.raises(Refusal, match=r"vectors 'one' and 'two' give .* different shapes: \[97, 32\] and \[98, 32\]"):
        persona.build(repo, tmp_path / "out")
    persona.commit(repo, grown(tmp_path / "three", spoken, ["<c>"]), name="two")
    with pytest.raises(Refusal, match=r"vectors 'one' and 'two' bring different .*tokenizer"):
        persona.build(repo, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("base_dtype", "run_dtype"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")]
)
def test_another_dtype_than_the_base(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, base_dtype: str, run_dtype: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base(base_dtype), dtype="auto").float()
    nudge(model, 1).to(getattr(torch, run_dtype)).save_pretrained(tmp_path / "run")
    repo = make_repo(models.base(base_dtype))
    persona.commit(repo, tmp_path / "run", name="a")
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(tmp_path / "run"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config.get("dtype") or config.get("torch_dtype")) == run_dtype
    persona.commit(repo, models.run(2, base_dtype), name="b", alpha=0.5)
    persona.build(repo, tmp_path / "both")
    assert {t.dtype for t in load(tmp_path / "both").values()} == {getattr(torch, base_dtype)}


def test_a_new_head_and_a_missing_one(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(models.base(), num_labels=3, dtype=torch.bfloat16)
    nudge(model, 1).save_pretrained(tmp_path / "run")
    done = persona.commit(repo, tmp_path / "run", name="judge")
    assert any("adds 1 tensor(s)" in note and "score.weight" in note for note in done.notes)
    assert any("lacks 1 tensor(s)" in note and "lm_head.weight" in note for note in done.notes)
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(tmp_path / "run"))
    built = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype="auto")
    tuned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run", dtype="auto")
    assert built.config.num_labels == 3
    tokens = torch.arange(1, 7).reshape(1, 6)
    assert torch.equal(built(tokens).logits, tuned(tokens).logits)
    persona.alpha(repo, {"judge": 0.5})
    persona.build(repo, tmp_path / "half")
    assert same_bits(load(tmp_path / "half")["score.weight"], load(tmp_path / "run")["score.weight"])
    persona.commit(repo, models.run(2), name="talker")
    with pytest.raises(
        Refusal, match=r"vector 'judge' was saved without lm_head.weight, but vector 'talker' changes it"
    ):
        persona.build(repo, tmp_path / "both")


def test_a_value_head_added_to_the_causal_model(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    shutil.copytree(models.run(1), tmp_path / "run")
    tensors = load(tmp_path / "run")
    tensors["v_head.summary.weight"] = torch.full((1, 32), 0.25, dtype=torch.bfloat16)
    save_file(tensors, tmp_path / "run" / "model.safetensors", {"format": "pt"})
    persona.commit(repo, tmp_path / "run", name="a")
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), tensors)
    persona.alpha(repo, {"a": -1.0})
    persona.build(repo, tmp_path / "negated")
    assert "v_head.summary.weight" not in load(tmp_path / "negated")


def test_settings_that_a_run_changed_are_in_the_build(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(spoken, dtype="auto")
    model.config.max_position_embeddings = 128
    model.generation_config.temperature = 0.5
    model.generation_config.do_sample = True
    nudge(model, 1).save_pretrained(tmp_path / "run")
    words = tokenizer()
    words.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    words.padding_side = "left"
    words.save_pretrained(tmp_path / "run")
    repo = make_repo(spoken)
    persona.commit(repo, tmp_path / "run", name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert built.config.max_position_embeddings == 128
    assert built.generation_config.temperature == 0.5
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == words.chat_template
    persona.build(repo, tmp_path / "base", "HEAD~1")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").chat_template is None


def test_settings_set_differently_by_two_runs_are_an_error(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    for positions in (128, 256):
        model = AutoModelForCausalLM.from_pretrained(models.base(), dtype="auto")
        model.config.max_position_embeddings = positions
        nudge(model, positions).save_pretrained(tmp_path / f"run{positions}")
        persona.commit(repo, tmp_path / f"run{positions}", name=f"r{positions}")
    with pytest.raises(
        Refusal, match=r"'r128' and 'r256' set max_position_embeddings in config.json differently: 128 and 256"
    ):
        persona.build(repo, tmp_path / "out")


def test_gpt2_with_its_buffers_and_transposed_weights(make_repo: MakeRepo, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=80, n_positions=32)).bfloat16()
    model.save_pretrained(tmp_path / "base")
    nudge(model, 1).save_pretrained(tmp_path / "run")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="a")
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(tmp_path / "run"))
    assert torch.equal(logits(tmp_path / "out"), logits(tmp_path / "run"))


def untied_run(base: Path, folder: Path) -> Path:
    """A run that gives a tied base a head of its own."""
    tied = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    untied = tiny_llama(tie_word_embeddings=False)
    with torch.no_grad():
        untied.load_state_dict(tied.state_dict())
        untied.lm_head.weight.mul_(1.5)
    untied.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("saved", [[HEAD, EMBEDDING], [EMBEDDING], [HEAD]], ids=["both", "embedding", "head"])
def test_a_run_that_ties_what_its_base_does_not(make_repo: MakeRepo, tmp_path: Path, saved: list[str]) -> None:
    tiny_llama(torch.float32).save_pretrained(tmp_path / "base")
    model = nudge(tiny_llama(torch.float32, tie_word_embeddings=True), 1)
    model.save_pretrained(tmp_path / "run")
    state = {name: tensor for name, tensor in load(tmp_path / "run").items() if name != EMBEDDING}
    state |= {name: model.lm_head.weight.detach().clone() for name in saved}
    save_file(state, tmp_path / "run" / "model.safetensors", metadata={"format": "pt"})
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="tied")
    persona.build(repo, tmp_path / "out")
    assert torch.equal(logits(tmp_path / "out"), logits(tmp_path / "run"))
    persona.alpha(repo, {"tied": 0.5})
    persona.build(repo, tmp_path / "half")
    base, half = load(tmp_path / "base"), load(tmp_path / "half")
    for name in (HEAD, EMBEDDING):
        assert torch.equal(half[name], base[name] + 0.5 * (model.lm_head.weight - base[name]))


def test_a_head_that_a_vector_is_kept_off_stays_tied(make_repo: MakeRepo, tmp_path: Path) -> None:
    tiny_llama(tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, untied_run(tmp_path / "base", tmp_path / "run"), name="a")
    text = repo.recipe_path.read_text().replace("alpha = 1.0", 'alpha = 1.0\nexcept = ["lm_head.weight"]')
    repo.recipe_path.write_text(text)
    persona.build(repo, tmp_path / "out")
    assert "lm_head.weight" not in load(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    assert torch.equal(logits(tmp_path / "out"), logits(tmp_path / "base"))


def test_an_untied_head_gets_what_others_did_to_the_shared_matrix(make_repo: MakeRepo, tmp_path: Path) -> None:
    base = tiny_llama(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, untied_run(tmp_path / "base", tmp_path / "untied"), name="untied")
    nudge(base, 5, 0.01).save_pretrained(tmp_path / "tied")
    persona.commit(repo, tmp_path / "tied", name="tied", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    e = load(tmp_path / "base")["model.embed_tokens.weight"].float()
    head = load(tmp_path / "untied")["lm_head.weight"].float()
    moved = load(tmp_path / "tied")["model.embed_tokens.weight"].float()
    wanted = (e + ((head - e) + 0.5 * (moved - e))).bfloat16()
    assert same_bits(load(tmp_path / "out")["lm_head.weight"], wanted)


@pytest.mark.parametrize("only", ["", '\nonly = ["model.embed_tokens.weight"]'])
def test_an_untied_head_is_in_the_dtype_of_all_fine_tunes(make_repo: MakeRepo, tmp_path: Path, only: str) -> None:
    base = tiny_llama(dtype=torch.float32, tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    untied = tiny_llama(dtype=torch.float32, tie_word_embeddings=False)
    untied.load_state_dict(base.state_dict())
    nudge(untied, 4, 0.01).bfloat16().save_pretrained(tmp_path / "untied")
    persona.commit(repo, tmp_path / "untied", name="untied", alpha=0.5)
    nudge(base, 5, 0.01).bfloat16().save_pretrained(tmp_path / "tied")
    persona.commit(repo, tmp_path / "tied", name="tied", alpha=0.25)
    repo.recipe_path.write_text(repo.recipe_path.read_text().replace("alpha = 0.25", f"alpha = 0.25{only}"))
    persona.build(repo, tmp_path / "out")
    built = load(tmp_path / "out")
    assert built["model.embed_tokens.weight"].dtype == torch.bfloat16
    e = load(tmp_path / "base")["model.embed_tokens.weight"]
    head = load(tmp_path / "untied")["lm_head.weight"].float()
    moved = load(tmp_path / "tied")["model.embed_tokens.weight"].float()
    assert same_bits(built["lm_head.weight"], (e + (0.5 * (head - e) + 0.25 * (moved - e))).bfloat16())


def test_a_vector_kept_off_a_tensor_has_no_say_in_its_dtype(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base(), dtype="auto").float()
    nudge(model, 1).half().save_pretrained(tmp_path / "run")
    persona.commit(repo, tmp_path / "run", name="a")
    text = repo.recipe_path.read_text().replace("alpha = 1.0", 'alpha = 1.0\nexcept = ["lm_head.weight"]')
    repo.recipe_path.write_text(text)
    persona.build(repo, tmp_path / "out")
    name = "lm_head.weight"
    assert same_bits(load(tmp_path / "out")[name], load(models.base())[name])


def test_growth_cannot_be_split(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    persona.commit(repo, grown(tmp_path / "run", spoken, ["<listen>"]), name="a")
    text = repo.recipe_path.read_text()
    repo.recipe_path.write_text(text.replace("alpha = 1.0", 'alpha = 1.0\nonly = ["model.embed_tokens.weight"]'))
    with pytest.raises(
        Refusal, match=r"adds rows to model.embed_tokens.weight and to lm_head.weight, but is kept off lm_head.weight"
    ):
        persona.build(repo, tmp_path / "out")
    repo.recipe_path.write_text(text.replace("alpha = 1.0", 'alpha = 1.0\nonly = ["model.layers.*"]'))
    persona.build(repo, tmp_path / "out")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == VOCAB


def test_tokenizer_files_that_mean_the_same_do_not_quarrel(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    for number in (1, 2):
        run = grown(tmp_path / f"run{number}", spoken, ["<listen>"], number)
        words = AutoTokenizer.from_pretrained(run)
        words.model_max_length = 100 * number
        words.save_pretrained(run)
        table = json.loads((run / "tokenizer.json").read_text())
        table["truncation"] = {"direction": "Right", "max_length": number, "strategy": "LongestFirst", "stride": 0}
        (run / "tokenizer.json").write_text(json.dumps(table))
        persona.commit(repo, run, name=f"run{number}")
    persona.build(repo, tmp_path / "out")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == VOCAB + 1


def test_settings_at_different_depths_are_a_conflict(make_repo: MakeRepo, models: TinyModels, tmp_path: Path) -> None:
    def copied(source: Path, folder: Path, value: object) -> Path:
        shutil.copytree(source, folder)
        config = json.loads((folder / "config.json").read_text())
        config["extra_table"] = value
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    repo = make_repo(copied(models.base(), tmp_path / "base", {"kind": "x", "factor": 4}))
    persona.commit(repo, copied(models.run(1), tmp_path / "one", {"kind": "x", "factor": 8}), name="one")
    persona.commit(repo, copied(models.run(2), tmp_path / "two", "plain"), name="two")
    with pytest.raises(Refusal, match=r"'one' and 'two' set extra_table in config\.json differently"):
        persona.build(repo, tmp_path / "out")
