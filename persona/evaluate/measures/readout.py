"""readout: how far texts shift from the base along the directions of a readout, in standard deviations.

    shift = Σᵢ (bᵢ − aᵢ) / s_a / n      one for each concept

for the projections aᵢ, bᵢ of text i in the base and in the model; s_a is the standard deviation of the aᵢ, so that 1 is the spread of
texts in the base (``persona readout drift BASE MODEL`` gives the same numbers). The interval is over texts, with s_a taken as known. Each
concept is read at its best layer in training, unless the suite sets ``layer``. Neither direction is better unless the suite says so. If all
texts have the same projection in the base, the number is NaN.

A text is read as it is and in full; messages are rendered with the chat template. If the readout was trained on the assistant's tokens, only
those are read in messages, and only the completion in prompt and completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.evaluate.measures import Look, Reference, Setting, Sums, Text, Texts
from persona.methods.parts.parameters import Choice, Whole

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.evaluate.measures import SettingValue
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.inference.load import LoadedModel
    from persona.inference.turns import Marked

SUMMARY = "How far texts shift from the base along the directions of a readout."
VERSION = 1
BEST = -1
"""As ``layer``: the best layer of each concept."""
SETTINGS: Mapping[str, Setting] = {
    "readout": Text("Readout: NAME of persona.toml, or NAME@REV. Default: the only one."),
    "concepts": Texts("Concepts to read. Default: all."),
    "layer": Whole(BEST, 0, 1 << 20, "Layer to read. Default: the best of each concept."),
    "better": Choice("neither", ("lower", "higher", "neither"), "Whether lower or higher is better."),
}


def refer(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue], reference: Reference) -> None:
    """Store the base's projections: a number for each text and concept."""
    if len(rows) < 2:
        raise UsageError(f"{rows[0].where} is the only text, but a standard deviation needs several", "Add more texts.")
    reference.facts["projections"] = _projections(look, rows)


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue]) -> Sequence[Sums]:
    """The shift of each concept, over texts."""
    import numpy as np

    assert look.reference is not None
    assert look.reads is not None
    before = look.reference.facts["projections"].astype(np.float64)
    after = _projections(look, rows).astype(np.float64)
    spread = before.std(axis=0, ddof=1)
    shifts = (after - before) / np.where(spread > 0, spread, np.nan)
    better: dict[str, Better | None] = {"lower": "lower", "higher": "higher", "neither": None}
    ones = [1.0] * len(rows)
    return [
        Sums(concept, better[str(settings["better"])], "std", shifts[:, column].tolist(), ones)
        for column, concept in enumerate(look.reads.concepts)
    ]


def _projections(look: Look, rows: Sequence[SuiteRow]) -> Float32:
    """Projections in raw units: fp32 [texts, concepts]."""
    assert look.reads is not None
    texts = [_read(look.live, row, look.reads.answers) for row in rows]
    tokens, marks = [text.tokens for text in texts], [text.marks for text in texts]
    return look.reads.project(look.live, tokens, marks, look.batch_size, look.done)


def _read(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    """A row in tokens, all of them marked; with ``answers`` only the assistant's, if the row says which those are."""
    from persona.inference.batches import longest

    text, most = _messages(live, row, answers) if row.messages else _text(live, row, answers), longest(live.model)
    if not any(text.marks):
        what = "the assistant says nothing in it" if text.tokens else "it has no tokens"
        raise UsageError(f"{row.where}: {what}", "Remove it.")
    if most is not None and len(text.tokens) > most:
        raise UsageError(
            f"{row.where} has {len(text.tokens)} tokens, but the context of {live.label} is {most}",
            "Shorten it, or remove it.",
        )
    return text


_INSTEAD = "Or use texts instead of messages."


def _messages(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    from persona.evaluate.tokens import messages_of, written
    from persona.inference.messages import ASSISTANT
    from persona.inference.turns import marked, spans

    tokenizer, messages = live.need_tokenizer(), messages_of(live, row)
    text = written(live, row, messages)
    places = [(0, len(text))]
    if answers:
        counts = [message["role"] == ASSISTANT for message in messages]
        places = spans(tokenizer, messages, counts, text, row.where, _INSTEAD, row.tools)
    return _counted(marked(tokenizer, text, places, row.where, _INSTEAD), every=not answers)


def _text(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    from persona.inference.turns import marked

    prompt = row.prompt or ""
    text = row.text if row.text is not None else f"{prompt}{row.completion or ''}"
    start = len(prompt) if answers and row.text is None else 0
    done = marked(live.need_tokenizer(), text, [(start, len(text))], row.where, "Use a text instead.", special=True)
    return _counted(done, every=not answers or row.text is not None)


def _counted(done: Marked, *, every: bool) -> Marked:
    from persona.inference.turns import Marked

    return Marked(done.tokens, (True,) * len(done.tokens)) if every else done
