"""Translate a mergekit configuration into a recipe that gives the same model; name what a recipe cannot express.

mergekit's defaults are written out, because persona's differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from persona import methods
from persona.errors import PersonaError, did_you_mean
from persona.methods.parts.parameters import Number, Value
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.mergekit import BY_MODEL, COUNTING, DRAWING, ELECTING, METHODS, SUMMING, TRIMMING
from persona.recipe.mergekit.config import ListedModel, MergekitConfig, ModelReference
from persona.recipe.mergekit.density import floor_of, floor_or_one, to_ours
from persona.recipe.mergekit.setting import alpha_of, numbers
from persona.settings import Table

OURS = {theirs: ours for ours, theirs in METHODS.items()} | {"linear": "linear"}

_NORMALIZES = frozenset({"ties", "della"})
_DEFAULTS: Mapping[str, Any] = {"density": 1.0, "gamma": 0.01, "epsilon": 0.15}


@dataclass(frozen=True)
class RecipePart:
    """A model that becomes a vector. Its weight and density are mergekit's settings; other parameters are numbers."""

    reference: ModelReference
    key: str
    weight: Any = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Merge:
    """Everything in a recipe except the ids of its vectors."""

    method: str
    scale: float
    parameters: Mapping[str, Value]
    parts: tuple[RecipePart, ...]
    notes: tuple[str, ...] = ()


def merge_of(config: MergekitConfig, bases: Collection[ModelReference]) -> Merge:
    """Translate a configuration into a recipe.

    Args:
        bases: The models of `config` that are the recipe's base.

    Raises:
        RecipeError: a recipe cannot express the configuration.
    """
    if config.method not in OURS:
        raise config.error("merge_method", f"'{config.method}' is not supported", did_you_mean(config.method, OURS))
    reader = _Reader(config, bases)
    reader.check_names()
    if config.method == "linear":
        return reader.mean()
    if config.method in _OTHERS:
        return _OTHERS[config.method](reader)
    return reader.arithmetic(OURS[config.method])


def alpha_for(part: RecipePart, names: Iterable[str], depths: Depths, config: MergekitConfig) -> Alpha:
    """Return the alpha of a part whose vector changes the tensors `names`.

    Raises:
        RecipeError: the part's weight leaves a tensor without a value.
    """
    alpha = alpha_of(part.weight, names, depths)
    if alpha is None:
        raise config.error(f"{part.key}.parameters.weight", "no filter matches some tensors", "Add '- value: NUMBER'.")
    return alpha


def own_parameters(
    part: RecipePart, method: str, sizes: Mapping[str, int], depths: Depths, config: MergekitConfig
) -> dict[str, Value]:
    """Return a part's parameters, with its density adjusted to persona's rounding.

    Args:
        sizes: Number of entries of each tensor that the vector changes.

    Raises:
        RecipeError: no single density keeps as many entries as mergekit does.
    """
    parameters: dict[str, Value] = dict(part.parameters)
    if method in TRIMMING:
        density = to_ours(parameters["density"], sizes, depths, floor_or_one if method == "ties" else floor_of)
        if density is None:
            raise config.error(
                f"{part.key}.parameters.density",
                "no single density keeps as many entries of every tensor as mergekit does",
                "Give one number for all tensors, such as a slightly larger one.",
            )
        parameters["density"] = density
    return parameters


class _Reader:
    """A configuration, and the models in it that become vectors."""

    def __init__(self, config: MergekitConfig, bases: Collection[ModelReference]) -> None:
        self.config = config
        self.bases = bases
        self.runs = [model for model in config.models if model.reference not in bases]

    def error(self, key: str, problem: str, hint: str) -> PersonaError:
        return self.config.error(key, problem, hint)

    def check_names(self) -> None:
        """Raise for a parameter that the method does not have, or that is in the wrong place."""
        known, method = _KNOWN[self.config.method], self.config.method
        shared = self.config.parameters
        for table in (shared, *(model.parameters for model in self.config.models)):
            for name in table.values:
                if name not in known:
                    raise table.error(name, f"not a parameter of {method}", did_you_mean(name, known))
                if table is not shared and (name not in BY_MODEL or method in ("ram", "ramplus_tl")):
                    raise table.error(name, "applies to all models", "Move it to 'parameters:' at the top level.")

    def table(self, name: str, model: ListedModel | None) -> Table:
        """Return the parameters that `name` is read from: the model's own, or those of all models."""
        return model.parameters if model is not None and name in model.parameters else self.config.parameters

    def flag(self, name: str, default: bool) -> bool:
        return self.config.parameters.flag(name, default)

    def number(self, name: str, model: ListedModel | None, default: float | None = None) -> float:
        table = self.table(name, model)
        value = table.values.get(name, default)
        if value is None:
            raise table.error(name, "is missing", f"{self.config.method} needs it.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise table.error(name, "must be a single number", "Give one number for all tensors.")
        return float(value)

    def weight(self, model: ListedModel) -> Any:
        value = self.table("weight", model).values.get("weight")
        if value is None or isinstance(value, bool):
            raise model.parameters.error("weight", "is missing, or not a number", "Give every model a weight.")
        return value

    def share(self, name: str, model: ListedModel, *, by_tensor: bool) -> Any:
        """Return a number, or mergekit's setting if it may differ by tensor."""
        if by_tensor:
            return self.table(name, model).values.get(name, _DEFAULTS[name])
        return self.number(name, model, _DEFAULTS[name])

    def plain_weights(self, models: Iterable[ListedModel], why: str) -> list[float]:
        """Return weights that must be single numbers."""
        weights = []
        for model in models:
            weight = self.weight(model)
            if not isinstance(weight, int | float):
                raise model.parameters.error("weight", f"must be a single number {why}", "Set normalize: false.")
            weights.append(float(weight))
        return weights

    def check_count(self, least: int, most: int | None = None) -> None:
        if not least <= len(self.runs) <= (most or len(self.runs)):
            wanted = str(least) if most == least else f"{least} or more"
            problem = f"{len(self.runs)} models besides the base, but {self.config.method} needs {wanted}"
            raise self.error("models", problem, "See 'persona methods'.")

    def merge(
        self,
        method: str,
        parts: Iterable[RecipePart],
        scale: float = 1.0,
        parameters: Mapping[str, Value] | None = None,
    ) -> Merge:
        return Merge(method, scale, parameters or {}, tuple(parts), self.config.notes)

    def arithmetic(self, method: str) -> Merge:
        """Read a method that adds vectors up, or elects signs first."""
        self.check_count(1)
        scale = self.number("lambda", None, 1.0)
        parameters: dict[str, Value] = {}
        names = [name for name in _DEFAULTS if name in _KNOWN[self.config.method] and method != "linear"]
        by_tensor = {name for name in names if name == "density" and method in TRIMMING}
        parts = [
            RecipePart(
                model.reference,
                model.key,
                self.weight(model),
                {name: self.share(name, model, by_tensor=name in by_tensor) for name in names},
            )
            for model in self.runs
        ]
        self._check_shares(parts)
        if method in DRAWING:
            parameters["rescale"] = "l1" if self.flag("rescale", True) else "none"
        elif self.flag("rescale", False):
            raise self.error("parameters.rescale", f"not supported for {self.config.method}", "Set rescale: false.")
        normalize = self.flag("normalize", self.config.method in _NORMALIZES)
        if method in ELECTING:
            parameters["normalize"] = "weights" if normalize else "none"
            self._check_signs(parts, normalize)
        elif normalize:
            scale /= self._sum(self.plain_weights(self.runs, "to be normalized"))
        return self.merge(method, parts, scale, parameters)

    def _check_shares(self, parts: Iterable[RecipePart]) -> None:
        for part in parts:
            density = part.parameters.get("density", 1.0)
            values = [density] if isinstance(density, bool) else numbers(density)
            wrong = [value for value in values if isinstance(density, bool) or not 0 < value <= 1]
            if wrong:
                problem = f"{wrong[0]:g} is not a share of entries"
                raise self.error(f"{part.key}.parameters.density", problem, "Give a number above 0, at most 1.")

    def _check_signs(self, parts: Iterable[RecipePart], normalize: bool) -> None:
        for part in parts:
            if normalize and min(numbers(part.weight)) < 0:
                raise self.error(
                    f"{part.key}.parameters.weight",
                    "is negative, and normalize: true divides by the sum of signed weights, which flips the sign",
                    "Set normalize: false to subtract the vector.",
                )

    def _sum(self, weights: Iterable[float]) -> float:
        total = sum(weights)
        if abs(total) < 1e-8:
            raise self.error("parameters.normalize", "the weights add up to 0", "Set normalize: false.")
        return total

    def mean(self) -> Merge:
        """Read a mean of models: W_base + Σ wᵢ/Σw τᵢ, since the models are W_base + τᵢ."""
        self.check_count(1)
        weights = self.plain_weights(self.config.models, "in a mean of models")
        total = self._sum(weights)
        if not self.flag("normalize", True):
            if abs(total - 1) > 1e-9:
                problem = f"the weights add up to {total:g}, which would scale the base itself"
                raise self.error("parameters.normalize", problem, "Make them add up to 1, or set normalize: true.")
            total = 1.0
        by_key = dict(zip((model.key for model in self.config.models), weights, strict=True))
        parts = [RecipePart(model.reference, model.key, by_key[model.key] / total) for model in self.runs]
        return self.merge("linear", parts)

    def whole(self) -> list[RecipePart]:
        """Return parts without weights."""
        return [RecipePart(model.reference, model.key) for model in self.runs]

    def check_no_base(self) -> None:
        if len(self.runs) < len(self.config.models):
            raise self.error("models", "the base is in the list, but it is not a vector", "Remove it from the list.")


def _slerp(reader: _Reader) -> Merge:
    """Read an interpolation from ``base_model`` to the other model; both may be runs."""
    base = reader.config.base
    references = [model.reference for model in reader.config.models]
    others = [reference for reference in references if reference != base]
    if base is None or len(references) > 2 or len(others) != 1:
        raise reader.error("models", "slerp takes base_model and one other model", "List two models.")
    parts = sorted(reader.whole(), key=lambda part: part.reference != base)
    t = reader.number("t", None)
    if not 0 <= t <= 1:
        raise reader.error("parameters.t", f"{t:g} is not between 0 and 1", "Give a number from 0 to 1.")
    if base not in reader.bases:
        if base not in references:
            parts = [RecipePart(base, "base_model"), *parts]
        if len(parts) == 1:  # the other model is the recipe's base: the same way from its other end
            t = 1 - t
    if not parts:
        raise reader.error("models", "both models are the base", "Name a run.")
    return reader.merge("slerp", parts, 1.0, {"t": t})


def _nuslerp(reader: _Reader) -> Merge:
    """Read an interpolation between task vectors or, without a base, between models."""
    if reader.flag("nuslerp_row_wise", False) or not reader.flag("nuslerp_flatten", True):
        raise reader.error("parameters", "only whole tensors are supported", "Keep nuslerp_flatten: true.")
    reader.check_count(2, 2)
    a, b = weights = reader.plain_weights(reader.runs, "in nuslerp")
    if abs(a + b) < 1e-6 or min(weights) < 0 < max(weights):
        raise reader.error("models", f"the weights {a:g} and {b:g} have opposite signs", "Give positive weights.")
    if reader.config.base is None:
        return reader.merge("slerp", reader.whole(), 1.0, {"t": b / (a + b)})
    parts = [RecipePart(model.reference, model.key, w) for model, w in zip(reader.runs, weights, strict=True)]
    return reader.merge("nuslerp", parts)


def _karcher(reader: _Reader) -> Merge:
    reader.check_no_base()
    reader.check_count(1)
    given = {"max_iter": int(reader.number("max_iter", None, 10)), "tol": reader.number("tol", None, 1e-5)}
    return reader.merge("karcher", reader.whole(), 1.0, given)


def _sce(reader: _Reader) -> Merge:
    reader.check_count(1)
    return reader.merge("sce", reader.whole(), 1.0, {"select_topk": reader.number("select_topk", None, 1.0)})


def _model_stock(reader: _Reader) -> Merge:
    if reader.flag("filter_wise", False):
        raise reader.error("parameters.filter_wise", "only whole tensors are supported", "Set filter_wise: false.")
    reader.check_count(2)
    return reader.merge("model_stock", reader.whole())


def _counting(reader: _Reader) -> Merge:
    """Read a method that counts who changes an entry; its defaults are ours."""
    reader.check_count(1)
    method = OURS[reader.config.method]
    declared = {name: known for name, known in methods.load(method).PARAMETERS.items() if isinstance(known, Number)}
    values = {name: reader.number(COUNTING[name], None, known.default) for name, known in declared.items()}
    for name, known in declared.items():
        if not known.low <= values[name] <= known.high:
            key = f"parameters.{COUNTING[name]}"
            raise reader.error(key, f"{values[name]:g} is not {known.wanted}", "Correct it.")
    return reader.merge(method, reader.whole(), 1.0, values)


_OTHERS: Mapping[str, Callable[[_Reader], Merge]] = {
    "slerp": _slerp, "nuslerp": _nuslerp, "karcher": _karcher, "sce": _sce, "model_stock": _model_stock,
    "ram": _counting, "ramplus_tl": _counting,
}  # fmt: skip

_ARITHMETIC = ("weight", "density", "normalize", "rescale", "lambda", "int8_mask")
_KNOWN: Mapping[str, tuple[str, ...]] = {
    **{METHODS[name]: _ARITHMETIC for name in SUMMING | ELECTING},
    "breadcrumbs": (*_ARITHMETIC, "gamma"),
    "breadcrumbs_ties": (*_ARITHMETIC, "gamma"),
    "della": (*_ARITHMETIC, "epsilon"),
    "della_linear": (*_ARITHMETIC, "epsilon"),
    "linear": ("weight", "normalize"),
    "slerp": ("t",),
    "nuslerp": ("weight", "nuslerp_row_wise", "nuslerp_flatten"),
    "karcher": ("max_iter", "tol"),
    "sce": ("select_topk", "int8_mask"),
    "model_stock": ("filter_wise",),
    "ram": ("epsilon",),
    "ramplus_tl": ("r", "alpha", "epsilon"),
}
"""Parameters of each method, by mergekit's names; ``int8_mask`` saves memory there and does not change the result."""
