"""`persona methods`: describe the merge methods, from the docstrings and declarations of their modules.

The verb is called `merge_methods`, as `persona.methods` is the package of the methods.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from persona import methods
from persona.errors import UsageError, did_you_mean
from persona.methods.parts.parameters import Choice, Number, Parameter, Value

_TITLE = re.compile(r"(\w+): (.*) \((.*)\)\.")


@dataclass(frozen=True)
class MethodSetting:
    """A parameter. `wanted` describes type and range; with `per_vector`, each vector can have its own value."""

    name: str
    kind: str
    wanted: str
    default: Value
    per_vector: bool
    summary: str


@dataclass(frozen=True)
class MethodDescription:
    """A merge method; `text` has its formula and remarks, `source` the paper.

    It merges `least` to `most` vectors (null: any number). With `counts_every`, a vector that does not change a tensor
    counts there as zero. With `weighs`, vectors that change the same tensor need Fisher diagonals.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    source: str
    text: str
    parameters: tuple[MethodSetting, ...]
    least: int
    most: int | None
    counts_every: bool
    weighs: bool

    @property
    def vectors(self) -> str:
        """The number of vectors in words."""
        if self.least == self.most:
            return f"{self.least}"
        return f"{self.least} or more" if self.most is None else f"{self.least} or {self.most}"

    @property
    def recipe(self) -> str:
        """Lines for `persona.toml`: every parameter with its default."""
        lines = ["[merge]", f'method = "{self.name}"']
        lines += [f"{parameter.name} = {toml(parameter.default)}" for parameter in self.parameters]
        return "\n".join(lines)


def merge_methods(name: str | None = None) -> list[MethodDescription]:
    """Describe all merge methods, or the one called `name`.

    Raises:
        UsageError: The method is unknown.
    """
    if name is None:
        return [_describe(method) for method in methods.names()]
    known = (*methods.names(), *methods.ALIASES)
    if name not in known:
        raise UsageError(f"unknown method '{name}'", did_you_mean(name, known))
    return [_describe(methods.ALIASES.get(name, name))]


def toml(value: Value) -> str:
    """Format a default as TOML."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def _describe(name: str) -> MethodDescription:
    method = methods.load(name)
    title, _, text = inspect.cleandoc(str(method.__doc__)).partition("\n\n")
    match = _TITLE.fullmatch(" ".join(title.split()))
    assert match is not None, f"{name}: the docstring must start with NAME: WHAT (SOURCE)."
    assert match[1] == name, f"{name}: the docstring describes {match[1]}"
    least, most = methods.vectors_taken(method)
    return MethodDescription(
        name=name,
        aliases=tuple(sorted(alias for alias, known in methods.ALIASES.items() if known == name)),
        summary=match[2],
        source=match[3],
        text=text,
        parameters=tuple(_setting(*pair) for pair in method.PARAMETERS.items()),
        least=least,
        most=most,
        counts_every=methods.counts_every(method),
        weighs=methods.weighs(method),
    )


def _setting(name: str, parameter: Parameter) -> MethodSetting:
    kind = "number" if isinstance(parameter, Number) else "choice" if isinstance(parameter, Choice) else "whole number"
    return MethodSetting(name, kind, parameter.wanted, parameter.default, parameter.per_vector, parameter.summary)
