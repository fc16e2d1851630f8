"""Readouts of a real language model, with defaults: near-identical texts are told apart, whatever their lengths, and steering by
four standard deviations changes the mood of what is said, and not its sense.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import persona
from persona.inference.batches import tokens_of
from persona.inference.load import LoadedModel, from_folder
from persona.readout.folder import read_readout
from persona.readout.model import Readout
from persona.readout.pairs import LabelledText, write_pairs
from persona.readout.replies import Tokens, generate, judge, prompt_tokens
from persona.readout.score import projections
from persona.readout.sinks import in_words
from persona.verbs.readout.train import ReadoutTrainResult
from tests.real.contrasts import CERTAINTY, MOOD, PROMPTS, brightness, contrast, report

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def pairs() -> list[LabelledText]:
    return [*contrast("mood", MOOD, 80, 1), *contrast("certainty", CERTAINTY, 80, 2)]


@pytest.fixture(scope="module")
def trained(
    smollm: Path, pairs: list[LabelledText], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ReadoutTrainResult, Readout]:
    """At the default layers, 17 to 23."""
    folder = tmp_path_factory.mktemp("readout")
    write_pairs(folder / "pairs.jsonl", pairs)
    done = persona.readout_train(folder / "pairs.jsonl", folder / "out", smollm)
    return done, read_readout(folder / "out")


@pytest.fixture(scope="module")
def live(smollm: Path) -> LoadedModel:
    return from_folder(smollm, "SmolLM2", "fp32")


def best(readout: Readout, concept: str) -> int:
    layer: int = readout.about["best"][readout.row(concept)]
    return layer


def test_near_identical_texts_are_told_apart(trained: tuple[ReadoutTrainResult, Readout]) -> None:
    done, _ = trained
    for one in done.concepts:
        report(f"{one.concept}: best layer {one.best}, AUC {', '.join(f'{quality.auc:.2f}' for quality in one.layers)}")
        (at_best,) = (quality for quality in one.layers if quality.layer == one.best)
        assert one.verdict is None
        assert at_best.auc is not None
        assert at_best.auc >= 0.95
    report(f"left out: {in_words(done.sinks, done.layers)}")
    assert done.sinks.first == done.texts
    assert done.sinks.first_length[0] > 50 * done.sinks.length[0]


def test_the_length_of_a_text_is_not_read(
    trained: tuple[ReadoutTrainResult, Readout], live: LoadedModel, pairs: list[LabelledText]
) -> None:
    readout = trained[1]
    texts = [one.text for one in pairs]
    read = projections(live, readout, texts)
    lengths = np.array([len(tokens) for tokens in tokens_of(live, texts)])
    for row, concept in enumerate(readout.concepts):
        ours = np.array([one.concept == concept for one in pairs])
        values = read[:, row, readout.layers.index(best(readout, concept))]
        own, others = (np.corrcoef(values[some], lengths[some])[0, 1] for some in (ours, ~ours))
        report(f"{concept}: correlation with length {own:+.2f}, and {others:+.2f} over the texts of the other concept")
        assert abs(own) < 0.2


@dataclass(frozen=True)
class Said:
    """Replies to the prompts: how bright each is, and their perplexity in the model without steering, after the plain prompts."""

    bright: np.ndarray
    perplexity: float
    texts: Sequence[str]


def said(live: LoadedModel, readout: Readout, asked: Tokens, replies: Tokens) -> Said:
    texts = [live.need_tokenizer().decode(reply, skip_special_tokens=True) for reply in replies]
    judged = judge(live, readout, asked, replies, batch_size=16)
    return Said(np.array([brightness(text) for text in texts]), judged.perplexity, texts)


def test_steering_by_four_deviations_changes_the_mood_and_keeps_the_sense(
    trained: tuple[ReadoutTrainResult, Readout], live: LoadedModel
) -> None:
    readout = trained[1]
    layer = best(readout, "mood")
    plain = prompt_tokens(live, PROMPTS, 40, plain=False)

    def reply(asked: Tokens) -> Tokens:
        return generate(live, asked, max_tokens=40, temperature=0.0, seed=0, batch_size=16)

    replies = {"plain": reply(plain)}
    for mood in ("happy", "sad"):
        asked = [f"{prompt} Answer in a very {mood} mood." for prompt in PROMPTS]
        replies[f"asked to be {mood}"] = reply(prompt_tokens(live, asked, 40, plain=False))
    for strength in (4.0, -4.0):
        with persona.readout.steer(live.model, {"mood": strength}, readout, layers=[layer]) as push:
            replies[f"steered by {strength:+.0f}"] = reply(plain)
        assert 5 < np.linalg.norm(push[layer]) < 100
    found = {name: said(live, readout, plain, reply) for name, reply in replies.items()}
    usual = found["plain"].perplexity
    for name, one in found.items():
        report(f"{name}: brightness {one.bright.mean():+.2f}, perplexity × {one.perplexity / usual:.2f}")
        report("".join(f"  {text!r}\n" for text in one.texts))
    up, down = found["steered by +4"], found["steered by -4"]
    apart = up.bright - down.bright
    error = apart.std(ddof=1) / math.sqrt(len(apart))
    report(f"apart by {apart.mean():.2f} ± {error:.2f}, at layer {layer}")
    assert apart.mean() > 3 * error
    assert max(up.perplexity, down.perplexity) < 2 * usual
