"""Readouts for the suites that read by one: found in the recipe as it stands, and opened when a model is read.

One readout serves all builds of a comparison, whatever their own recipes have, because a shift along one direction is not comparable
with that along another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from persona.errors import UsageError, did_you_mean
from persona.evaluate.measures.readout import BEST
from persona.evaluate.suite import Suite, SuiteMeasure
from persona.ids import ReadoutId
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.store.readouts import StoredReadout, layers_text
from persona.workspace.readouts import NamedReadout, load_readout, readout_at
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel
    from persona.readout.model import Readout

KIND = "readout"


def with_readouts(repo: Repository, suite: Suite) -> Suite:
    """The suite with a readout for each measure that reads by one; an error names its line."""
    asking = [asked for asked in suite.measures if asked.kind == KIND]
    if not asking:
        return suite
    recipe = worktree_recipe(repo)
    return suite.given({asked.name: _reading(repo, recipe, asked) for asked in asking})


@dataclass(frozen=True)
class SuiteReadout:
    """``measures.Reads`` of a readout of the store: ``layers`` has one for each of ``concepts``."""

    repo: Repository
    id: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]

    @cached_property
    def readout(self) -> Readout:
        """Its directions of these concepts, at every layer that one of them is read at."""
        from persona.readout.select import select

        return select(load_readout(self.repo, self.id), self.concepts, self.layers)

    @property
    def answers(self) -> bool:
        """Whether it was trained on the assistant's tokens."""
        return self.readout.about.get("pooling") == "assistant"

    def project(
        self,
        live: LoadedModel,
        tokens: Sequence[Sequence[int]],
        marks: Sequence[Sequence[bool]],
        batch_size: int,
        done: Callable[[int], None],
    ) -> Float32:
        """Each concept at its layer: fp32 [texts, concepts]."""
        from persona.readout.score import of_tokens

        counting = marks if self.answers else None
        found = of_tokens(live, self.readout, tokens, counting, batch_size=batch_size, done=done)
        return found[:, range(len(self.concepts)), [self.readout.layers.index(layer) for layer in self.layers]]


def _reading(repo: Repository, recipe: Recipe, asked: SuiteMeasure) -> SuiteReadout:
    named = _named(repo, recipe, asked)
    stored = StoredReadout.get(repo.objects, named.id)
    if stored.base != recipe.base:
        raise UsageError(
            f"{asked.place('readout')}: the readout '{asked.settings['readout']}' is of another base",
            "A readout fits the base that it was trained on: name one of this recipe.",
        )
    said = asked.settings["concepts"]
    concepts = said if isinstance(said, tuple) and said else stored.concepts
    for concept in concepts:
        if concept not in stored.concepts:
            raise UsageError(
                f"{asked.place('concepts')}: the readout '{named.name}' has no concept '{concept}'",
                did_you_mean(concept, stored.concepts),
            )
    return SuiteReadout(
        repo, named.id, concepts, tuple(_layer(asked, named.name, stored, concept) for concept in concepts)
    )


def _named(repo: Repository, recipe: Recipe, asked: SuiteMeasure) -> NamedReadout:
    names = [entry.name for entry in recipe.readouts]
    said = str(asked.settings["readout"])
    if not names and "@" not in said:
        what = f"'{said}' is no readout of persona.toml, which has none" if said else "persona.toml has no readout"
        raise UsageError(
            f"{asked.place('readout')}: {what}",
            'Train one and commit it: persona commit --readout FOLDER. Or name one of a revision: readout = "NAME@REV"',
        )
    if not said and len(names) > 1:
        raise UsageError(
            f"{asked.place('readout')}: persona.toml has {len(names)} readouts, and the suite does not say which",
            f'Say it: readout = "{names[0]}" (there is: {", ".join(names)}).',
        )
    found = readout_at(repo, said or names[0], recipe)
    if found is None:
        raise UsageError(f"{asked.place('readout')}: there is no readout '{said}'", did_you_mean(said, names))
    return found


def _layer(asked: SuiteMeasure, name: str, stored: StoredReadout, concept: str) -> int:
    """Where a concept is read: where the suite says, at its best layer, or at the only one."""
    layer: object = asked.settings["layer"]
    if layer == BEST:
        layer = stored.layers[0] if len(stored.layers) == 1 else _best(stored, concept)
    if not isinstance(layer, int):
        raise UsageError(
            f"{asked.place('readout')}: the readout '{name}' does not say which layer is the best for '{concept}'",
            f"Say it: layer = {stored.layers[len(stored.layers) // 2]} (it has {layers_text(stored.layers)}).",
        )
    if layer not in stored.layers:
        raise UsageError(
            f"{asked.place('layer')}: the readout '{name}' has no layer {layer}",
            f"It has {layers_text(stored.layers)}.",
        )
    return layer


def _best(stored: StoredReadout, concept: str) -> int | None:
    """As its training said, if it did and that layer is there."""
    said: Mapping[str, object] = stored.about
    best = said.get("best")
    if not isinstance(best, list) or len(best) != len(stored.concepts):
        return None
    found = best[stored.concepts.index(concept)]
    return found if isinstance(found, int) and found in stored.layers else None
