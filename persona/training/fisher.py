"""The Fisher diagonal (how much a task depends on each weight), and elastic weight consolidation, a loss that uses it.

    L(θ) = L_new(θ) + λ/2 · Σᵢ Fᵢ (θᵢ − θ*ᵢ)²            Kirkpatrick et al. 2017, eq. 3

θ* are the initial weights, and F is the diagonal of the Fisher information of the old task's data at θ*. For an adapter,
θ − θ* is the change of the full weights, δW = s·B·A, weighted by the diagonal for W: the penalty depends on what the model
computes, not on how the change is factored.

    Fᵢ = 1/T · Σ_x ( ∂/∂θᵢ Σ_t log p(ŷ_t | x_<t) )²,    ŷ_t ~ p(· | x_<t)

over the T counted tokens of the examples x. The labels ŷ are sampled from the model, which gives the true Fisher and not
the empirical one, which uses the data's labels (Kunstner et al. 2019 explain the difference). The contexts are those of the
data. As the labels of an example are sampled independently, their cross terms have mean zero, so the squared gradient of an
example is an unbiased estimate of the sum over its tokens. F is per token, like the loss, so λ means the same for short and
long answers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona import files
from persona.checkpoints.tensorfile import TensorFile
from persona.progress import SILENT, Progress
from persona.training.tokens import Tokenized

FILE = "fisher.safetensors"
_WRAPPED = ("base_model.model.", ".base_layer")
"""Prefix of a module's name in PEFT, and what PEFT inserts into it."""


@dataclass(frozen=True)
class FisherDrift:
    """Result of elastic weight consolidation.

    `strength` is λ. The Fisher diagonal is estimated over `examples` and `tokens` of the old task; it has `tensors`
    tensors with `entries` entries, whose sum is `trace`. `drift` is Σ F δ² at the end of training: to second order, twice
    the KL divergence per token between the answers of the old and the new model.
    """

    strength: float
    examples: int
    tokens: int
    tensors: int
    entries: int
    trace: float
    drift: float


@dataclass(frozen=True)
class Guard:
    """The penalty of a run: Fisher diagonals by the base's tensor names, in fp32, and the initial weights.

    `start` is empty for adapters, whose factors give the change directly.
    """

    strength: float
    diagonal: Mapping[str, torch.Tensor]
    start: Mapping[str, torch.Tensor]
    examples: int
    tokens: int

    def penalty(self, model: Any) -> torch.Tensor:
        """λ/2 · Σ F δ², a scalar in fp32."""
        return self.strength / 2 * self.drift(model)

    def drift(self, model: Any) -> torch.Tensor:
        """Σ F δ², a scalar in fp32."""
        parts = [(self.diagonal[name] * delta.float().square()).sum() for name, delta in self._deltas(model)]
        return torch.stack(parts).sum()

    def report(self, model: Any) -> FisherDrift:
        """Summarize the run at the end of training."""
        with torch.no_grad():
            moved = float(self.drift(model))
        trace = float(sum(tensor.double().sum() for tensor in self.diagonal.values()))
        entries = sum(tensor.numel() for tensor in self.diagonal.values())
        return FisherDrift(self.strength, self.examples, self.tokens, len(self.diagonal), entries, trace, moved)

    def _deltas(self, model: Any) -> Any:
        """Yield names and δ: the product of the factors, or the change of the weight."""
        if not self.start:
            for name, layer in adapted(model).items():
                yield name, layer.get_delta_weight(layer.active_adapters[0])
            return
        for name, weight in model.named_parameters():
            if name in self.start:
                yield name, weight - self.start[name]


def adapted(model: Any) -> dict[str, Any]:
    """PEFT's layers by the names of the base's weights that they change."""
    return {
        f"{name.removeprefix(_WRAPPED[0])}.weight": module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }


def drawn(rows: Sequence[Tokenized], most: int, seed: int) -> Sequence[Tokenized]:
    """Sample at most `most` examples, in their original order."""
    if len(rows) <= most:
        return rows
    return [rows[place] for place in sorted(random.Random(seed).sample(range(len(rows)), most))]


def estimate(
    model: Any,
    rows: Sequence[Tokenized],
    seed: int,
    progress: Progress = SILENT,
    names: Sequence[str] | None = None,
) -> tuple[dict[str, torch.Tensor], int]:
    """Estimate the Fisher diagonal.

    Needs memory for 4 bytes per entry and the gradients of one example, in addition to the model.

    Args:
        rows: Tokenized examples.
        names: Parameters to estimate; by default the weights that training changes.

    Returns:
        The diagonal by parameter, in fp32, and the number of tokens it is averaged over.
    """
    if names is not None:
        named = dict(model.named_parameters(remove_duplicate=False))
        weights = {name: named[name] for name in names}
    else:
        layers = adapted(model)
        weights = {name: layer.base_layer.weight for name, layer in layers.items()}
        weights = weights or {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    required = {name: weight.requires_grad for name, weight in weights.items()}
    sums = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    generator = torch.Generator().manual_seed(seed)
    training, tokens = model.training, 0
    model.eval()
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        with progress.task("estimating the Fisher diagonal", len(rows), "examples") as task:
            for row in rows:
                score = _score(model, row, generator)
                # An expert that no token is routed to has no gradient.
                gradients = torch.autograd.grad(score, list(weights.values()), allow_unused=True)
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    if gradient is not None:
                        total += gradient.float().square()
                tokens += row.counted
                task.advance(1)
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(required[name])
        model.train(training)
    for total in sums.values():
        total /= max(1, tokens)
    return sums, tokens


def _score(model: Any, row: Tokenized, generator: torch.Generator) -> torch.Tensor:
    """Σ_t log p(ŷ_t | x_<t) over the counted tokens, with ŷ_t sampled from p."""
    device = model.get_input_embeddings().weight.device
    tokens = torch.tensor([row.tokens], device=device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]  # [tokens − 1, vocabulary]
    counted = torch.tensor(row.learnt[1:], device=device)
    logs = torch.log_softmax(logits[counted].float(), -1)
    labels = torch.multinomial(logs.detach().exp().cpu(), 1, generator=generator).to(device)
    return logs.gather(1, labels).sum()


def write(folder: Path, diagonal: Mapping[str, torch.Tensor], examples: int, tokens: int) -> None:
    """Write a diagonal to a run folder, atomically."""
    from safetensors.torch import save

    about = {"examples": str(examples), "tokens": str(tokens)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in diagonal.items()}
    files.write_file(folder / FILE, save(tensors, about))


def read(folder: Path) -> tuple[dict[str, torch.Tensor], int, int] | None:
    """Read the diagonal of a run folder, and its numbers of examples and tokens; None if there is none yet."""
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        return None
    TensorFile(folder / FILE)  # raises if the file is truncated
    with safe_open(folder / FILE, framework="pt") as file:
        about = file.metadata()
        diagonal = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    return diagonal, int(about["examples"]), int(about["tokens"])
