"""A model that stays in memory while its recipe changes: only tensors that differ are rebuilt, in place.

A tensor depends only on its own output in the plan (base, terms with alphas, edges of whole vectors) and on the method
with its parameters. Two plans are compared output by output, and what differs is streamed block by block into the
model's own memory. So changing the alpha of one vector costs only the tensors of that vector, and needs no second
copy. If the new model has another shape, tokenizer or configuration, it is reloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from persona.building.inmemory import build_in_memory
from persona.building.plan import Output, Plan
from persona.building.run import run
from persona.building.wholecut import with_cuts
from persona.ids import draw_key
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.loading import planned, warn_if_slow

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Bits
    from persona.inference.load import LoadedModel

MEMORY = 64 << 20
"""Bytes of tensors that a build may hold in addition to the model."""

Stamp = tuple[Any, ...]
"""Everything that a tensor's bits depend on."""


class Workbench:
    """Holds one model at a time, and turns it into that of another recipe.

    Args:
        dtype: Data type to run in. By default as stored.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: Where progress and warnings are reported.
    """

    def __init__(
        self, repo: Repository, dtype: str | None = None, device: str = "cpu", progress: Progress = SILENT
    ) -> None:
        self._repo = repo
        self._dtype = dtype
        self._device = device
        self._progress = progress
        self._loaded: LoadedModel | None = None
        self._small: Mapping[str, bytes] = {}
        self._weights: dict[str, torch.Tensor] = {}
        self._there: dict[str, Stamp | None] = {}
        self._has_warned = False

    def become(self, recipe: Recipe, label: str) -> LoadedModel:
        """Load the model that ``recipe`` builds. The model returned before is changed and must no longer be used."""
        plan, small = self._planned(recipe)
        if self._loaded is None or small != self._small or not self._has_room(plan):
            self._load(recipe, label, plan, small)
        else:
            self._change(plan)
        assert self._loaded is not None
        self._loaded = replace(self._loaded, label=label, revision=None)
        return self._loaded

    def become_noise(self, recipe: Recipe, label: str, seed: int) -> LoadedModel:
        """Load the base of ``recipe`` plus Gaussian noise as a control.

        Each tensor that the recipe changes gets noise of the same Frobenius norm as its change. Its effect is that of a
        vector of the same size that has learned nothing.
        """
        loaded = self.become(recipe, label)
        base, _ = self._planned(Recipe(recipe.base, recipe.base_name))
        for output in base.outputs:
            weight = self._weights.get(output.name)
            if self._there.get(output.name) != _stamp(base, output) and weight is not None:
                self._there[output.name] = None
                _disturb(weight, self._built(base, output), draw_key("control", str(seed), output.name))
        return loaded

    @property
    def weights(self) -> frozenset[str]:
        """Names of the tensors that are weights of the model under the same name, entry for entry."""
        return frozenset(self._weights)

    def _planned(self, recipe: Recipe) -> tuple[Plan, Mapping[str, bytes]]:
        plan, small = planned(self._repo, recipe)
        return with_cuts(plan, self._repo.tensors, self._progress), small

    def _load(self, recipe: Recipe, label: str, plan: Plan, small: Mapping[str, bytes]) -> None:
        from persona.inference.load import from_tensors

        self._loaded, self._weights, self._there = None, {}, {}  # free the old model first
        tensors = build_in_memory(plan, self._repo.tensors, self._progress, memory=MEMORY)
        loaded = from_tensors(small, tensors, label, self._dtype, self._device, base=recipe.base)
        if not self._has_warned:
            warn_if_slow(loaded, self._progress)
            self._has_warned = True
        self._weights = dict(_in_place(loaded, tensors))
        self._there = {output.name: _stamp(plan, output) for output in plan.outputs}
        self._loaded, self._small = loaded, small

    def _has_room(self, plan: Plan) -> bool:
        """Whether every tensor of the plan is a weight of the model with the same shape."""
        return (
            plan.outputs != ()
            and self._there.keys() == {output.name for output in plan.outputs}
            and all(
                output.name in self._weights and tuple(self._weights[output.name].shape) == output.shape
                for output in plan.outputs
            )
        )

    def _change(self, plan: Plan) -> None:
        changed = tuple(o for o in plan.outputs if self._there[o.name] != _stamp(plan, o))
        self._there |= {output.name: None for output in changed}  # if the build fails, they are built again
        if changed:
            sink = _InPlace(self._weights, changed)
            tensors = self._repo.tensors
            run(replace(plan, outputs=changed), tensors, sink, self._progress, memory=MEMORY, identify=False)
        self._there |= {output.name: _stamp(plan, output) for output in changed}

    def _built(self, plan: Plan, output: Output) -> torch.Tensor:
        from persona.inference.load import as_tensor

        held = build_in_memory(replace(plan, outputs=(output,)), self._repo.tensors)
        return as_tensor(*held[output.name])


def _stamp(plan: Plan, output: Output) -> Stamp:
    if not output.terms:
        return (output,)
    return output, plan.method, plan.scale, dict(plan.parameters)


def _in_place(
    loaded: LoadedModel, tensors: Mapping[str, tuple[Bits, str, tuple[int, ...]]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's weights that equal tensors of the build under the same name, entry for entry."""
    import torch

    from persona.inference.load import as_tensor

    state = loaded.model.state_dict()
    for name, held in tensors.items():
        built, weight = as_tensor(*held), state.get(name)
        if weight is None or weight.shape != built.shape or not weight.is_contiguous():
            continue
        if weight.data_ptr() == built.data_ptr() or torch.equal(weight, built.to(weight)):
            yield name, weight


class _InPlace:
    """A sink that writes into the model's weights, in their dtype and on their device."""

    def __init__(self, weights: Mapping[str, torch.Tensor], outputs: tuple[Output, ...]) -> None:
        self._flat = {output.name: weights[output.name].view(-1) for output in outputs}
        self._dtypes = {output.name: output.dtype for output in outputs}

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Write a block; may be called from any thread."""
        from persona.inference.load import as_tensor

        whole = bits if bits.flags.writeable else bits.copy()
        part = as_tensor(whole, self._dtypes[name], (-1,))
        self._flat[name][entry : entry + len(part)].copy_(part)


def _disturb(weight: torch.Tensor, base: torch.Tensor, seed: int) -> None:
    """Set W = W_base + ‖W − W_base‖ · g / ‖g‖ with Gaussian g, in fp32."""
    import torch

    if base.shape != weight.shape or not base.is_floating_point():
        return
    before = base.to(weight.device).float()
    noise = torch.randn(before.shape, generator=torch.Generator().manual_seed(seed % (1 << 63)))
    norm = (weight.float() - before).norm() / noise.norm()
    weight.copy_(before + noise.to(weight.device) * norm)
