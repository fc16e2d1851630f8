"""The Fisher diagonal: what a task needs of the weights. And elastic weight consolidation, a loss that keeps it.

    L(θ) = L_new(θ) + λ/2 · Σᵢ Fᵢ (θᵢ − θ*ᵢ)²            Kirkpatrick et al. 2017, eq. 3

θ* are the weights that training begins with, and F is the diagonal of the Fisher information of the old task's data
there. For an adapter θ − θ* is the change of the full weights, δW = s·B·A, held against the diagonal for W: what is to
be kept depends on what the model computes and not on how the change is factored.

    Fᵢ = 1/T · Σ_x ( ∂/∂θᵢ Σ_t log p(ŷ_t | x_<t) )²,    ŷ_t ~ p(· | x_<t)

over the T tokens of the examples x that count. The labels ŷ are drawn from the model itself, which makes it the true
Fisher and not the empirical one, in which the data's own labels stand (Kunstner et al. 2019 on why that differs). The
contexts are the data's. Being drawn independently, the tokens of one example have cross terms of mean zero, so its
squared gradient is an unbiased estimate of the sum over its tokens. F is per token, as the loss is: λ means the same
for short answers and long ones.
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
"""What PEFT puts around a module's name, and into it."""


@dataclass(frozen=True)
class FisherDrift:
    """What elastic weight consolidation did: the diagonal's size and sum, and how far the run moved under it.

    ``drift`` is Σ F δ²: to second order twice the KL divergence per token from the old model's answers to the new one's.
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
    """Diagonals by the base's names of tensors, fp32 in each one's shape, and where the weights began."""

    strength: float
    diagonal: Mapping[str, torch.Tensor]
    start: Mapping[str, torch.Tensor]
    examples: int
    tokens: int

    def penalty(self, model: Any) -> torch.Tensor:
        """λ/2 · Σ F δ²."""
        return self.strength / 2 * self.drift(model)

    def drift(self, model: Any) -> torch.Tensor:
        """Σ F δ², a scalar in fp32."""
        parts = [(self.diagonal[name] * delta.float().square()).sum() for name, delta in self._deltas(model)]
        return torch.stack(parts).sum()

    def report(self, model: Any) -> FisherDrift:
        """In numbers, when training is over."""
        with torch.no_grad():
            moved = float(self.drift(model))
        trace = float(sum(one.double().sum() for one in self.diagonal.values()))
        entries = sum(one.numel() for one in self.diagonal.values())
        return FisherDrift(self.strength, self.examples, self.tokens, len(self.diagonal), entries, trace, moved)

    def _deltas(self, model: Any) -> Any:
        """δ by name: the product of factors, or the weight against where it began."""
        if not self.start:
            for name, layer in adapted(model).items():
                yield name, layer.get_delta_weight(layer.active_adapters[0])
            return
        for name, weight in model.named_parameters():
            if name in self.start:
                yield name, weight - self.start[name]


def adapted(model: Any) -> dict[str, Any]:
    """PEFT's layers by the names of the base's weights that they change."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            found[f"{name.removeprefix(_WRAPPED[0])}.weight"] = module
    return found


def drawn(rows: Sequence[Tokenized], most: int, seed: int) -> Sequence[Tokenized]:
    """At most so many examples, by the seed, in their order."""
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
    """The diagonal for the parameters ``names``, or else for the weights that training changes; and the number of tokens
    that it is over. Beside the model it takes 4 bytes an entry, and the gradients of one example.
    """
    if names is not None:
        named = dict(model.named_parameters(remove_duplicate=False))
        weights = {name: named[name] for name in names}
    else:
        layers = adapted(model)
        weights = {name: layer.base_layer.weight for name, layer in layers.items()}
        weights = weights or {name: one for name, one in model.named_parameters() if one.requires_grad}
    wanted = {name: one.requires_grad for name, one in weights.items()}
    sums = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in weights.items()}
    chance = torch.Generator().manual_seed(seed)
    training, tokens = model.training, 0
    model.eval()
    try:
        for one in weights.values():
            one.requires_grad_(True)
        with progress.task("estimating the Fisher diagonal", len(rows), "examples") as task:
            for row in rows:
                score = _score(model, row, chance)
                found = torch.autograd.grad(score, list(weights.values()), allow_unused=True)  # an expert may be idle
                for total, gradient in zip(sums.values(), found, strict=True):
                    if gradient is not None:
                        total += gradient.float().square()
                tokens += row.counted
                task.advance(1)
    finally:
        for name, one in weights.items():
            one.requires_grad_(wanted[name])
        model.train(training)
    for total in sums.values():
        total /= max(1, tokens)
    return sums, tokens


def _score(model: Any, row: Tokenized, chance: torch.Generator) -> torch.Tensor:
    """Σ_t log p(ŷ_t | x_<t) over the tokens that count, ŷ_t drawn from p."""
    device = model.get_input_embeddings().weight.device
    tokens = torch.tensor([row.tokens], device=device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]  # [tokens − 1, vocabulary]
    counted = torch.tensor(row.learnt[1:], device=device)
    logs = torch.log_softmax(logits[counted].float(), -1)
    drawn = torch.multinomial(logs.detach().exp().cpu(), 1, generator=chance).to(device)
    return logs.gather(1, drawn).sum()


def write(folder: Path, diagonal: Mapping[str, torch.Tensor], examples: int, tokens: int) -> None:
    """Keep a diagonal in a run's folder, whole or not at all."""
    from safetensors.torch import save

    about = {"examples": str(examples), "tokens": str(tokens)}
    tensors = {name: one.detach().cpu().contiguous() for name, one in diagonal.items()}
    files.write_file(folder / FILE, save(tensors, about))


def read(folder: Path) -> tuple[dict[str, torch.Tensor], int, int] | None:
    """The diagonal of a run's folder, and the numbers of examples and tokens; None where it is not there yet."""
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        return None
    TensorFile(folder / FILE)  # is it whole?
    with safe_open(folder / FILE, framework="pt") as file:
        about = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    return found, int(about["examples"]), int(about["tokens"])
