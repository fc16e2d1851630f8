"""Measures by hand-worked numbers, by transformers' own loss and torch's own divergence, and one contract for all of them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from persona.errors import UsageError
from persona.evaluate import measures
from persona.evaluate.measures import Look, Reference, Sums
from persona.evaluate.measures.degeneration import generate, unique
from persona.evaluate.rows import SuiteRow, read_rows
from persona.evaluate.tokens import encode
from tests.evaluate import small
from tests.readout.made import by_chance

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one

DIALOGUES = [
    SuiteRow(str(n), one["prompt"], one["completion"], fields=one) for n, one in enumerate(small.dialogues(9, 1))
]
TEXTS = [SuiteRow(str(n), text=text) for n, text in enumerate(small.texts(7, 2))]
CHATS = [
    SuiteRow(str(n), messages=({"role": "user", "content": text}, {"role": "assistant", "content": "w1 w2 w3"}))
    for n, text in enumerate(small.texts(5, 3))
]
SETTINGS: dict[str, dict[str, Any]] = {
    "degeneration": {"tokens": 10},
    "replies": {"tokens": 10, "matches": "w1"},
    "python": {"function": "tests.evaluate.judge:score"},
}
ROWS = {"divergence": TEXTS, "forgetting": TEXTS, "readout": TEXTS}
V = small.vocabulary()
READS = small.Reads(by_chance((0,)))


def run(
    name: str, live: Any, rows: list[SuiteRow] | None = None, base: Any = None, *, batch_size: int = 4,
    reads: Any = READS, **said: Any,
) -> dict[str, Sums]:  # fmt: skip
    """A measure's sums by their names, compared with ``base`` (or itself) where it compares."""
    module: Any = measures.load(name)
    rows = rows or ROWS.get(name, DIALOGUES)
    settings = {key: one.default for key, one in module.SETTINGS.items()} | SETTINGS.get(name, {}) | said
    reference = Reference(io.BytesIO())
    if measures.refers(module):
        module.refer(Look(base or live, 0, batch_size, reads=reads), rows, settings, reference)
    found = module.measure(Look(live, 0, batch_size, reference, reads=reads), rows, settings)
    return {one.name: one for one in found}


def value(sums: Sums) -> float:
    return math.fsum(sums.totals) / math.fsum(sums.counts)


@pytest.mark.parametrize("name", measures.names())
def test_every_measure_holds_the_contract(name: str) -> None:
    module = measures.load(name)
    assert (module.__doc__ or "").startswith(f"{name}: ")
    assert module.SUMMARY.endswith(".")
    assert module.VERSION >= 1
    for key, setting in module.SETTINGS.items():
        assert setting.summary.endswith("."), key
    found = run(name, small.live(small.model(1)), base=small.live())
    assert found
    rows = len(ROWS.get(name, DIALOGUES))
    for one in found.values():
        assert one.better in ("lower", "higher", None)
        assert len(one.totals) == len(one.counts)
        assert len(one.totals) == rows or name == "forgetting"
        assert all(math.isfinite(total) for total in one.totals)
        assert all(count > 0 for count in one.counts)
        assert one.unit


@pytest.mark.parametrize("name", measures.names())
def test_padding_side_and_batch_size_do_not_matter(name: str) -> None:
    model, base = small.model(3), small.model(4)
    wanted = run(name, small.live(model), base=small.live(base), batch_size=1)
    for side, batch_size in (("right", 3), ("left", 5), ("left", 64)):
        found = run(name, small.live(model, side), base=small.live(base, side), batch_size=batch_size)
        for key, one in wanted.items():
            assert found[key].totals == pytest.approx(one.totals, abs=1e-4), key
            assert found[key].counts == one.counts


@pytest.mark.parametrize("name", measures.names())
def test_it_says_of_every_row_that_it_is_done(name: str) -> None:
    done: list[int] = []

    class Task:
        def advance(self, amount: int) -> None:
            done.append(amount)

    module: Any = measures.load(name)
    rows, live = ROWS.get(name, DIALOGUES), small.live()
    settings = {key: one.default for key, one in module.SETTINGS.items()} | SETTINGS.get(name, {})
    reference = Reference(io.BytesIO())
    if measures.refers(module):
        module.refer(Look(live, 0, 4, reads=READS), rows, settings, reference)
    module.measure(Look(live, 0, 4, reference, Task(), READS), rows, settings)
    assert sum(done) == len(rows)


@pytest.mark.parametrize("rows", [DIALOGUES, TEXTS, CHATS], ids=["dialogues", "texts", "chats"])
def test_a_model_that_knows_nothing_loses_log_v_a_token(rows: list[SuiteRow]) -> None:
    found = run("loss", small.live(small.flat()), rows)["loss"]
    assert value(found) == pytest.approx(math.log(V), abs=1e-6)
    assert found.totals == pytest.approx([math.log(V) * count for count in found.counts], abs=1e-5)


def test_which_tokens_are_the_answer() -> None:
    live = small.live()
    words = live.tokenizer.convert_ids_to_tokens
    (asked, text, chat) = encode(
        live,
        [
            SuiteRow("1", "w5 w6", " w7 w8"),
            SuiteRow("2", text="w5 w6"),
            SuiteRow("3", messages=({"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6 w7"})),
        ],
    )
    assert words(asked.tokens) == ["<s>", "w5", "w6", "w7", "w8", "</s>"]
    assert words(asked.tokens[asked.answer_at :]) == ["w7", "w8", "</s>"]
    assert words(text.tokens[text.answer_at :]) == ["w5", "w6"]
    assert words(chat.tokens) == ["<s>", "user", ":", "w5", "</s>", "assistant", ":", "w6", "w7", "</s>"]
    assert words(chat.tokens[chat.answer_at :]) == ["w6", "w7", "</s>"]


def gpt2() -> Any:
    """Learned positions, tied embeddings: another family."""
    torch.manual_seed(5)
    settings = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=V, n_positions=64, bos_token_id=1, eos_token_id=2)
    return GPT2LMHeadModel(settings).eval().requires_grad_(False)


@pytest.mark.parametrize("make", [small.model, gpt2])
@pytest.mark.parametrize("rows", [DIALOGUES, CHATS], ids=["dialogues", "chats"])
def test_the_loss_is_transformers_own(make: Callable[[], Any], rows: list[SuiteRow]) -> None:
    live = small.live(make())
    found = run("loss", live, rows)["loss"]
    for at, one in enumerate(encode(live, rows)):
        tokens = torch.tensor([one.tokens])
        labels = tokens.clone()
        labels[0, : one.answer_at] = -100
        theirs = float(live.model(input_ids=tokens, labels=labels).loss)
        assert found.totals[at] / found.counts[at] == pytest.approx(theirs, rel=1e-5)


def test_the_divergence_is_torchs_own() -> None:
    base, model = small.model(1), small.model(2)
    found = run("divergence", small.live(model), base=small.live(base))
    agree = tokens = 0
    for at, one in enumerate(encode(small.live(), TEXTS)):
        text = torch.tensor([one.tokens])
        p, q = (each(input_ids=text).logits[0, :-1].log_softmax(-1) for each in (base, model))
        theirs = functional.kl_div(q, p, reduction="sum", log_target=True)
        assert found["kl"].totals[at] == pytest.approx(float(theirs), rel=1e-4)
        agree += int((p.argmax(-1) == q.argmax(-1)).sum())
        tokens += len(p)
    assert value(found["top1"]) == agree / tokens


def test_a_model_is_not_divergent_from_itself() -> None:
    found = run("divergence", small.live(small.model(1)))
    assert value(found["kl"]) == pytest.approx(0, abs=1e-6)
    assert value(found["top1"]) == 1


def test_the_divergence_of_a_known_pair_of_distributions() -> None:
    """A base that knows nothing, and a model that doubles the odds of one token everywhere: KL = Σ 1/V (log 1/V − log q)."""

    class Sure(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.config = inner, inner.config

        def forward(self, **inputs: Any) -> Any:
            out = self.inner(**inputs)
            out.logits[..., 7] += math.log(2)
            return out

        def get_input_embeddings(self) -> Any:
            return self.inner.get_input_embeddings()

    found = run("divergence", small.live(Sure(small.flat())), base=small.live(small.flat()))
    q = 1 / (V + 1)
    by_hand = (V - 1) / V * (math.log(1 / V) - math.log(q)) + 1 / V * (math.log(1 / V) - math.log(2 * q))
    assert value(found["kl"]) == pytest.approx(by_hand, rel=1e-3)


def test_tokens_that_only_the_model_has_add_nothing() -> None:
    base, model = small.flat(), small.flat()
    model.resize_token_embeddings(V + 4, mean_resizing=False)
    model.lm_head.weight.zero_()
    found = run("divergence", small.live(model), base=small.live(base))
    assert value(found["kl"]) == pytest.approx(math.log((V + 4) / V), rel=1e-4)


def test_a_text_that_is_read_otherwise_than_by_the_base_is_named() -> None:
    other = small.live()
    other.tokenizer.add_tokens(["w5 w6"])
    with pytest.raises(UsageError, match="and the base tokenize this text differently"):
        run("divergence", other, [SuiteRow("here", text="w4 w5 w6")], base=small.live())


class Numbers:
    """A readout whose projections are given, of the base and then of the model."""

    id, concepts, answers = "numbers", ("warmth", "calm"), False

    def __init__(self, *found: Sequence[Sequence[float]]) -> None:
        self.found = [np.array(one, np.float32).T for one in found]

    def project(self, live: Any, tokens: Any, marks: Any, batch_size: int, done: Any) -> Any:
        return self.found.pop(0)


def test_shifts_by_hand() -> None:
    """a = 0, 2, 4 has the deviation 2, and b − a = 1, 2, 3 is ½, 1, 3/2 of it; what is the same in all texts has no unit."""
    reads = Numbers([(0, 2, 4), (5, 5, 5)], [(1, 4, 7), (6, 7, 8)])
    found = run("readout", small.live(), TEXTS[:3], reads=reads, better="higher")
    assert list(found) == ["warmth", "calm"]
    assert found["warmth"] == Sums("warmth", "higher", "std", [0.5, 1.0, 1.5], [1.0] * 3)
    assert value(found["warmth"]) == 1
    assert all(math.isnan(one) for one in found["calm"].totals)
    assert run("readout", small.live(), TEXTS[:3])["warmth"].better is None


@torch.inference_mode()
def pooled(model: Any, tokens: Sequence[int], counts: Sequence[int]) -> Any:
    """The mean of the stream after block 0 over the tokens that count, by transformers alone."""
    streams = model(torch.tensor([list(tokens)]), output_hidden_states=True).hidden_states
    return streams[1][0, list(counts)].double().mean(0).numpy()


@pytest.mark.parametrize("answers", [False, True])
def test_which_tokens_a_readout_reads(answers: bool) -> None:
    """Of messages and of a completion the assistant's, where the readout is of those; of a text all."""
    rows = [CHATS[0], SuiteRow("1", "w5 w6", " w7 w8"), SuiteRow("2", text="w1 w2 w3")]
    base, model = small.model(1), small.model(2)
    reads = replace(READS, answers=answers)
    found = run("readout", small.live(model), rows, small.live(base), reads=reads)
    words = small.tokenizer()
    chat = words.apply_chat_template([dict(one) for one in CHATS[0].messages], tokenize=False)
    tokens = [words(chat, add_special_tokens=False)["input_ids"], words("w5 w6 w7 w8")["input_ids"],
              words("w1 w2 w3")["input_ids"]]  # fmt: skip
    counts = [range(len(one)) for one in tokens]
    if answers:
        counts[0], counts[1] = range(len(tokens[0]) - 4, len(tokens[0])), range(3, 5)  # w1 w2 w3 </s>; w7 w8
    for row, concept in enumerate(READS.concepts):
        along = READS.readout.vectors[0][row].astype(np.float64)
        a, b = (
            np.array([pooled(each, one, count) @ along for one, count in zip(tokens, counts, strict=True)])
            for each in (base, model)
        )
        # Projections of size 1 in fp32 are right to 1e-6 (a few layers' rounding); the deviation divides that.
        assert found[concept].totals == pytest.approx((b - a) / a.std(ddof=1), rel=0, abs=2e-6 / a.std(ddof=1))


def test_forgetting_cuts_a_text_into_windows() -> None:
    text = " ".join(small.WORDS[:22])  # 23 tokens with <s>: windows of 10, 10 and 3
    found = run("forgetting", small.live(small.flat()), [SuiteRow("1", text=text)], window=10)["loss"]
    assert found.counts == [9, 9, 2]
    assert value(found) == pytest.approx(math.log(V), abs=1e-6)
    found = run("forgetting", small.live(small.flat()), [SuiteRow("1", text=" ".join(["w1"] * 100))], window=1000)[
        "loss"
    ]
    assert found.counts == [63, 36]  # the model reads 64


def test_repetition_and_variety_by_hand() -> None:
    assert unique([1, 2, 3, 1, 2, 3], 2) == 3 / 5  # 12 23 31 12 23
    assert unique([1, 1, 1, 1, 1, 1], 4) == 1 / 3
    assert unique([1, 2], 4) == 1


def test_greedy_is_transformers_own() -> None:
    live = small.live(small.model(6))
    said = generate(Look(live, batch_size=4), DIALOGUES, 12, 0.0)
    for row, ours in zip(DIALOGUES, said, strict=True):
        text = torch.tensor([live.tokenizer(row.prompt)["input_ids"]])
        made = live.model.generate(text, attention_mask=torch.ones_like(text), max_new_tokens=12, do_sample=False)
        assert ours == made[0, text.shape[1] :].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_how_the_model_likes_to_be_sampled_does_not_count(temperature: float) -> None:
    live = small.live(small.model(6))
    plain = generate(Look(live, batch_size=4), DIALOGUES, 12, temperature)
    own = GenerationConfig(do_sample=True, temperature=0.7, top_k=2, repetition_penalty=1.8, no_repeat_ngram_size=2)
    live.model.generation_config = own
    assert generate(Look(live, batch_size=4), DIALOGUES, 12, temperature) == plain
    assert live.model.generation_config is own


def says(word: int) -> Any:
    """A model that says one word for ever."""
    model = small.flat()
    model.model.norm.weight.fill_(0.0)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(V), requires_grad=False)
    model.lm_head.bias[word] = 5.0
    return model


def test_a_reply_ends_with_any_of_the_tokens_that_end_it() -> None:
    model = says(9)
    model.generation_config = GenerationConfig(eos_token_id=[2, 9])
    found = run("degeneration", small.live(model), tokens=11)
    assert (value(found["length"]), value(found["unended"]), value(found["special"])) == (0, 0, 0)


def test_a_model_that_says_one_word_for_ever_repeats_it() -> None:
    model = says(9)
    found = run("degeneration", small.live(model), tokens=11)
    assert value(found["repetition"]) == 1 - 1 / 8
    assert value(found["distinct"]) == 1 / 10
    assert (value(found["length"]), value(found["unended"]), value(found["special"])) == (11, 1, 0)
    model.lm_head.bias[2] = 50.0  # the end token at once
    found = run("degeneration", small.live(model), tokens=11)
    assert (value(found["length"]), value(found["unended"]), value(found["special"])) == (0, 0, 0)
    model.lm_head.bias[0] = 90.0  # nothing but padding, which is no answer
    found = run("degeneration", small.live(model), tokens=11)
    assert (value(found["special"]), value(found["unended"])) == (1, 1)


def test_samples_are_drawn_from_the_softmax() -> None:
    model = small.flat()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(V), requires_grad=False)
    model.lm_head.bias[9] = math.log(V)  # half of all, almost
    rows = [SuiteRow(str(n), "w1") for n in range(200)]
    said = generate(Look(small.live(model), seed=1, batch_size=64), rows, 5, 1.0)
    tokens = [token for one in said for token in one]
    share = tokens.count(9) / len(tokens)
    assert share == pytest.approx(V / (2 * V - 1), abs=0.06)
    assert said != generate(Look(small.live(model), seed=2, batch_size=64), rows, 5, 1.0)


def test_a_function_of_ones_own_is_found_and_what_it_gives_is_checked() -> None:
    found = run("python", small.live(), better="higher", unit="words")
    assert (found["words"].better, found["words"].unit) == ("higher", "words")
    assert found["words"].totals == [float(len((row.prompt or "").split())) for row in DIALOGUES]
    for function, said in (
        ("tests.evaluate.judge:few", "returned 1 numbers for 9 rows"),
        ("tests.evaluate.judge:none", "returned no numbers"),
        ("tests.evaluate.judge:alone", "returned 0 numbers for 9 rows"),
        ("tests.evaluate.judge:huge", "returned 0 numbers for 9 rows"),
        ("tests.evaluate.judge:late", "failed: ZeroDivisionError"),
        ("tests.evaluate.judge:fails", "failed: KeyError"),
        ("tests.evaluate.judge:nothing", "cannot be imported"),
        ("no.such.module:score", "cannot be imported"),
        ("nobody", "no entry point 'nobody'"),
    ):
        with pytest.raises(UsageError, match=said):
            run("python", small.live(), function=function)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("loss", SuiteRow("here", "w1"), "here has no 'completion'"),
        ("loss", SuiteRow("here", text=" ".join(["w1"] * 80)), "here has 81 tokens, but the context of model is 64"),
        (
            "loss",
            SuiteRow("here", messages=({"role": "user", "content": "w1"},)),
            "the last message is not a reply of the assistant",
        ),
        ("forgetting", SuiteRow("here", "w1", " w2"), "here has no 'text'"),
        ("forgetting", SuiteRow("here", text=" "), "here has no token to predict"),
        (
            "degeneration",
            SuiteRow("here", " ".join(["w1"] * 60)),
            "here has 61 tokens; 10 more exceed the context of model",
        ),
        ("readout", SuiteRow("here", text="w1"), "here is the only text"),
    ],
)
def test_a_row_that_cannot_be_measured_is_named(name: str, row: SuiteRow, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(name, small.live(), [row])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (SuiteRow("here", text=" ".join(["w1"] * 80)), "here has 81 tokens, but the context of model is 64"),
        (SuiteRow("here", messages=({"role": "user", "content": "w1"},)), "here: the assistant says nothing in it"),
        (SuiteRow("here", "w1"), "here: the assistant says nothing in it"),
    ],
)
def test_a_row_that_a_readout_cannot_read_is_named(row: SuiteRow, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run("readout", small.live(), [row, TEXTS[0]], reads=replace(READS, answers=True))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "x.jsonl:2 is not JSON"),
        (b"[]", "x.jsonl:2 is not a JSON object"),
        (b'{"answer": "x"}', "none of"),
        (b'{"prompt": "x", "text": "y"}', "'prompt' and 'text'"),
        (b'{"prompt": "x", "completion": 5}', "'completion' must be a non-empty string"),
        (b'{"messages": [{"role": "user"}]}', "x.jsonl:2: message 1 of 'messages' has no 'content'"),
        (b'{"chosen": "a", "rejected": "b"}', "x.jsonl:2 is a preference row"),
        (b'{"text": " "}', "'text' must be a non-empty string"),
    ],
)
def test_a_line_that_is_no_example_is_named(line: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_rows(Path("x.jsonl"), b'{"text": "one"}\n' + line + b"\n")


def test_rows_of_every_shape() -> None:
    talk = [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]
    chats = [
        {"messages": talk},
        {"conversations": [{"from": "human", "value": "a\nb"}, {"from": "gpt", "value": "c"}]},
        {"instruction": "a", "input": "b", "output": "c", "text": "d"},
        {"prompt": talk[:1], "completion": talk[1:]},
    ]
    rows = read_rows(Path("x.json"), json.dumps([{**chat, "tools": '[{"name": "f"}]'} for chat in chats]).encode())
    assert [list(row.messages) for row in rows] == [talk] * 4
    assert {row.tools[0]["function"]["name"] for row in rows} == {"f"}
    data = b'\xef\xbb\xbf{"prompt": "", "completion": "x"}\n\n{"text": "one\\u2028two", "more": 1}\n'
    one, two = read_rows(Path("x.jsonl"), data)
    assert (one.prompt, one.completion, one.where) == ("", "x", "x.jsonl:1")
    assert (two.text, two.fields["more"], two.where) == ("one\u2028two", 1, "x.jsonl:3")
    assert [row.text for row in read_rows(Path("a.txt"), b"one\ntwo\n")] == ["one\ntwo\n"]
    for name in ("x.jsonl", "x.txt"):
        with pytest.raises(UsageError, match="has no examples"):
            read_rows(Path(name), b"\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_rows(Path("x.jsonl"), b"\xff")
