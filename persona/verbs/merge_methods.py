"""``persona methods``: what recipes may name as their method. A verb without a repository, told by the modules themselves.

It is called ``merge_methods`` because ``persona.methods`` is where they live.
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
    """A parameter: ``wanted`` says its type and range; ``per_vector`` that a vector may have its own."""

    name: str
    kind: str
    wanted: str
    default: Value
    per_vector: bool
    summary: str


@dataclass(frozen=True)
class MethodDescription:
    """A method: ``formula`` and remarks as its module has them; it takes ``least`` to ``most`` vectors.

    ``weighs`` says that it needs a Fisher diagonal of each where several meet.
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
        """How many vectors it takes, in a word."""
        if self.least == self.most:
            return f"{self.least}"
        return f"{self.least} or more" if self.most is None else f"{self.least} or {self.most}"

    @property
    def recipe(self) -> str:
        """What to paste into ``persona.toml``: every parameter with its default."""
        lines = ["[merge]", f'method = "{self.name}"']
        lines += [f"{one.name} = {toml(one.default)}" for one in self.parameters]
        return "\n".join(lines)


def merge_methods(name: str | None = None) -> list[MethodDescription]:
    """Every merge method, or the one that is called ``name``."""
    if name is None:
        return [_described(one) for one in methods.names()]
    known = (*methods.names(), *methods.ALIASES)
    if name not in known:
        raise UsageError(f"unknown method '{name}'", did_you_mean(name, known))
    return [_described(methods.ALIASES.get(name, name))]


def toml(value: Value) -> str:
    """A default as TOML writes it."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def _described(name: str) -> MethodDescription:
    method = methods.load(name)
    title, _, text = inspect.cleandoc(str(method.__doc__)).partition("\n\n")
    match = _TITLE.fullmatch(" ".join(title.split()))
    assert match is not None, f"{name}: the docstring begins with NAME: WHAT (SOURCE)."
    assert match[1] == name, f"{name}: the docstring is that of {match[1]}"
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
