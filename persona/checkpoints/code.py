"""Python code beside the weights: which files a model's configurations refer to, in ``auto_map``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from persona.checkpoints.groups import PROCESSOR, group_of
from persona.checkpoints.settings import CONFIG
from persona.checkpoints.tokenizers import TOKENIZER_CONFIG, table_of

WITH = "persona init --allow-code"


def is_configuration(name: str) -> bool:
    """Whether a file may refer to code."""
    return name in (CONFIG, TOKENIZER_CONFIG) or group_of(name) == PROCESSOR


def referred(files: Mapping[str, bytes]) -> list[str]:
    """Names of the Python files that configurations refer to; code of other repositories ("org/name--file") is not one."""
    names = dict.fromkeys(
        f"{reference.partition('.')[0]}.py"
        for name, data in files.items()
        if is_configuration(name)
        for reference in _references(table_of(data).get("auto_map"))
        if "--" not in reference
    )
    return sorted(names)


def _references(auto_map: Any) -> Iterator[str]:
    values: Iterable[Any] = auto_map.values() if isinstance(auto_map, Mapping) else [auto_map]
    for value in values:
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def missing(files: Mapping[str, bytes]) -> list[str]:
    """Names of the Python files that the configurations among ``files`` refer to and that are not among them."""
    return [name for name in referred(files) if name not in files]


def warning(names: list[str]) -> str:
    """What to say about a model that needs Python files and does not have them."""
    return (
        f"config.json refers to code ({', '.join(names)}) that the base was stored without: transformers loads a build "
        f"only with it. If you trust the code, start over with {WITH}"
    )
