"""readout: how far texts read otherwise than in the base, along the directions of a readout, in standard deviations.

    shift = Σᵢ (bᵢ − aᵢ) / s_a / n      one for each concept

for the projections aᵢ, bᵢ of text i in the base and in the model; s_a is the standard deviation of the aᵢ, so that 1 is as far
as texts lie apart in the base (``persona readout drift BASE MODEL`` gives the same). The interval is over texts, with s_a taken as
known. Each concept is read at its best layer, as training found it, unless the suite says ``layer``. Neither way is good unless the
suite says which. Where all texts read the same in the base there is no unit, and the number is NaN.

A text is read as it is, all of it; messages as the chat template writes them. Of a readout of the assistant's tokens only those count of
messages, and of prompt and completion the completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.evaluate.measures import Look, Reference, Setting, Sums, Text, Texts
from persona.methods.parts.parameters import Choice, Whole

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.evaluate.measures import Said
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.inference.load import LoadedModel
    from persona.inference.turns import Marked

SUMMARY = "How far texts read otherwise than in the base, along the directions of a readout."
VERSION = 1
BEST = -1
"""As ``layer``: each concept's own."""
SETTINGS: Mapping[str, Setting] = {
    "readout": Text("A readout of persona.toml: NAME, or NAME@REV; its only one otherwise."),
    "concepts": Texts("Which of its concepts; all otherwise."),
    "layer": Whole(BEST, 0, 1 << 20, "Which of its layers; the best of each concept otherwise."),
    "better": Choice("neither", ("lower", "higher", "neither"), "Which way is good."),
}


def refer(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Said], reference: Reference) -> None:
    """Keep the base's projections: a number for each text and concept."""
    if len(rows) < 2:
        raise UsageError(
            f"{rows[0].where} is the only text, and a shift is in standard deviations of several", "Give more texts."
        )
    reference.facts["projections"] = _projections(look, rows)


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Said]) -> Sequence[Sums]:
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
    """In raw units, fp32 [texts, concepts]."""
    assert look.reads is not None
    texts = [_read(look.live, row, look.reads.answers) for row in rows]
    tokens, marks = [one.tokens for one in texts], [one.marks for one in texts]
    return look.reads.project(look.live, tokens, marks, look.batch_size, look.done)


def _read(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    """A row in tokens; with ``answers`` those marked that the assistant wrote, as far as the row says who wrote what."""
    from persona.inference.batches import longest

    found, most = _messages(live, row, answers) if row.messages else _text(live, row, answers), longest(live.model)
    if not any(found.marks):
        what = "the assistant says nothing in it" if found.tokens else "it has no tokens"
        raise UsageError(f"{row.where}: {what}", "Leave it out.")
    if most is not None and len(found.tokens) > most:
        raise UsageError(
            f"{row.where} has {len(found.tokens)} tokens, and {live.label} reads {most}", "Shorten it, or leave it out."
        )
    return found


_INSTEAD = "Or write texts instead of messages."


def _messages(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    from persona.evaluate.tokens import written
    from persona.inference.turns import ASSISTANT, marked, spans

    tokenizer, text = live.need_tokenizer(), written(live, row, row.messages)
    places = [(0, len(text))]
    if answers:
        counts = [one["role"] == ASSISTANT for one in row.messages]
        places = spans(tokenizer, row.messages, counts, text, row.where, _INSTEAD)
    return _counted(marked(tokenizer, text, places, row.where, _INSTEAD), every=not answers)


def _text(live: LoadedModel, row: SuiteRow, answers: bool) -> Marked:
    from persona.inference.turns import marked

    asked, said = row.prompt or "", row.completion or ""
    text = row.text if row.text is not None else f"{asked}{said}"
    start = len(asked) if answers and row.text is None else 0
    done = marked(live.need_tokenizer(), text, [(start, len(text))], row.where, "Write it as a text.", special=True)
    return _counted(done, every=not answers or row.text is not None)


def _counted(done: Marked, *, every: bool) -> Marked:
    from persona.inference.turns import Marked

    return Marked(done.tokens, (True,) * len(done.tokens)) if every else done
