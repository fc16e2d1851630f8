"""Settings of a training run: their ranges, presets, and overrides.

A preset is a flat TOML file of settings: one of `presets/` by name, or any file by path.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.files import LARGEST_TOML, read_bytes, translated
from persona.settings import Choice, Number, Table, Whole, read_toml, shown

PRESETS = Path(__file__).parent / "presets"
CHOICES = {
    "method": ("lora", "qlora", "full"),
    "loss": ("assistant", "all"),
    "answers": ("all", "last"),
    "schedule": ("cosine", "linear", "constant"),
    "too_long": ("cut", "skip", "error"),
    "duplicates": ("keep", "drop"),
    "dtype": ("auto", "fp32", "bf16"),
    "anchor_loss": ("rows", "kl"),
}
RANGES: dict[str, tuple[float, float]] = {
    "rank": (1, 4096), "alpha": (1e-6, 1e6), "dropout": (0, 0.99), "learning_rate": (0, 1e3),
    "final_learning_rate": (0, 1e3), "warmup_steps": (0, 1e9), "epochs": (0, 1e5), "max_steps": (0, 1e9),
    "batch": (1, 65536), "accumulate": (1, 65536), "weight_decay": (0, 1e3), "max_grad_norm": (0, 1e9),
    "max_length": (2, 1 << 24), "turns": (0, 1 << 20), "seed": (0, 2**32 - 1), "save_every": (1, 1e9),
    "ewc": (0, 1e12), "ewc_examples": (1, 1e9), "anchor_share": (0, 64),
}  # fmt: skip
"""Minimum and maximum of each number."""


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on, besides the model and the data."""

    method: str = "lora"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    loss: str = "assistant"
    answers: str = "all"  # of a conversation
    learning_rate: float = 2e-4
    final_learning_rate: float = 0.0
    schedule: str = "cosine"
    warmup_steps: int = 0
    epochs: float = 3.0
    max_steps: int = 0  # overrides epochs unless 0
    batch: int = 8
    accumulate: int = 1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 2048
    too_long: str = "cut"
    duplicates: str = "keep"
    turns: int = 8  # of a conversation per example; 0: all
    dtype: str = "auto"
    seed: int = 0
    save_every: int = 100
    ewc: float = 0.0
    ewc_examples: int = 256
    anchor_share: float = 0.0  # rows of anchors for each row of data
    anchor_loss: str = "rows"

    def table(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


LATER = {"answers": "all", "anchor_share": 0.0, "anchor_loss": "rows"}
"""Settings that run folders of older versions do not name, with the value that these runs had."""

KEYS = tuple(field.name for field in fields(Settings))


def presets() -> tuple[str, ...]:
    """Names of the built-in presets."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def read_settings(preset: str | Path = "default", changes: Mapping[str, Any] | None = None) -> Settings:
    """Read a preset and apply changes.

    Args:
        preset: Name of a built-in preset, or path of a TOML file.
        changes: Values that override the preset's.

    Raises:
        UsageError: the preset does not exist, or a setting is unknown or out of range.
    """
    path = preset if isinstance(preset, Path) else _preset_path(preset)
    with translated(path):
        data = read_bytes(path, LARGEST_TOML)
    given = _values(read_toml(data, str(path), hint="A preset is a TOML file of settings."))
    settings = replace(Settings(), **given)
    settings = replace(settings, **_values(Table(changes or {}, "--set")))
    if settings.final_learning_rate > settings.learning_rate:
        raise UsageError(
            f"final_learning_rate {settings.final_learning_rate:g} is above learning_rate {settings.learning_rate:g}",
            "The learning rate decays to the final one: lower it, for example --set final_learning_rate=0",
        )
    if settings.loss == "all" and settings.answers == "last":
        raise UsageError("loss is all, but answers is last", 'Set loss to "assistant" to learn answers only.')
    if settings.anchor_share and settings.anchor_loss == "kl" and settings.method == "full":
        raise UsageError(
            "anchor_loss is kl, which needs the model as it was; a full fine-tune changes all of it",
            "Use --set anchor_loss=rows, or --method lora.",
        )
    if not settings.epochs and not settings.max_steps:
        raise UsageError("epochs and max_steps are both 0, so there is nothing to train", "Set one of them.")
    return settings


def default_settings() -> str:
    """All settings with their values in the default preset, as they are written after `--set`."""
    table = read_settings().table()
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in table.items()
    )


def _preset_path(preset: str) -> Path:
    if preset in presets():
        return PRESETS / f"{preset}.toml"
    path = Path(preset)
    if path.suffix == ".toml" or "/" in preset:
        if not path.is_file():
            raise UsageError(f"no preset file {preset}", f"Give a TOML file, or one of: {', '.join(presets())}")
        return path
    raise UsageError(f"no preset '{preset}'", did_you_mean(preset, presets()) + " Or give the path of a TOML file.")


def checked(key: str, value: Any, where: str) -> Any:
    """Check the value of a setting and convert it to the type of its field.

    Args:
        where: The source that errors name: a file or an option.

    Raises:
        UsageError: the setting is unknown, or the value is out of range.
    """
    return _values(Table({key: value}, where))[key]


def _values(table: Table) -> dict[str, Any]:
    table.allow(KEYS)
    return {key: _value(table, key, value) for key, value in table.values.items()}


def _value(table: Table, key: str, value: Any) -> Any:
    default = getattr(Settings(), key)
    if key == "targets":
        return _targets(table, value)
    if key in CHOICES:
        return table.check(key, value, Choice(default, CHOICES[key]))
    low, high = RANGES[key]
    if not isinstance(default, int):
        return table.check(key, value, Number(default, low, high, "Use a number in this range."))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return table.check(key, value, Whole(default, int(low), int(high), "Use a whole number in this range."))


def _targets(table: Table, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return value if "," not in value else tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name.strip() for name in value):
        return tuple(value)
    raise table.error("targets", f"{shown(value)} names no modules", 'Use "all-linear", or a list of module names.')


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` arguments; a value that is not TOML is a string.

    Raises:
        UsageError: an argument does not have this form.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"'{assignment}' is not KEY=VALUE", "Write for example --set learning_rate=1e-4")
        try:
            changes[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, KeyError):
            changes[key.strip()] = value.strip()
    return changes
