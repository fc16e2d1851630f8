"""loss: cross-entropy of held-out answers, in nats per answer token.

    L = −Σᵢ Σₜ log p(aᵢₜ | promptᵢ, aᵢ₁ … aᵢₜ₋₁) / Σᵢ |aᵢ|

over the answers aᵢ, each with its end token; prompts are not counted. It is what fine-tuning minimizes (Sutskever et al. 2014,
"Sequence to Sequence Learning"), on answers that it has not seen. Lower is better. The interval is over answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.evaluate.measures import Look, Setting, Sums

if TYPE_CHECKING:
    from persona.evaluate.rows import SuiteRow
    from persona.methods.parts.parameters import Value

SUMMARY = "Cross-entropy of held-out answers."
VERSION = 1
SETTINGS: Mapping[str, Setting] = {}


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """The loss, over answers."""
    from persona.evaluate.tokens import encode, losses

    examples = encode(look.live, rows)
    return [
        Sums("loss", "lower", "nats/token", losses(look, examples), [float(example.answers) for example in examples])
    ]
