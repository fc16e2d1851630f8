"""What a recipe must say to give the model of a mergekit configuration; an error names what it cannot say.

mergekit's defaults are made explicit, for ours are others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import RecipeError, did_you_mean
from persona.methods.parts.parameters import Value
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.mergekit import DRAWING, ELECTING, METHODS, SUMMING, TRIMMING
from persona.recipe.mergekit.config import ListedModel, MergekitConfig, ModelReference
from persona.recipe.mergekit.density import floor_of, floor_or_one, to_ours
from persona.recipe.mergekit.setting import alpha_of, numbers

OURS = {theirs: ours for ours, theirs in METHODS.items()} | {"linear": "linear"}

_NORMALIZES = frozenset({"ties", "della"})
_DEFAULTS: Mapping[str, Any] = {"density": 1.0, "gamma": 0.01, "epsilon": 0.15}
_BY_MODEL = frozenset({"weight", "density", "gamma", "epsilon"})


@dataclass(frozen=True)
class RecipePart:
    """A model that becomes a vector. Its weight and density are mergekit's settings, and the others numbers."""

    reference: ModelReference
    key: str
    weight: Any = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Merge:
    """Everything of a recipe but its vectors' ids."""

    method: str
    scale: float
    parameters: Mapping[str, Value]
    parts: tuple[RecipePart, ...]
    notes: tuple[str, ...] = ()


def merge_of(config: MergekitConfig, bases: Collection[ModelReference]) -> Merge:
    """The recipe of ``config``; ``bases`` are those of its models that are the recipe's base."""
    if config.method not in OURS:
        hint = did_you_mean(config.method, OURS) if config.method else ""
        raise config.error("merge_method", f"'{config.method}' has no counterpart here", hint)
    reader = _Reader(config, bases)
    reader.check_names()
    if config.method == "linear":
        return reader.mean()
    if config.method in _OTHERS:
        return _OTHERS[config.method](reader)
    return reader.arithmetic(OURS[config.method])


def alpha_for(part: RecipePart, names: Iterable[str], depths: Depths, config: MergekitConfig) -> Alpha:
    """A part's alpha, as a vector that changes ``names``."""
    alpha = alpha_of(part.weight, names, depths)
    if alpha is None:
        raise config.error(f"{part.key}.parameters.weight", "no filter matches some tensors", "Add '- value: NUMBER'.")
    return alpha


def own_parameters(
    part: RecipePart, method: str, sizes: Mapping[str, int], depths: Depths, config: MergekitConfig
) -> dict[str, Value]:
    """A part's parameters as our rounding has to be told them, for a vector whose tensors have these sizes."""
    found: dict[str, Value] = dict(part.parameters)
    if method in TRIMMING:
        density = to_ours(found["density"], sizes, depths, floor_or_one if method == "ties" else floor_of)
        if density is None:
            raise config.error(
                f"{part.key}.parameters.density",
                "no one density keeps as many entries of every tensor as mergekit would",
                "Give one number for all tensors, such as a slightly larger one.",
            )
        found["density"] = density
    return found


class _Reader:
    """One configuration, and which of its models are the base."""

    def __init__(self, config: MergekitConfig, bases: Collection[ModelReference]) -> None:
        self.config = config
        self.bases = bases
        self.runs = [one for one in config.models if one.reference not in bases]

    def error(self, key: str, what: str, hint: str) -> RecipeError:
        return self.config.error(key, what, hint)

    def check_names(self) -> None:
        """Raise for a parameter that the method has not, or that stands at the wrong place."""
        known = _KNOWN[self.config.method]
        for key, table in [("parameters", self.config.parameters)] + [
            (f"{one.key}.parameters", one.parameters) for one in self.config.models
        ]:
            for name in table:
                if name not in known:
                    raise self.error(
                        f"{key}.{name}", f"no parameter of {self.config.method}", did_you_mean(name, known)
                    )
                if key != "parameters" and name not in _BY_MODEL:
                    raise self.error(
                        f"{key}.{name}", "counts for all models", "Write it below 'parameters:' at the end."
                    )

    def setting(self, name: str, one: ListedModel | None, default: Any = None) -> tuple[Any, str]:
        """A parameter of a model, or of all, and its key."""
        if one is not None and name in one.parameters:
            return one.parameters[name], f"{one.key}.parameters.{name}"
        return self.config.parameters.get(name, default), f"parameters.{name}"

    def truth(self, name: str, default: bool) -> bool:
        value, key = self.setting(name, None, default)
        if not isinstance(value, bool):
            raise self.error(key, f"{value!r} is neither true nor false", "Write true or false.")
        return value

    def number(self, name: str, one: ListedModel | None, default: float | None = None) -> float:
        value, key = self.setting(name, one, default)
        if value is None:
            raise self.error(key, "is missing", f"{self.config.method} needs it.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "is not one number, and here it must be", "Give one number for all tensors.")
        return float(value)

    def weight(self, one: ListedModel) -> Any:
        value, _ = self.setting("weight", one)
        if value is None or isinstance(value, bool):
            raise self.error(f"{one.key}.parameters.weight", "is missing, or no number", "Give every model a weight.")
        return value

    def share(self, name: str, one: ListedModel, *, by_tensor: bool) -> Any:
        """A parameter that a model may have: a number, or where that can be carried over a setting."""
        return self.setting(name, one, _DEFAULTS[name])[0] if by_tensor else self.number(name, one, _DEFAULTS[name])

    def plain_weights(self, models: Iterable[ListedModel], why: str) -> list[float]:
        """Weights that are numbers."""
        found = []
        for one in models:
            weight = self.weight(one)
            if not isinstance(weight, int | float):
                raise self.error(f"{one.key}.parameters.weight", f"must be one number {why}", "Set normalize: false.")
            found.append(float(weight))
        return found

    def check_count(self, least: int, most: int | None = None) -> None:
        if not least <= len(self.runs) <= (most or len(self.runs)):
            wanted = str(least) if most == least else f"{least} or more"
            what = f"{len(self.runs)} models beside the base, and {self.config.method} has {wanted} here"
            raise self.error("models", what, "See 'persona methods'.")

    def merge(
        self,
        method: str,
        parts: Iterable[RecipePart],
        scale: float = 1.0,
        parameters: Mapping[str, Value] | None = None,
    ) -> Merge:
        return Merge(method, scale, parameters or {}, tuple(parts), self.config.notes)

    def arithmetic(self, method: str) -> Merge:
        """Sums and elections."""
        self.check_count(1)
        scale = self.number("lambda", None, 1.0)
        parameters: dict[str, Value] = {}
        names = [name for name in _DEFAULTS if name in _KNOWN[self.config.method] and method != "linear"]
        by_tensor = {name for name in names if name == "density" and method in TRIMMING}
        parts = [
            RecipePart(
                one.reference,
                one.key,
                self.weight(one),
                {n: self.share(n, one, by_tensor=n in by_tensor) for n in names},
            )
            for one in self.runs
        ]
        self._check_shares(parts)
        if method in DRAWING:
            parameters["rescale"] = "l1" if self.truth("rescale", True) else "none"
        elif self.truth("rescale", False):
            raise self.error("parameters.rescale", f"{self.config.method} does not rescale here", "Set rescale: false.")
        normalize = self.truth("normalize", self.config.method in _NORMALIZES)
        if method in ELECTING:
            parameters["normalize"] = "weights" if normalize else "none"
            self._check_signs(parts, normalize)
        elif normalize:
            scale /= self._sum(self.plain_weights(self.runs, "to be normalized"))
        return self.merge(method, parts, scale, parameters)

    def _check_shares(self, parts: Iterable[RecipePart]) -> None:
        for part in parts:
            said = part.parameters.get("density", 1.0)
            wrong = [value for value in numbers(said) if not 0 < value <= 1] if not isinstance(said, bool) else [said]
            if wrong:
                what = f"{wrong[0]:g} is no share of entries that are kept"
                raise self.error(f"{part.key}.parameters.density", what, "Give a number above 0, at most 1.")

    def _check_signs(self, parts: Iterable[RecipePart], normalize: bool) -> None:
        for part in parts:
            if normalize and min(numbers(part.weight)) < 0:
                raise self.error(
                    f"{part.key}.parameters.weight",
                    "is negative, and normalize: true divides by the sum of signed weights, which turns it round",
                    "Set normalize: false, which takes the vector away.",
                )

    def _sum(self, weights: Iterable[float]) -> float:
        total = sum(weights)
        if abs(total) < 1e-8:
            raise self.error("parameters.normalize", "the weights add up to 0", "Set normalize: false.")
        return total

    def mean(self) -> Merge:
        """A mean of models: W_base + Σ wᵢ/Σw τᵢ, for the models are W_base + τᵢ."""
        self.check_count(1)
        weights = self.plain_weights(self.config.models, "in a mean of models")
        total = self._sum(weights)
        if not self.truth("normalize", True):
            if abs(total - 1) > 1e-9:
                what = f"the weights add up to {total:g}, so the base itself would be scaled"
                raise self.error("parameters.normalize", what, "Make them add up to 1, or set normalize: true.")
            total = 1.0
        by_key = dict(zip((one.key for one in self.config.models), weights, strict=True))
        return self.merge("linear", [RecipePart(one.reference, one.key, by_key[one.key] / total) for one in self.runs])

    def whole(self) -> list[RecipePart]:
        """Models that have no weights."""
        return [RecipePart(one.reference, one.key) for one in self.runs]

    def check_no_base(self) -> None:
        if len(self.runs) < len(self.config.models):
            raise self.error("models", "the base is one of the models, and here a base is no vector", "Take it out.")


def _slerp(reader: _Reader) -> Merge:
    """From ``base_model`` to the other model; both may be runs."""
    base = reader.config.base
    references = [one.reference for one in reader.config.models]
    others = [one for one in references if one != base]
    if base is None or len(references) > 2 or len(others) != 1:
        raise reader.error("models", "slerp has base_model and one other model", "List two models.")
    parts = sorted(reader.whole(), key=lambda part: part.reference != base)
    t = reader.number("t", None)
    if not 0 <= t <= 1:
        raise reader.error("parameters.t", f"{t:g} is no share of the way", "Give a number from 0 to 1.")
    if base not in reader.bases:
        if base not in references:
            parts = [RecipePart(base, "base_model"), *parts]
        if len(parts) == 1:  # the other one is the recipe's base: the same way from its other end
            t = 1 - t
    if not parts:
        raise reader.error("models", "both models are the base", "Name a run.")
    return reader.merge("slerp", parts, 1.0, {"t": t})


def _nuslerp(reader: _Reader) -> Merge:
    """Between task vectors, or, without a base, between models."""
    if reader.truth("nuslerp_row_wise", False) or not reader.truth("nuslerp_flatten", True):
        raise reader.error("parameters", "nuslerp goes by whole tensors here", "Leave nuslerp_flatten true.")
    reader.check_count(2, 2)
    a, b = weights = reader.plain_weights(reader.runs, "of nuslerp")
    if abs(a + b) < 1e-6 or min(weights) < 0 < max(weights):
        raise reader.error("models", f"the weights {a:g} and {b:g} say no share of the way", "Give positive weights.")
    if reader.config.base is None:
        return reader.merge("slerp", reader.whole(), 1.0, {"t": b / (a + b)})
    parts = [RecipePart(one.reference, one.key, w) for one, w in zip(reader.runs, weights, strict=True)]
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
    if reader.truth("filter_wise", False):
        raise reader.error("parameters.filter_wise", "goes by whole tensors here", "Set filter_wise: false.")
    reader.check_count(2)
    return reader.merge("model_stock", reader.whole())


_OTHERS: Mapping[str, Callable[[_Reader], Merge]] = {
    "slerp": _slerp, "nuslerp": _nuslerp, "karcher": _karcher, "sce": _sce, "model_stock": _model_stock
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
}
"""What each method can be told, by mergekit's names; ``int8_mask`` saves memory there and changes nothing."""
