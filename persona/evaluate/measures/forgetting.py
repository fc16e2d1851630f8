"""forgetting: cross-entropy of a fixed text that no run was trained on, in nats per token.

    F = −Σₜ log p(xₜ | x of the same window before t) / number of predicted tokens

over windows of ``window`` tokens that do not overlap; the first token of each is not predicted (Merity et al. 2016; perplexity is exp F).
The change of F from the base, which every table shows, says how much the base has forgotten (Kirkpatrick et al. 2017). Lower is better.
The interval is over windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.evaluate.measures import Look, Setting, Sums
from persona.methods.parts.parameters import Whole

if TYPE_CHECKING:
    from persona.evaluate.rows import SuiteRow
    from persona.evaluate.tokens import EncodedExample
    from persona.methods.parts.parameters import Value

SUMMARY = "Cross-entropy of a fixed text; its change from the base shows forgetting."
VERSION = 1
SETTINGS: Mapping[str, Setting] = {
    "window": Whole(256, 2, 1 << 20, "Tokens per window; at most the model's context."),
}


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """The loss, over windows."""
    from persona.evaluate.tokens import losses

    windows = list(_windows(look, rows, int(settings["window"])))
    if not windows:
        raise UsageError(f"{rows[0].where} has no token to predict", "Use longer texts.")
    look.done(len(rows))
    quiet = Look(look.live, look.seed, look.batch_size)  # without progress, which counts rows and not windows
    return [Sums("loss", "lower", "nats/token", losses(quiet, windows), [float(window.answers) for window in windows])]


def _windows(look: Look, rows: Sequence[SuiteRow], size: int) -> Iterator[EncodedExample]:
    from persona.evaluate.tokens import EncodedExample, ids
    from persona.inference.batches import longest

    size = min(size, longest(look.live.model) or size)
    for row in rows:
        if row.text is None:
            raise UsageError(f"{row.where} has no 'text'", 'forgetting needs {"text": "…"}, or a .txt file.')
        tokens = ids(look.live, row.text)
        for start in range(0, len(tokens) - 1, size):
            if len(part := tokens[start : start + size]) > 1:
                yield EncodedExample(tuple(part), 1)
