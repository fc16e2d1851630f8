"""divergence: how far the model's next-token distribution is from the base's, on neutral texts.

    kl    Σₜ KL(p_base(· | x before t) ‖ p_model(· | x before t)) / number of predicted tokens, in nats
    top1  share of them at which both models predict the same token

with KL(p ‖ q) = Σ_v p(v) (log p(v) − log q(v)) over the base's whole vocabulary (Kullback and Leibler 1951), that is the penalty of
Ziegler et al. 2019 in the other direction. Tokens that a vector added have p = 0 in the base and contribute nothing. A lower kl and a
higher top1 are nearer to the base. Intervals are over texts.

The base is run first, and its log-probabilities are kept in fp32 in a temporary file (4 bytes × tokens × vocabulary), so that the two
models are never in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.evaluate.measures import Look, Reference, Setting, Sums

if TYPE_CHECKING:
    import torch

    from persona.evaluate.rows import SuiteRow
    from persona.evaluate.tokens import EncodedExample
    from persona.methods.parts.parameters import Value

SUMMARY = "KL divergence from the base, and agreement with its most likely tokens, on neutral texts."
VERSION = 1
SETTINGS: Mapping[str, Setting] = {}


def refer(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value], reference: Reference) -> None:
    """Store the base's log-probabilities, one example after another."""
    from persona.evaluate.tokens import answers, encode, log_probabilities

    examples = encode(look.live, rows)
    reference.facts["examples"] = examples
    for row, logits in answers(look, examples):
        reference.facts["vocabulary"] = logits.shape[1]
        reference.file.seek(4 * logits.shape[1] * _before(examples, row))
        for chunk in log_probabilities(logits):
            reference.file.write(chunk.cpu().numpy().tobytes())


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """Both numbers, over texts."""
    from persona.evaluate.tokens import answers, encode, log_probabilities

    assert look.reference is not None
    examples = encode(look.live, rows)
    _check_same(look, rows, examples, look.reference)
    kls, same = [0.0] * len(rows), [0.0] * len(rows)
    for row, logits in answers(look, examples):
        kept = _kept(look.reference, examples, row)
        for ours, theirs in zip(log_probabilities(logits), kept, strict=True):
            base = theirs.to(ours.device)
            kls[row] += float(_kl(base, ours[:, : base.shape[1]]).double().sum())
            same[row] += float((base.argmax(-1) == ours.argmax(-1)).sum())
    counts = [float(example.answers) for example in examples]
    return [Sums("kl", "lower", "nats/token", kls, counts), Sums("top1", "higher", "share", same, counts)]


def _kl(base: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """KL divergence of each row of log-probabilities [tokens, vocabulary]; terms with p = 0 are 0."""
    import torch

    p = base.exp()
    return torch.where(p > 0, p * (base - model), 0.0).sum(-1)


def _kept(reference: Reference, examples: Sequence[EncodedExample], row: int) -> Iterator[torch.Tensor]:
    """The base's log-probabilities of an example, in the same chunks as the model's."""
    import torch

    from persona.evaluate.tokens import CHUNK

    width = 4 * reference.facts["vocabulary"]
    reference.file.seek(width * _before(examples, row))
    for start in range(0, examples[row].answers, CHUNK):
        count = min(CHUNK, examples[row].answers - start)
        data = bytearray(reference.file.read(width * count))
        yield torch.frombuffer(data, dtype=torch.float32).reshape(count, -1)


def _before(examples: Sequence[EncodedExample], row: int) -> int:
    """Number of predicted tokens before those of an example."""
    return sum(example.answers for example in examples[:row])


def _check_same(look: Look, rows: Sequence[SuiteRow], examples: Sequence[EncodedExample], reference: Reference) -> None:
    for row, ours, theirs in zip(rows, examples, reference.facts["examples"], strict=True):
        if ours != theirs:
            raise UsageError(
                f"{row.where}: {look.live.label} and the base tokenize this text differently",
                "Next tokens can only be compared if the tokens are the same; remove this text.",
            )
