"""Attention sinks are left out of every mean over tokens, and a readout from before that is read as it was made, and named.

The models are real Llamas with random weights, which have no sinks; a hook makes some, as long as those of SmolLM2.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import persona
from persona.cli.main import invoke
from persona.errors import CheckpointError, Refusal, UsageError
from persona.inference.blocks import find_blocks
from persona.inference.load import LoadedModel, from_folder
from persona.progress import SILENT
from persona.readout import capturing, sinks
from persona.readout.capture import pooled
from persona.readout.capturing import Captured, CaptureOptions, captured
from persona.readout.fitting import FitOptions
from persona.readout.folder import MANIFEST, read_readout, write_readout
from persona.readout.labels import labels_of
from persona.readout.model import Readout
from persona.readout.replies import judge
from persona.readout.score import projections
from persona.readout.select import select
from persona.readout.sinks import SinksLeftOut, in_words, is_earlier, left_out, only_sinks, ordinary
from persona.readout.training import FittedReadout, train
from tests.readout.handmade import handmade
from tests.readout.small import MARK, WORDS, examples, small_model, texts, written

SINK, SIZE = WORDS[7], 200.0
"""A word that is a sink wherever it is, as spaces are in SmolLM2; and how long sinks are, beside a length of about 1."""
FROM = 2
"""The first layer with sinks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("sinks") / "model")


@pytest.fixture
def live(folder: Path) -> LoadedModel:
    """A model with sinks: the first token of a text, with all that repeat it from the start, and SINK."""
    live = from_folder(folder, "sinks", "fp32")
    sink = live.tokenizer.convert_tokens_to_ids(SINK)
    along = torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(3)), dim=0)
    seen: dict[str, torch.Tensor] = {}

    def look(_module: Any, args: Any, inputs: dict[str, Any]) -> None:
        ids, mask = args[0] if args else inputs["input_ids"], inputs.get("attention_mask")
        real = torch.ones_like(ids) if mask is None else mask
        first = ids.gather(1, real.argmax(1, keepdim=True))
        begin = ((ids != first) & (real == 1)).cumsum(1) == 0
        seen["at"] = begin | (ids == sink)

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        return stream + seen["at"][:, :, None] * SIZE * along

    live.model.register_forward_pre_hook(look, with_kwargs=True)
    live.model.model.layers[FROM].register_forward_hook(add)
    return live


def capture(live: LoadedModel, out: Path, *sets: Any, pooling: str = "mean") -> tuple[Captured, FittedReadout]:
    how, blocks = CaptureOptions(pooling, batch_size=7), find_blocks(live.model)
    labels = labels_of([one for each in sets for one in each])
    with captured(live, blocks, range(4), labels, how, out / "out.partial", SILENT) as data:
        return data, train(data, FitOptions(), SILENT)


def made(data: Captured, done: FittedReadout, pooling: str = "mean") -> Readout:
    about = {**done.fields, "pooling": pooling, "sinks": data.sinks.manifest()}
    return Readout(tuple(one.concept for one in done.concepts), done.layers, done.vectors, about)


def test_the_first_and_those_beyond_the_median_by_hand() -> None:
    lengths = torch.tensor([[900.0, 1, 2, 3, 9, 7], [1, 1, 1, 1, 5, 0], [0, 0, 0, 0, 50, 3], [0, 0, 0, 0, 0, 8]])
    real = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]).bool()
    kept, usual = ordinary(lengths, real, 2.5)
    # of 1 2 3 9 7 the median is 3, and 9 is more than 7.5; of 1 1 1 5 it is 1; of 3 alone 3; of none there is none
    assert usual[:3].tolist() == [3, 1, 3]
    assert usual[3].isnan()
    assert kept.int().tolist() == [[0, 1, 1, 1, 0, 1], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0] * 6]
    whole, _ = ordinary(lengths, real, 2.5, begins=False)
    assert whole[1].int().tolist() == [1, 1, 1, 1, 0, 0]
    assert ordinary(torch.tensor([[1.0, 1, torch.inf, 1]]), torch.ones(1, 4).bool(), 4.0)[0].tolist() == [
        [False, True, True, True]  # an overflow stays, so that it is refused
    ]


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_pooled_by_hand(side: str) -> None:
    """Tokens 40 1 2 30 3 (and padding), one number wide; the marks are the last three."""
    numbers, marks, real = [40.0, 1, 2, 30, 3], [0, 0, 1, 1, 1], [1] * 5
    pad = (lambda row: [0, *row]) if side == "left" else (lambda row: [*row, 0])
    stream = torch.tensor([[[value] for value in pad(numbers)]])
    real, marks = (torch.tensor([pad(row)]).bool() for row in (real, marks))
    wanted = {  # row, tokens pooled, first left out, others left out
        ("mean", False): (2, 3, 1, 1), ("last", False): (3, 1, 0, 0), ("assistant", True): (2.5, 2, 0, 1),
    }  # fmt: skip
    for (pooling, marked), (value, *counts) in wanted.items():
        rows, facts = pooled(stream, real, marks if marked else real, pooling, 4.0)
        assert (rows.item(), facts[0].tolist()) == (value, [*counts, 40, 2])
    ended = torch.tensor([pad([1, 1, 1, 1, 0])]).bool()
    rows, facts = pooled(stream, ended, ended, "last", 4.0)  # the last one, 30, is a sink
    assert (rows.item(), facts[0].tolist()) == (2, [1, 0, 1, 40, 2])
    assert pooled(stream, real, real, "mean", None)[0].item() == pytest.approx(76 / 5)


def test_a_direction_is_found_where_a_mean_over_all_tokens_reads_length(
    live: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = texts(60, 1, MARK, MARK, least=4), texts(60, 2, least=4)
    data, done = capture(live, tmp_path, examples("marked", ours, theirs))
    (one,) = done.concepts
    assert all((quality.auc or 0) > 0.85 for quality in one.layers)
    assert data.sinks.first == len(ours) + len(theirs)
    assert data.sinks.others == (0, 0, *[sum(text.split().count(SINK) for text in ours + theirs)] * 2)
    assert data.sinks.first_length[FROM] > 100 > 3 > data.sinks.length[FROM]
    monkeypatch.setattr(capturing, "activations", functools.partial(capturing.activations, beyond=None))
    _, before = capture(live, tmp_path / "before", examples("marked", ours, theirs))
    earlier = Readout(("marked",), before.layers, before.vectors, {**before.fields, "pooling": "mean"})
    lengths = [len(text.split()) for text in theirs]
    for readout, least, most in ((made(data, done), 0, 0.3), (earlier, 0.6, 1)):
        read = projections(live, readout, theirs)[:, 0, FROM]
        assert least <= abs(np.corrcoef(read, lengths)[0, 1]) <= most
    assert earlier.about["spreads"][0][FROM] > 20 * done.fields["spreads"][0][FROM]


def test_all_ways_to_read_a_text_leave_out_the_same(live: LoadedModel, tmp_path: Path) -> None:
    data, done = capture(live, tmp_path, examples("marked", texts(9, 1, MARK), texts(9, 2)))
    readout = made(data, done)
    text = f"w1 w2 {SINK} w3 w4 {SINK} w5"
    tokens = live.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        states = live.model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
        with persona.readout.watch(live.model, readout) as r:
            live.model(input_ids=torch.tensor([[0, 0, *tokens]]), attention_mask=torch.tensor([[0, 0] + [1] * 8]))
    scored = projections(live, readout, [text])
    prompt, reply = tokens[:3], tokens[3:]
    judged = judge(live, select(readout, layers=[0, 1, 2]), [prompt], [reply], batch_size=1)
    for layer in range(3):
        alone = states[layer + 1][0].numpy()
        words = [1, 2, 3, 4, 5, 6, 7] if layer < FROM else [1, 2, 4, 5, 7]
        wanted = alone[words].mean(0) @ readout.vectors[layer].T
        assert scored[0, :, layer] == pytest.approx(wanted, abs=1e-3)
        said = alone[[place for place in words if place > 2]].mean(0) @ readout.vectors[layer].T
        center, spread = (readout.about[name][0][layer] for name in ("centers", "spreads"))
        assert judged.scores[0, :, layer] == pytest.approx((said - center) / spread, abs=1e-2)
        # the padded pass has other positions, so only the tokens are compared
        assert r.averaged[layer][0].nonzero().flatten().tolist() == [place + 2 for place in words]
        assert r.mean()[layer][0].tolist() == pytest.approx(
            r.whole()[layer][0][r.averaged[layer][0]].mean(0).tolist(), abs=1e-3
        )


def test_generated_tokens_are_averaged_without_those_of_the_prompt(live: LoadedModel, tmp_path: Path) -> None:
    data, done = capture(live, tmp_path, examples("marked", texts(9, 1, MARK), texts(9, 2)))
    readout = made(data, done)
    prompt = torch.tensor([live.tokenizer("w1 w2")["input_ids"]])
    asked = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with persona.readout.watch(live.model, readout, layers=[1]) as r:
        live.model.generate(input_ids=prompt, **asked)
    assert r.averaged[1][0].tolist() == [False, *[True] * 5]
    assert r.mean(generated=True)[1] == pytest.approx(r.whole()[1][:, 3:].mean(1), abs=1e-4)
    with persona.readout.watch(live.model, readout, layers=[1], keep=2) as r:
        live.model.generate(input_ids=prompt, **asked)
    assert r.averaged[1][0].tolist() == [True, True]  # the beginning was not kept
    with persona.readout.watch(live.model, readout) as r:
        live.model(input_ids=prompt[:, :1])
    with pytest.raises(Refusal, match="no tokens to average over"):
        r.mean()


def test_texts_of_nothing_but_sinks_are_left_out_of_training_and_refused_in_reading(
    live: LoadedModel, tmp_path: Path
) -> None:
    """A tokenizer puts <s> first, so these texts repeat their first token, which says nothing."""
    ours, theirs = texts(9, 1, MARK), texts(9, 2)
    plain, wanted = capture(live, tmp_path / "a", examples("marked", ours, theirs))
    data, done = capture(live, tmp_path / "b", examples("marked", [*ours, "<s> <s> <s>", "<s>"], theirs))
    assert (data.sinks.texts, data.sinks.first) == (2, 18)
    assert done.vectors[3] == pytest.approx(wanted.vectors[3], abs=1e-5)
    assert data.sinks.length == pytest.approx(plain.sinks.length, rel=1e-4)
    readout = made(data, done)
    for text in ("<s> <s> <s>", "<s>"):
        with pytest.raises(UsageError, match="text 2 is nothing but attention sinks at layer 2") as caught:
            projections(live, readout, [ours[0], text])
        assert caught.value.hint
    with pytest.raises(UsageError, match="no positive texts of 'marked'"):
        capture(live, tmp_path / "c", examples("marked", ["<s> <s> <s>"], theirs))


def test_only_sinks_by_hand() -> None:
    usual, first = 100.0, 20_000.0
    assert only_sinks(20_000, 20_000, usual, first, 4.0)
    assert not only_sinks(20_000, 100, usual, first, 4.0)
    assert not only_sinks(500, 500, usual, 110, 4.0)  # the layer has no sinks: this text is merely long
    assert only_sinks(100, float("nan"), usual, 110, 4.0)


def test_the_manifest_and_the_command_say_what_was_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "pairs.jsonl", examples("marked", texts(9, 1, MARK), texts(9, 2)))
    typed = ["readout", "train", "--model", str(folder), "--pairs", "pairs.jsonl", "-o", "out", "--layers", "auto"]
    assert invoke(["-C", str(tmp_path), *typed]) == 0
    assert " attention sinks left out: 18 first tokens\n" in capsys.readouterr().out
    found = read_readout(tmp_path / "out")
    kept = left_out(found.about, found.layers)
    assert (kept.beyond, kept.texts, kept.first, len(kept.others)) == (sinks.BEYOND, 0, 18, len(found.layers))
    assert not is_earlier(found.about)


def test_in_words() -> None:
    kept = SinksLeftOut(4.0, 2, 640, (0, 831, 15), (2e4, 30, 60), (100, 20, 20))
    assert in_words(kept, (11, 12, 14)) == (
        "640 first tokens (200 × as long as the rest at layer 11), up to 831 others at layers 12, 14, 2 texts of nothing else"
    )
    assert in_words(SinksLeftOut(4.0, 0, 1, (0,), (1,), (1,)), (3,)) == "1 first token"
    assert in_words(SinksLeftOut(4.0, 0, 0, (1,), (1,), (0,)), (3,)) == "1 other at layer 3"
    assert in_words(SinksLeftOut(4.0, 0, 0, (0,), (0,), (0,)), (3,)) == "none"


def test_some_layers_of_a_readout_keep_what_is_said_of_them() -> None:
    kept = SinksLeftOut(4.0, 0, 5, (1, 2), (10, 20), (3, 4))
    found = select(handmade(sinks=kept.manifest()), ["calm"], [1])
    assert left_out(found.about, found.layers) == SinksLeftOut(4.0, 0, 5, (2,), (20,), (4,))


@pytest.mark.parametrize(
    "field",
    [None, [], {}, {"beyond": 4.0}, {"beyond": 1}, {"others": [0]}, {"others": [0, True]}, {"length": [1, -1]}, {"first": "5"},
     {"first_length": 3}],
)  # fmt: skip
def test_a_malformed_field_is_named(field: Any, tmp_path: Path) -> None:
    good = SinksLeftOut(4.0, 0, 5, (1, 2), (10, 20), (3, 4)).manifest()
    known = field if not field or field == {"beyond": 4.0} else good | field
    readout = handmade(sinks=known)
    with pytest.raises(CheckpointError, match="'sinks' in the readout's manifest"):
        sinks.multiple(readout)


def test_a_readout_of_the_earlier_kind_is_named_and_steers_as_it_did(live: LoadedModel, tmp_path: Path) -> None:
    data, done = capture(live, tmp_path, examples("marked", texts(9, 1, MARK), texts(9, 2)))
    new = made(data, done)
    old = Readout(new.concepts, new.layers, new.vectors, {k: v for k, v in new.about.items() if k != "sinks"})
    said = "made before attention sinks .* Train it again with 'persona readout train'"
    with pytest.warns(UserWarning, match=said), persona.readout.steer(live.model, {"marked": 1.0}, old) as push:
        pass
    with persona.readout.steer(live.model, {"marked": 1.0}, new) as same:
        pass
    assert all(np.array_equal(push[layer], same[layer]) for layer in new.layers)
    last = Readout(old.concepts, old.layers, old.vectors, {**old.about, "pooling": "last"})
    foreign = Readout(old.concepts, old.layers, old.vectors, {})
    assert [is_earlier(one.about) for one in (old, new, last, foreign)] == [True, False, False, False]
    write_readout(tmp_path / "old", old)
    assert "sinks" not in json.loads((tmp_path / "old" / MANIFEST).read_text())
    with persona.readout.watch(live.model, read_readout(tmp_path / "old")) as r, torch.inference_mode():
        live.model(input_ids=torch.tensor([[1, 12, 13]]))
    assert r.mean()[3] == pytest.approx(r.whole()[3].mean(1), rel=1e-4)
