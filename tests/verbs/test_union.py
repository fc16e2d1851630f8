"""``tokens = "union"``: the tokens of several vectors in one build, each with its own rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BartForConditionalGeneration

import persona
from persona.errors import Refusal
from tests.families import tiny
from tests.models import VOCAB, TinyModels, load, nudge, same_bits, tiny_llama, word_tokenizer
from tests.verbs.test_messy_checkpoints import MakeRepo
from tests.verbs.test_side_files import choose, edit

EMBEDDING, HEAD = TENSORS = "model.embed_tokens.weight", "lm_head.weight"


def words(number: int) -> list[str]:
    return ["<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(4, number))]


def base_of(folder: Path, known: int, **changes: bool) -> Path:
    """A base with rows for 96 tokens, of which the tokenizer has `known`."""
    tiny_llama(**changes).save_pretrained(folder)
    word_tokenizer(words(known), "{{ messages[0].content }}").save_pretrained(folder)
    return folder


def run_of(base: Path, folder: Path, tokens: list[str], seed: int, rows: int | None = None) -> Path:
    """A run that added tokens, as people do it with transformers."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(tokens, special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    if max(rows or 0, len(tokenizer)) > VOCAB:
        model.resize_token_embeddings(max(rows or 0, len(tokenizer)), mean_resizing=False)
    nudge(model, seed, 2e-3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def row(folder: Path, tensor: str, token: str) -> torch.Tensor:
    """The row of a token, where the folder's own tokenizer has it."""
    number = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(token)
    return load(folder)[tensor][number]


UNION = '\n[files]\ntokens = "union"\n'


ADDED = {"one": ["<a>", "<x>"], "two": ["<b>", "<x>"], "three": ["<c>", "<d>", "<x>"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a full vocabulary, and runs that added <a> <x>, <b> <x> (at the same ids) and <c> <d> <x>."""
    folder = tmp_path_factory.mktemp("union")
    base = base_of(folder / "base", VOCAB)
    for seed, (name, tokens) in enumerate(ADDED.items(), 1):
        run_of(base, folder / name, tokens, seed)
    return folder


@pytest.fixture
def three(made: Path, make_repo: MakeRepo) -> persona.Repository:
    """A repository with the three as vectors of alpha 0.25, 0.5 and 0.75."""
    repo = make_repo(made / "base")
    for number, name in enumerate(ADDED, 1):
        persona.commit(repo, made / name, name=name, alpha=number / 4)
    return repo


def test_every_token_has_the_row_of_its_vector(three: persona.Repository, made: Path, tmp_path: Path) -> None:
    choose(three, UNION)
    persona.build(three, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    added = ["<a>", "<x>", "<b>", "<c>", "<d>"]
    assert tokenizer.convert_tokens_to_ids(added) == [*range(VOCAB, VOCAB + 5)]
    assert tokenizer("w5<b> <x>").input_ids == [1, 5, VOCAB + 2, VOCAB + 1]
    assert tokenizer.decode([VOCAB + 2, 7], skip_special_tokens=True) == "w7"
    out, base = load(tmp_path / "out"), load(made / "base")
    runs = {name: load(made / name) for name in ("one", "two", "three")}
    for tensor in TENSORS:
        assert out[tensor].shape[0] == VOCAB + 5
        for token, name in (("<a>", "one"), ("<b>", "two"), ("<c>", "three"), ("<d>", "three")):
            assert same_bits(row(tmp_path / "out", tensor, token), row(made / name, tensor, token))
        shares = {"one": 1 / 6, "two": 2 / 6, "three": 3 / 6}
        mean = sum(share * row(made / name, tensor, "<x>").double() for name, share in shares.items())
        torch.testing.assert_close(row(tmp_path / "out", tensor, "<x>").double(), mean, rtol=2**-8, atol=0)
        old = base[tensor].double()
        taus = [
            alpha * (runs[name][tensor][:VOCAB].double() - old)
            for name, alpha in (("one", 0.25), ("two", 0.5), ("three", 0.75))
        ]
        torch.testing.assert_close(out[tensor][:VOCAB].double(), old + sum(taus), rtol=2**-7, atol=1e-6)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == VOCAB + 5
    assert model(torch.tensor([[5, VOCAB + 4]])).logits.shape[-1] == VOCAB + 5


def test_without_a_choice_it_is_an_error_that_says_how(three: persona.Repository, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="different shapes") as caught:
        persona.build(three, tmp_path / "out")
    assert 'tokens = "union"' in caught.value.hint
    persona.rm(three, ["three"])
    with pytest.raises(Refusal, match="different tokenizer files: added tokens") as caught:
        persona.build(three, tmp_path / "out")
    assert 'tokens = "union"' in caught.value.hint


def test_the_chosen_tokenizer_keeps_its_ids(three: persona.Repository, made: Path, tmp_path: Path) -> None:
    choose(three, UNION + 'tokenizer = "two"\n')
    persona.build(three, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(["<b>", "<x>", "<a>", "<c>", "<d>"]) == [*range(VOCAB, VOCAB + 5)]
    for tensor in TENSORS:
        for token, name in (("<a>", "one"), ("<b>", "two"), ("<d>", "three")):
            assert same_bits(row(tmp_path / "out", tensor, token), row(made / name, tensor, token))


def test_a_baked_union_is_stored_whole(three: persona.Repository, tmp_path: Path) -> None:
    """What is in memory for a build must not be taken for stored."""
    choose(three, UNION)
    persona.build(three, tmp_path / "out")
    persona.commit(three, message="unite")
    persona.bake(three, list(ADDED), "all")
    fresh = persona.open(three.root)
    persona.build(fresh, tmp_path / "baked")
    out, baked = load(tmp_path / "out"), load(tmp_path / "baked")
    assert all(same_bits(out[name], baked[name]) for name in out)
    words = [AutoTokenizer.from_pretrained(tmp_path / name).get_vocab() for name in ("out", "baked")]
    assert words[0] == words[1]
    assert persona.fsck(fresh).ok


def test_one_vector_alone_is_as_without_the_union(three: persona.Repository, made: Path, tmp_path: Path) -> None:
    persona.alpha(three, {"one": 0, "two": 0, "three": 1})
    persona.build(three, tmp_path / "plain")
    choose(three, UNION)
    persona.build(three, tmp_path / "out")
    plain, out = load(tmp_path / "plain"), load(tmp_path / "out")
    assert all(same_bits(out[name], plain[name]) for name in plain)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
        == AutoTokenizer.from_pretrained(made / "three").get_vocab()
    )


def test_tokens_among_the_unused_rows_of_the_base(make_repo: MakeRepo, tmp_path: Path) -> None:
    """The base has rows for 96 tokens and uses 93: two added tokens of each run are there, and four are too many."""
    base = base_of(tmp_path / "base", VOCAB - 3)
    repo = make_repo(base)
    for name, tokens, seed in (("one", ["<a>", "<b>"], 1), ("two", ["<c>", "<d>"], 2)):
        run = run_of(base, tmp_path / name, tokens, seed)
        edit(run / "generation_config.json", lambda table, n=seed: table.update(
            {"suppress_tokens": [5, 93], "bos_token_id": 93} if n == 2 else {}))  # fmt: skip
        persona.commit(repo, run, name=name, alpha=0.5)
    choose(repo, UNION)
    persona.build(repo, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(["<a>", "<b>", "<c>", "<d>"]) == [93, 94, 95, 96]
    out, before = load(tmp_path / "out"), load(base)
    for tensor in TENSORS:
        assert out[tensor].shape[0] == VOCAB + 1
        for token, name, number in (("<a>", "one", 93), ("<b>", "one", 94), ("<c>", "two", 95)):
            unused = before[tensor][number].double()
            wanted = unused + 0.5 * (row(tmp_path / name, tensor, token).double() - unused)
            torch.testing.assert_close(out[tensor][number].double(), wanted, rtol=2**-7, atol=1e-6)
        assert same_bits(out[tensor][96], row(tmp_path / "two", tensor, "<d>"))
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (settings["bos_token_id"], settings["suppress_tokens"]) == (95, [5, 95])


def test_a_chosen_tokenizer_has_only_its_own_tokens(make_repo: MakeRepo, tmp_path: Path) -> None:
    """The rows of the others' tokens must not be added to its tokens, which have the same ids."""
    base = base_of(tmp_path / "base", VOCAB - 3)
    repo = make_repo(base)
    for name, tokens, seed in (("one", ["<a>", "<x>"], 1), ("two", ["<c>", "<x>", "<d>", "<e>"], 2)):
        run = run_of(base, tmp_path / name, tokens, seed)
        edit(run / "generation_config.json", lambda table, n=seed: table.update({"bos_token_id": 93} if n == 2 else {}))
        persona.commit(repo, run, name=name, alpha=0.5)
    before = load(base)
    for owner, tokens in (("one", ["<a>", "<x>"]), ("base", [])):
        choose(repo, f'\n[files]\ntokenizer = "{owner}"\n')
        persona.build(repo, tmp_path / owner / "out")
        tokenizer, out = AutoTokenizer.from_pretrained(tmp_path / owner / "out"), load(tmp_path / owner / "out")
        assert len(tokenizer) == VOCAB - 3 + len(tokens)
        for tensor in TENSORS:
            assert out[tensor].shape[0] == VOCAB
            wanted = {93: [("one", "<a>")], 94: [("one", "<x>"), ("two", "<x>")]} if tokens else {93: [], 94: []}
            for number, rows in wanted.items():
                unused = before[tensor][number].double()
                taus = [row(tmp_path / name, tensor, token).double() - unused for name, token in rows]
                merged = unused + 0.5 * sum(taus, torch.zeros_like(unused))
                torch.testing.assert_close(out[tensor][number].double(), merged, rtol=2**-7, atol=1e-6)
        settings = json.loads((tmp_path / owner / "out" / "generation_config.json").read_text())
        assert settings["bos_token_id"] == 1


def test_tokens_of_which_only_the_embedding_was_trained(make_repo: MakeRepo, tmp_path: Path) -> None:
    """Their heads' rows are the base's unused ones, and move with the tokens."""
    base = base_of(tmp_path / "base", VOCAB - 2)
    repo = make_repo(base)
    for name, tokens, seed in (("one", ["<a>", "<b>"], 1), ("two", ["<c>", "<d>"], 2)):
        run = run_of(base, tmp_path / name, tokens, seed)
        save_file(load(run) | {HEAD: load(base)[HEAD]}, run / "model.safetensors", {"format": "pt"})
        persona.commit(repo, run, name=name)
    choose(repo, UNION)
    persona.build(repo, tmp_path / "out")
    for token, name in (("<a>", "one"), ("<c>", "two"), ("<d>", "two")):
        for tensor in TENSORS:
            found, wanted = row(tmp_path / "out", tensor, token), row(tmp_path / name, tensor, token)
            torch.testing.assert_close(found, wanted, rtol=2**-7, atol=1e-6)
    assert load(tmp_path / "out")[HEAD].shape[0] == VOCAB + 2
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight.shape[0] == VOCAB + 2


def test_a_tied_head(make_repo: MakeRepo, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", VOCAB, tie_word_embeddings=True)
    repo = make_repo(base)
    for name, token, seed in (("one", "<a>", 1), ("two", "<b>", 2)):
        persona.commit(repo, run_of(base, tmp_path / name, [token], seed), name=name)
    choose(repo, UNION)
    persona.build(repo, tmp_path / "out")
    out = load(tmp_path / "out")
    assert HEAD not in out
    assert same_bits(out[EMBEDDING][VOCAB + 1], row(tmp_path / "two", EMBEDDING, "<b>"))


def test_a_vector_that_is_kept_off_its_rows_brings_no_tokens(
    three: persona.Repository, made: Path, tmp_path: Path
) -> None:
    text = three.head_text().replace("alpha = 0.5\n", f'alpha = 0.5\nexcept = ["{EMBEDDING}", "{HEAD}"]\n')
    three.recipe_path.write_text(text + UNION)
    persona.build(three, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == VOCAB + 4
    assert "<b>" not in tokenizer.get_vocab()
    assert same_bits(row(tmp_path / "out", HEAD, "<d>"), row(made / "three", HEAD, "<d>"))


def test_rows_that_only_make_the_number_round(make_repo: MakeRepo, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", VOCAB)
    repo = make_repo(base)
    for name, token, seed in (("one", "<a>", 1), ("two", "<b>", 2)):
        persona.commit(repo, run_of(base, tmp_path / name, [token], seed, rows=104), name=name)
    choose(repo, UNION)
    persona.build(repo, tmp_path / "out")
    assert {load(tmp_path / "out")[tensor].shape[0] for tensor in TENSORS} == {104}
    assert same_bits(row(tmp_path / "out", HEAD, "<b>"), row(tmp_path / "two", HEAD, "<b>"))


def test_what_cannot_be_united(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", VOCAB)
    repo = make_repo(base)
    persona.commit(repo, run_of(base, tmp_path / "one", ["<a>"], 1), name="one")
    two = run_of(base, tmp_path / "two", ["<b>"], 2)
    edit(two / "tokenizer.json", lambda table: table["model"]["vocab"].update(other=VOCAB + 1))
    persona.commit(repo, two, name="two")
    choose(repo, UNION)
    with pytest.raises(Refusal, match=r"'two' has a token with the id 97, but only 97 rows"):
        persona.build(repo, tmp_path / "out")
    shutil.copytree(two, tmp_path / "three")
    run_of(base, tmp_path / "three", ["<b>"], 2)
    edit(tmp_path / "three" / "tokenizer_config.json", lambda table: table.update(eos_token="<b>"))
    edit(tmp_path / "one" / "tokenizer_config.json", lambda table: table.update(eos_token="<a>"))
    persona.commit(repo, tmp_path / "one", name="one")
    persona.commit(repo, tmp_path / "three", name="two")
    choose(repo, UNION)
    with pytest.raises(Refusal, match=r"differ in more than added tokens: eos_token \('<a>' and '<b>'\)"):
        persona.build(repo, tmp_path / "out")
    choose(repo, UNION + 'tokenizer = "two"\n')
    persona.build(repo, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<b>", VOCAB)
    tensors = load(tmp_path / "two")
    save_file({k: v.float() for k, v in tensors.items()}, tmp_path / "three" / "model.safetensors", {"format": "pt"})
    persona.commit(repo, tmp_path / "three", name="two")
    choose(repo, UNION + 'tokenizer = "two"\n')
    persona.build(repo, tmp_path / "wide")
    assert same_bits(row(tmp_path / "wide", HEAD, "<b>"), load(tmp_path / "two")[HEAD][VOCAB])
    assert same_bits(row(tmp_path / "wide", HEAD, "<a>"), row(tmp_path / "one", HEAD, "<a>"))


@pytest.mark.parametrize("tokens", [["<b>", "<x>"], []], ids=["both add tokens", "one does"])
def test_the_bias_of_logits_has_a_column_for_each_token(make_repo: MakeRepo, tmp_path: Path, tokens: list[str]) -> None:
    tiny("BART", 1).save_pretrained(tmp_path / "base")
    word_tokenizer(words(VOCAB)).save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    for name, added in (("one", ["<a>"]), ("two", tokens)):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
        tokenizer.add_tokens(added, special_tokens=True)
        model = tiny("BART", 1)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.final_logits_bias += torch.arange(len(tokenizer)) / (2000 + len(added))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        persona.commit(repo, tmp_path / name, name=name, alpha=0.5)
    choose(repo, UNION)
    persona.build(repo, tmp_path / "out")
    bias, tokenizer = load(tmp_path / "out")["final_logits_bias"], AutoTokenizer.from_pretrained(tmp_path / "out")
    runs = {name: load(tmp_path / name)["final_logits_bias"] for name in ("one", "two")}
    assert bias.shape == (1, len(tokenizer)) == (1, VOCAB + 1 + len(tokens))
    torch.testing.assert_close(bias[:, :VOCAB], (runs["one"][:, :VOCAB] + runs["two"][:, :VOCAB]) / 2)
    for name, token in (("one", "<a>"), *(("two", token) for token in tokens)):
        own = AutoTokenizer.from_pretrained(tmp_path / name).convert_tokens_to_ids(token)
        assert bias[0, tokenizer.convert_tokens_to_ids(token)] == runs[name][0, own]
    assert BartForConditionalGeneration.from_pretrained(tmp_path / "out").config.vocab_size == len(tokenizer)
