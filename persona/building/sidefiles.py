"""The files beside the weights: the base's configs, tokenizer and chat template, with the vectors' changes.

Vectors with a positive alpha bring their settings and files. If two of them set the same thing differently, the recipe
chooses, or it is an error that names both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from persona.building.acting import Active
from persona.building.configs import check_kinds, patches
from persona.building.groups import assembled, brought
from persona.building.plan import Plan
from persona.checkpoints import code, settings, ties
from persona.checkpoints.dtypes import TORCH_NAMES
from persona.errors import did_you_mean
from persona.recipe import alphas
from persona.recipe.choices import Choices
from persona.store.nouns import Base
from persona.store.tensors import TensorStore


@dataclass(frozen=True)
class SideFiles:
    """The files of a build beside its weights, and what its user should know about them."""

    files: dict[str, bytes]
    notes: tuple[str, ...] = ()


def side_files(
    plan: Plan, base: Base, active: Sequence[Active], store: TensorStore, choices: Choices | None = None
) -> SideFiles:
    """Make every file of a build except weights, receipt and model card.

    Raises:
        Refusal: two vectors bring different files or settings, and the recipe does not choose.
    """
    bringing = [a for a in active if alphas.adds(a.entry.alpha)]
    choices = choices or Choices()
    base_files, chosen = brought(bringing, base, store, choices)
    files = assembled(base_files, chosen)
    changed = patches(bringing, choices)
    notes = _unknown(choices, files, bringing)
    for name in settings.CONFIGS:
        config = settings.parse(files.get(name))
        patch = changed.by_file.get(name, ())
        if not config and not patch:
            continue
        before = json.dumps(config)
        check_kinds(name, config, choices)
        settings.apply_patch(config, patch)
        if name == settings.CONFIG:
            _derive(config, plan, base)
        if json.dumps(config) != before:
            files[name] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return SideFiles(dict(sorted(files.items())), (*notes, *_notes(files, changed.left)))


def _unknown(choices: Choices, files: Mapping[str, bytes], bringing: Sequence[Active]) -> list[str]:
    """Notes about settings of the recipe that neither the base nor a vector has: they may be misspelt."""
    notes = []
    for name in settings.CONFIGS:
        patches = [patch for a in bringing for patch in a.vector.config.get(name, ())]
        known = {*settings.parse(files.get(name)), *(path[0] for path, _ in patches)}
        for path, _ in choices.of_file(name):
            if path[0] not in known and name == settings.CONFIG:
                similar = did_you_mean(path[0], sorted(known))
                notes.append(f"the base's {name} has no {path[0]}: the build's has it now. {similar}".rstrip())
    return notes


def _notes(files: Mapping[str, bytes], left: Sequence[str]) -> Iterator[str]:
    if left:
        yield f"vectors differ in {', '.join(left)}: the base's values are used (choose others in [config])"
    missing = code.missing(files)
    if missing:
        yield code.warning(missing)


def _derive(config: dict[str, Any], plan: Plan, base: Base) -> None:
    """Set what follows from the weights: tying, ``vocab_size`` (if embeddings grew) and the dtype (of most entries)."""
    _derive_tie(config, plan, base)
    tables = [table for table in (config, config.get("text_config")) if isinstance(table, dict)]
    grown = {(o.base.shape[0], o.shape[0]) for o in plan.outputs if o.base is not None and o.base.shape != o.shape}
    for table, (before, after) in product(tables, grown):
        if table.get("vocab_size") == before:
            table["vocab_size"] = after
    dtype = TORCH_NAMES.get(_most([(o.dtype, o.entries) for o in plan.outputs]))
    if dtype and dtype != TORCH_NAMES.get(_most([(spec.dtype, spec.entries) for spec in base.tensors.values()])):
        for table, key in product(tables, ("dtype", "torch_dtype")):
            if key in table or (table is config and key == "dtype" and "torch_dtype" not in table):
                table[key] = dtype


def _derive_tie(config: dict[str, Any], plan: Plan, base: Base) -> None:
    """Set whether weights are tied, by which of the tied names the build has.

    If only some of them are tensors of their own, the setting stays on: transformers unties copies that differ.
    """
    names = {output.name for output in plan.outputs}
    tied = any(alias not in names for alias in base.tied)
    heads = any(name in names for name in base.tensors if ties.is_head(name))
    if ties.obeys(config) and ties.ties_embeddings(config) != tied and (base.tied or heads):
        settings.set_tie(config, tied)


def _most(weights: list[tuple[str, int]]) -> str:
    counts: Counter[str] = Counter()
    for dtype, entries in weights:
        counts[dtype] += entries
    return counts.most_common(1)[0][0] if counts else ""
