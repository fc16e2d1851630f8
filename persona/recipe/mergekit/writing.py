"""Write a recipe as a mergekit configuration that gives the same model; name what mergekit cannot express.

Both compute in fp32 (``dtype: float32``) and round once to ``out_dtype``. Notes name the cases in which mergekit's
result can differ (random masks, equal magnitudes at the edge of a density).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from persona import methods
from persona.errors import Refusal
from persona.methods.parts.parameters import Value
from persona.recipe import alphas
from persona.recipe.alphas import Depths
from persona.recipe.mergekit import COUNTING, DRAWING, ELECTING, METHODS, PER_MODEL, SUMMING, TRIMMING
from persona.recipe.mergekit.density import floor_of, floor_or_one, to_theirs
from persona.recipe.mergekit.setting import weight_of
from persona.recipe.model import Entry, Recipe

BAKE = "Bake the vectors into one first (persona bake), or build the model itself (persona build)."

RANDOM = "mergekit draws different random entries: the method and probabilities are the same, the weights are not"
EDGES = (
    "of entries with equal magnitudes at the edge of the density, mergekit keeps those that its sort puts first, and "
    "persona an even selection"
)
ENERGIES = (
    "mergekit weighs vectors equally if they moved less than about 1e-3 per weight; persona always by their energies"
)
BOUNDS = "if runs point apart, mergekit's model_stock leaves the line between base and mean; persona stays on it"


@dataclass(frozen=True)
class Model:
    """A vector that acts, its reference in mergekit, and the number of entries of each tensor that it changes."""

    entry: Entry
    reference: str
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Written:
    """A configuration as plain values, and notes about what can differ."""

    config: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass
class _Draft:
    """A configuration that is being written."""

    recipe: Recipe
    base: str
    models: Sequence[Model]
    depths: Depths
    shared: dict[str, Any] = field(default_factory=dict)
    own: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def settings(self, entry: Entry | None = None) -> dict[str, Value]:
        """Return every parameter of the method, for one vector or for all."""
        declared = methods.load(self.recipe.method).PARAMETERS
        return methods.settings(declared, self.recipe.parameters, entry.parameters if entry else {})


def config_of(recipe: Recipe, base: str, models: Sequence[Model], depths: Depths, out_dtype: str) -> Written:
    """Translate a recipe.

    Args:
        base: Reference to the base model.
        models: The vectors that act.
        out_dtype: dtype of the merged model.

    Raises:
        Refusal: mergekit cannot express the recipe.
    """
    if recipe.method not in METHODS:
        raise Refusal(
            f"mergekit has no method '{recipe.method}' (merge.method)",
            f"It has {', '.join(sorted(METHODS))}. {BAKE}",
        )
    draft = _Draft(recipe, base, models, depths, own=[{} for _ in models])
    method = METHODS[recipe.method]
    if recipe.method in SUMMING | ELECTING:
        _arithmetic(draft)
    else:
        _OTHERS[recipe.method](draft)
    return Written(_assembled(draft, method, out_dtype), tuple(draft.notes))


def _assembled(draft: _Draft, method: str, out_dtype: str) -> dict[str, Any]:
    listed = [
        {"model": model.reference, **({"parameters": own} if own else {})}
        for model, own in zip(draft.models, draft.own, strict=True)
    ]
    config: dict[str, Any] = {"merge_method": method}
    if method == "slerp":
        config["base_model"] = draft.base if len(listed) == 1 else listed[0]["model"]
        listed = [{"model": draft.base}, *listed] if len(listed) == 1 else listed
    elif method != "karcher":
        config["base_model"] = draft.base
    config["models"] = listed
    if draft.shared:
        config["parameters"] = draft.shared
    return config | {"dtype": "float32", "out_dtype": out_dtype}


def _arithmetic(draft: _Draft) -> None:
    """Write weights, the method's own parameters, normalize and lambda."""
    for model, own in zip(draft.models, draft.own, strict=True):
        own["weight"] = weight_of(model.entry, model.sizes, draft.depths)
        _sparsity(draft, model, own)
    if draft.recipe.method in DRAWING and any(own.get("density", 1) != 1 for own in draft.own):
        draft.shared["rescale"] = _rescale(draft)
        draft.notes.append(RANDOM)
    if draft.recipe.method in TRIMMING and any(own["density"] != 1 for own in draft.own):
        draft.notes.append(EDGES)
    draft.shared["normalize"] = False
    draft.shared["lambda"] = draft.recipe.scale
    if draft.recipe.method in ELECTING:
        _divide(draft)


def _sparsity(draft: _Draft, model: Model, own: dict[str, Any]) -> None:
    settings = draft.settings(model.entry)
    if settings.get("trim") == "model":
        raise Refusal(
            'mergekit has no trim = "model" (merge.trim): it trims each tensor separately',
            f'Set trim = "tensor". {BAKE}',
        )
    for key in PER_MODEL:
        if key in settings:
            own[key] = settings[key]
    if draft.recipe.method in TRIMMING:
        count = floor_or_one if draft.recipe.method == "ties" else floor_of
        own["density"] = to_theirs(float(settings["density"]), model.sizes, count)
    if "epsilon" in settings:
        _check_chances(model.entry.name, float(settings["density"]), float(settings["epsilon"]))


def _check_chances(name: str, density: float, epsilon: float) -> None:
    if density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
        raise Refusal(
            f"vector '{name}': mergekit needs density ± epsilon between 0 and 1, not {density:g} ± {epsilon:g}",
            "Lower epsilon in [merge].",
        )


def _rescale(draft: _Draft) -> bool:
    rescale = draft.settings()["rescale"]
    if rescale == "density":
        raise Refusal(
            'mergekit has no rescale = "density" (merge.rescale): it restores the L1 norm instead',
            'Set rescale = "l1" or "none" in [merge]. The result will differ.',
        )
    return rescale == "l1"


def _divide(draft: _Draft) -> None:
    """Write the divisor of the sum of agreeing vectors; mergekit's is the sum of the signed weights."""
    normalize = draft.settings()["normalize"]
    numbers = [value for model in draft.models for value in alphas.numbers(model.entry.alpha)]
    plain = all(isinstance(own["weight"], float) for own in draft.own)
    if normalize == "none":
        return
    if normalize == "weights" and min(numbers) >= 0:
        draft.shared["normalize"] = True
    elif normalize == "count" and plain and len(set(numbers)) == 1:
        draft.shared |= {"normalize": True, "lambda": draft.recipe.scale * numbers[0]}
        for own in draft.own:
            own["weight"] = 1.0
    else:
        _refuse_normalize(draft, str(normalize))


def _refuse_normalize(draft: _Draft, normalize: str) -> NoReturn:
    if normalize == "count":
        problem = "divides by a count, and mergekit by a sum of weights, which is the same only if all alphas are equal"
    else:
        problem = "adds up absolute alphas, and mergekit signed ones, which is the same only if none is negative"
    given = ", ".join(f"{model.entry.name} {alphas.alpha_text(model.entry.alpha)}" for model in draft.models)
    raise Refusal(
        f'normalize = "{normalize}" (merge.normalize) {problem}; here they are {given}',
        f'Set normalize = "none" in [merge] and lower the alphas, which gives another result. {BAKE}',
    )


def _slerp(draft: _Draft) -> None:
    _check_whole(draft, lambda value: value == 1, "1")
    draft.shared["t"] = draft.settings()["t"]


def _nuslerp(draft: _Draft) -> None:
    _check_whole(draft, lambda value: True, "a number")
    for model, own in zip(draft.models, draft.own, strict=True):
        own["weight"] = model.entry.alpha


def _karcher(draft: _Draft) -> None:
    first = alphas.numbers(draft.models[0].entry.alpha)[0]
    _check_whole(draft, lambda value: value == first, "the same for all vectors")
    draft.shared |= {key: draft.settings()[key] for key in ("max_iter", "tol")}


def _sce(draft: _Draft) -> None:
    _check_whole(draft, lambda value: value == 1, "1")
    draft.shared["select_topk"] = draft.settings()["select_topk"]
    draft.notes.append(ENERGIES)


def _model_stock(draft: _Draft) -> None:
    _check_whole(draft, lambda value: value == 1, "1")
    if len(draft.models) < 2:
        raise Refusal("mergekit's model_stock needs at least two vectors", "Use linear, which is the same for one.")
    draft.notes.append(BOUNDS)


def _counting(draft: _Draft) -> None:
    _check_whole(draft, lambda value: value == 1, "1")
    draft.shared |= {COUNTING[key]: value for key, value in draft.settings().items()}


_OTHERS: Mapping[str, Callable[[_Draft], None]] = {
    "slerp": _slerp, "nuslerp": _nuslerp, "karcher": _karcher, "sce": _sce, "model_stock": _model_stock,
    "ram": _counting, "ramplus_tl": _counting,
}  # fmt: skip


def _check_whole(draft: _Draft, ok: Callable[[float], bool], wanted: str) -> None:
    """Raise unless every vector applies to the whole model, and λ is 1: mergekit has no other weights here."""
    method = draft.recipe.method
    if draft.recipe.scale != 1:
        raise Refusal(f"mergekit's {method} has no scale (merge.scale)", f"Set scale = 1. {BAKE}")
    for model in draft.models:
        entry = model.entry
        for key, patterns in (("only", entry.only), ("except", entry.excepted)):
            if patterns:
                raise Refusal(f"vectors.{entry.name}.{key}: mergekit's {method} merges whole models only", BAKE)
        if isinstance(entry.alpha, tuple) or not ok(entry.alpha):
            raise Refusal(
                f"vectors.{entry.name}.alpha: mergekit's {method} needs {wanted}, not {alphas.alpha_text(entry.alpha)}",
                BAKE,
            )
