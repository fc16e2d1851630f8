"""What a search varies in a recipe.

    alpha     of a vector with a single alpha α, keeping its sign: 0 … 1.5 · max(1, |α|), or the negative of that
    factor    of a vector whose alpha depends on depth or pattern: multiplies all its numbers, 0 … 1.5
    method    one of the merge methods named
    density   of the method; ignored if the method has none
    scale     of the merge, λ: multiplies the merged change

A vector that is off (alpha 0) stays off unless it is named. Numbers are rounded to a thousandth of their range, so that
``persona.toml`` stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from persona import methods
from persona.errors import UsageError, did_you_mean
from persona.evaluate.options import Bounds, SearchOptions
from persona.methods.parts.parameters import Number
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import LARGEST
from persona.suggestions import Choices, Range, Setting

Settings = Mapping[str, Setting]

REACH = 1.5
"""Default upper end of the range of an alpha, relative to the larger of 1 and its size."""

METHOD, DENSITY, SCALE = "method", "density", "scale"


@dataclass(frozen=True)
class VariedSetting:
    """One thing that a search varies: a vector's alpha, a factor of its alphas if it has several, the method, its density
    or the scale of the merge.

    It varies from ``low`` to ``high``, or over ``options``. ``now`` is the value in the present recipe, null if it has none.
    """

    name: str
    kind: Literal["alpha", "factor", "method", "density", "scale"]
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    now: float | str | None = None

    @property
    def key(self) -> str:
        """A unique name; a vector may itself be called ``method``."""
        return f"{self.kind} {self.name}"

    @property
    def space(self) -> Range | Choices:
        """The range or options to choose from."""
        if self.low is None or self.high is None:
            return Choices(self.options)
        return Range(self.low, self.high)

    @property
    def middle(self) -> Setting:
        """The middle of the range, or the last option."""
        if self.low is None or self.high is None:
            return self.options[-1]
        return self.rounded((self.low + self.high) / 2)

    def rounded(self, value: Setting) -> Setting:
        """``value`` rounded to a thousandth of the range, and kept within it."""
        if isinstance(value, str) or self.low is None or self.high is None:
            return value
        places = max(0, 3 - math.floor(math.log10(self.high - self.low)))
        return min(max(round(value, places) + 0.0, self.low), self.high)


def varied(recipe: Recipe, search: SearchOptions) -> tuple[VariedSetting, ...]:
    """Everything that a search varies in ``recipe``, vectors first.

    Raises:
        UsageError: an unknown vector or method, an invalid range, or nothing to vary.
    """
    found = (*_vectors(recipe, search), *_method(recipe, search), *_density(recipe, search), *_scale(recipe, search))
    if not found:
        raise UsageError(
            "there is nothing to vary: no vector is active", "Name one with --vary, or see 'persona vectors'."
        )
    return found


def _vectors(recipe: Recipe, search: SearchOptions) -> Iterator[VariedSetting]:
    for name in search.vary:
        if recipe.entry(name) is None:
            raise UsageError(f"there is no vector '{name}' in the recipe", did_you_mean(name, recipe.names))
    for entry in recipe.vectors:
        if entry.name in search.vary or (not search.vary and alphas.acts(entry.alpha)):
            bounds = search.vary.get(entry.name) or search.alphas
            yield _vector(entry, None if bounds is None else _checked(entry.name, bounds, LARGEST))


def _vector(entry: Entry, bounds: Bounds | None) -> VariedSetting:
    if isinstance(entry.alpha, tuple):
        return VariedSetting(entry.name, "factor", *(bounds or (0.0, REACH)), now=1.0)
    far = REACH * max(1.0, abs(entry.alpha))
    return VariedSetting(
        entry.name, "alpha", *(bounds or ((-far, 0.0) if entry.alpha < 0 else (0.0, far))), now=entry.alpha
    )


def _method(recipe: Recipe, search: SearchOptions) -> Iterator[VariedSetting]:
    known = (*methods.names(), *methods.ALIASES)
    for name in search.methods:
        if name not in known:
            raise UsageError(f"unknown method '{name}'", did_you_mean(name, known))
    if search.methods:
        options = tuple(dict.fromkeys(methods.ALIASES.get(name, name) for name in search.methods))
        yield VariedSetting(METHOD, "method", options=options, now=recipe.method)


def _density(recipe: Recipe, search: SearchOptions) -> Iterator[VariedSetting]:
    if search.density is None:
        return
    with_density = [name for name in search.methods or (recipe.method,) if has_density(name)]
    if not with_density:
        raise UsageError(
            f"{', '.join(search.methods or (recipe.method,))} has no density",
            f"Also vary the method: --method {','.join(name for name in methods.names() if has_density(name))}",
        )
    low, high = _checked(DENSITY, search.density, 1.0)
    if low <= 0:
        raise UsageError(f"a density of {low:g} keeps nothing", "Start above 0: --density 0.1:1.")
    now = recipe.parameters.get(DENSITY, _declared(recipe.method).default) if has_density(recipe.method) else None
    yield VariedSetting(DENSITY, "density", low, high, now=None if now is None else float(now))


def _scale(recipe: Recipe, search: SearchOptions) -> Iterator[VariedSetting]:
    if search.scale is not None:
        yield VariedSetting(SCALE, "scale", *_checked(SCALE, search.scale, LARGEST), now=recipe.scale)


def _checked(name: str, bounds: Bounds, most: float) -> Bounds:
    low, high = (value + 0.0 for value in bounds)
    if not (low < high and abs(low) <= most and abs(high) <= most):  # also true for NaN
        raise UsageError(
            f"{low:g}:{high:g} is not a valid range for {name}",
            f"Give LOW:HIGH with LOW below HIGH, and neither larger than {most:g} in size.",
        )
    return low, high


def has_density(method: str) -> bool:
    """Whether a method has a density."""
    return DENSITY in methods.load(method).PARAMETERS


def _declared(method: str) -> Number:
    found = methods.load(method).PARAMETERS[DENSITY]
    assert isinstance(found, Number)
    return found


def now(things: Sequence[VariedSetting]) -> dict[str, Any]:
    """The settings of the present recipe."""
    return {thing.key: thing.now for thing in things}


def middle(things: Sequence[VariedSetting]) -> dict[str, Setting]:
    """Settings in the middle of each range, for a trial run."""
    return {thing.key: thing.middle for thing in things}


def recipe_at(recipe: Recipe, things: Sequence[VariedSetting], settings: Settings) -> Recipe:
    """The recipe with these settings. Parameters that a new method does not have are dropped."""
    found = recipe
    for thing in things:
        value = settings[thing.key]
        if thing.kind == "method":
            found = _with_method(found, str(value))
        elif thing.kind == "density":
            found = _with_density(found, float(value))
        elif thing.kind == "scale":
            found = replace(found, scale=float(value))
        else:
            found = _with_alpha(found, thing, float(value))
    return found


def _with_alpha(recipe: Recipe, thing: VariedSetting, value: float) -> Recipe:
    def changed(entry: Entry) -> Entry:
        if entry.name != thing.name:
            return entry
        scaled = alphas.rounded(alphas.times(entry.alpha, value), 6) if thing.kind == "factor" else value
        return replace(entry, alpha=scaled)

    return replace(recipe, vectors=tuple(map(changed, recipe.vectors)))


def _with_method(recipe: Recipe, method: str) -> Recipe:
    if method == recipe.method:
        return recipe
    declared = methods.load(method).PARAMETERS
    own = {name for name, parameter in declared.items() if parameter.per_vector}

    def kept(entry: Entry) -> Entry:
        return replace(entry, parameters={key: value for key, value in entry.parameters.items() if key in own})

    parameters = {key: value for key, value in recipe.parameters.items() if key in declared}
    return replace(recipe, method=method, parameters=parameters, vectors=tuple(map(kept, recipe.vectors)))


def _with_density(recipe: Recipe, value: float) -> Recipe:
    return replace(recipe, parameters={**recipe.parameters, DENSITY: value}) if has_density(recipe.method) else recipe


def complaint(recipe: Recipe) -> str | None:
    """What is wrong with parameters that are valid one by one but not together; None if nothing is."""
    module = methods.load(recipe.method)
    for own in ({}, *(entry.parameters for entry in recipe.vectors)):
        problem = methods.complaint(module, methods.settings(module.PARAMETERS, recipe.parameters, own))
        if problem is not None:
            return problem
    return None
