"""Click options made from dataclasses, and the options of every command that runs a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType, UnionType
from typing import Any, cast, get_args, get_type_hints

import click

from persona.cli.allowing import trusting
from persona.cli.app import F
from persona.cli.complete import SUITE
from persona.evaluate.options import MeasureOptions

_RANGES = {int: click.IntRange, float: click.FloatRange}


def options_of(
    cls: type[Any],
    into: str,
    *,
    types: Mapping[str, Any] = MappingProxyType({}),
    readers: Mapping[str, Callable[[Any], Any]] = MappingProxyType({}),
) -> Callable[[F], F]:
    """Give a command an option for each field of a dataclass that has a help text, and pass it an instance.

    Args:
        cls: The dataclass. ``persona.evaluate.options.option`` describes the metadata of its fields.
        into: Name of the command's parameter for the instance.
        types: Parameter types of single fields, for completion.
        readers: Functions that convert what was typed for single fields; not called if the option is absent.
    """
    items = {item.name: item for item in fields(cls) if "help" in item.metadata}

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(*args: Any, **values: Any) -> Any:
            given: dict[str, Any] = {}
            for name, item in items.items():
                value = values.pop(name)
                if value is not None:
                    given[name] = readers[name](value) if name in readers else value
                elif item.default is MISSING:
                    given[name] = None
            return function(*args, **{into: cls(**given)}, **values)

        for name in reversed(items):
            command = option_of(cls, name, types.get(name))(command)
        return cast("F", command)

    return decorate


def option_of(cls: type[Any], name: str, param_type: Any = None) -> Callable[[F], F]:
    """The click option of one field of a dataclass."""
    item = next(item for item in fields(cls) if item.name == name)
    about, repeat = item.metadata, item.metadata.get("repeat", False)
    shown = item.default if item.default not in (MISSING, ()) else None
    return click.option(
        about.get("flag", f"--{name.replace('_', '-')}"),
        name,
        type=param_type or _type(item, get_type_hints(cls)[name]),
        default=shown,
        show_default=shown is not None and not about.get("is_flag", False),
        is_flag=about.get("is_flag", False),
        multiple=repeat,
        metavar=about.get("metavar"),
        help=about["help"],
    )


def _type(item: Field[Any], hint: Any) -> Any:
    """A choice, or a range for numbers; None for text."""
    about = item.metadata
    if "choices" in about:
        return click.Choice(about["choices"])
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind, range_of in _RANGES.items():
        if kind in kinds:
            return range_of(about.get("min"), about.get("max"), min_open=about.get("min_open", False))
    return None


suite_option = click.option(
    "--suite", type=SUITE, metavar="NAME|FILE", help="Suite to measure by. [default: the only one in evals/]"
)
suites_option = click.option(
    "--suite", "suites", multiple=True, type=SUITE, metavar="NAME|FILE",
    help="Suite to measure by; repeatable. [default: all in evals/]",
)  # fmt: skip
measuring_options = options_of(MeasureOptions, "options", readers={"allow_code": trusting})

device_option = option_of(MeasureOptions, "device")
dtype_option = option_of(MeasureOptions, "dtype")
batch_option = option_of(MeasureOptions, "batch_size")
blocks_option = click.option(
    "--blocks", metavar="PATH", help="Where the model's list of blocks is, such as model.layers."
)
