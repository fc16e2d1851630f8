"""Readouts for measures of the kind ``readout``: found in the current recipe, and loaded when first used.

All builds of a comparison are read with the same readout, whatever readouts their own recipes have, because shifts along different
directions cannot be compared.
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
    """Give each measure of the kind ``readout`` its readout.

    Raises:
        UsageError: a readout, concept or layer does not exist; the message names the line of the suite.
    """
    reading = [measure for measure in suite.measures if measure.kind == KIND]
    if not reading:
        return suite
    recipe = worktree_recipe(repo)
    return suite.given({measure.name: _readout(repo, recipe, measure) for measure in reading})


@dataclass(frozen=True)
class SuiteReadout:
    """A readout of the store as a measure uses it (``measures.Reads``); ``layers`` has one layer per concept."""

    repo: Repository
    id: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]

    @cached_property
    def readout(self) -> Readout:
        """The directions of these concepts at these layers, loaded once."""
        from persona.readout.select import select

        return select(load_readout(self.repo, self.id), self.concepts, self.layers)

    @property
    def answers(self) -> bool:
        """Whether it was trained on the assistant's tokens only."""
        return self.readout.about.get("pooling") == "assistant"

    def project(
        self,
        live: LoadedModel,
        tokens: Sequence[Sequence[int]],
        marks: Sequence[Sequence[bool]],
        batch_size: int,
        done: Callable[[int], None],
    ) -> Float32:
        """Project each text on each concept at its layer: fp32 [texts, concepts]."""
        from persona.readout.score import of_tokens

        counted = marks if self.answers else None
        values = of_tokens(live, self.readout, tokens, counted, batch_size=batch_size, done=done)
        return values[:, range(len(self.concepts)), [self.readout.layers.index(layer) for layer in self.layers]]


def _readout(repo: Repository, recipe: Recipe, measure: SuiteMeasure) -> SuiteReadout:
    named = _named(repo, recipe, measure)
    stored = StoredReadout.get(repo.objects, named.id)
    if stored.base != recipe.base:
        raise UsageError(
            f"{measure.place('readout')}: the readout '{measure.settings['readout']}' belongs to another base",
            "A readout only fits the base that it was trained on: choose one of this recipe.",
        )
    chosen = measure.settings["concepts"]
    concepts = chosen if isinstance(chosen, tuple) and chosen else stored.concepts
    for concept in concepts:
        if concept not in stored.concepts:
            raise UsageError(
                f"{measure.place('concepts')}: the readout '{named.name}' has no concept '{concept}'",
                did_you_mean(concept, stored.concepts),
            )
    return SuiteReadout(
        repo, named.id, concepts, tuple(_layer(measure, named.name, stored, concept) for concept in concepts)
    )


def _named(repo: Repository, recipe: Recipe, measure: SuiteMeasure) -> NamedReadout:
    names = [entry.name for entry in recipe.readouts]
    wanted = str(measure.settings["readout"])
    if not names and "@" not in wanted:
        what = f"there is no readout '{wanted}': persona.toml has none" if wanted else "persona.toml has no readout"
        raise UsageError(
            f"{measure.place('readout')}: {what}",
            'Train one and commit it (persona commit --readout FOLDER), or use one of a revision: readout = "NAME@REV"',
        )
    if not wanted and len(names) > 1:
        raise UsageError(
            f"{measure.place('readout')}: persona.toml has {len(names)} readouts: {', '.join(names)}",
            f'Choose one: readout = "{names[0]}".',
        )
    named = readout_at(repo, wanted or names[0], recipe)
    if named is None:
        raise UsageError(f"{measure.place('readout')}: there is no readout '{wanted}'", did_you_mean(wanted, names))
    return named


def _layer(measure: SuiteMeasure, name: str, stored: StoredReadout, concept: str) -> int:
    """The layer to read a concept at: the suite's, the only one, or the concept's best."""
    layer: object = measure.settings["layer"]
    if layer == BEST:
        layer = stored.layers[0] if len(stored.layers) == 1 else _best(stored, concept)
    if not isinstance(layer, int):
        raise UsageError(
            f"{measure.place('readout')}: the readout '{name}' does not record the best layer for '{concept}'",
            f"Choose one: layer = {stored.layers[len(stored.layers) // 2]} (it has {layers_text(stored.layers)}).",
        )
    if layer not in stored.layers:
        raise UsageError(
            f"{measure.place('layer')}: the readout '{name}' has no layer {layer}",
            f"It has {layers_text(stored.layers)}.",
        )
    return layer


def _best(stored: StoredReadout, concept: str) -> int | None:
    """The best layer found in training, if it was recorded and is in the readout."""
    about: Mapping[str, object] = stored.about
    best = about.get("best")
    if not isinstance(best, list) or len(best) != len(stored.concepts):
        return None
    layer = best[stored.concepts.index(concept)]
    return layer if isinstance(layer, int) and layer in stored.layers else None
