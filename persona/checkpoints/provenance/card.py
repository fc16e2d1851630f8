"""``README.md`` of a run: the model card's front matter, and the versions that a Trainer lists below it."""

from __future__ import annotations

import re
from typing import Any

from persona.checkpoints import yamltext
from persona.checkpoints.provenance.reading import MANY, Unreadable, chosen, number, text

FILE = "README.md"

LARGEST = 64 << 10
"""Bytes of front matter that are read."""
_KEYS = (
    "base_model", "base_model_relation", "datasets", "license", "language", "library_name", "model_name",
    "pipeline_tag", "tags", "metrics",
)  # fmt: skip
_FRONT = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_VERSIONS = re.compile(r"^#+ *Framework versions\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"^\s*[-*] +([A-Za-z][\w-]{0,30}):? +v?(\d[\w.+-]{0,40})\s*$", re.MULTILINE)


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file; a README without front matter says nothing but versions."""
    front, body = _split(data)
    try:
        said = yamltext.load(front.decode()) if front else None
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None
    except ValueError as error:
        raise Unreadable(f"has a front matter that is not read: {str(error)[:80]}") from None
    facts = _card(said) if isinstance(said, dict) else {}
    versions = {name.lower(): version for name, version in _versions(body)[:MANY]}
    return {topic: value for topic, value in (("card", facts), ("versions", versions)) if value}


def _split(data: bytes) -> tuple[bytes, str]:
    match = _FRONT.match(data[:LARGEST])
    return match[1] if match else b"", data[match.end() if match else 0 :][: 16 * LARGEST].decode(errors="replace")


def _card(said: dict[Any, Any]) -> dict[str, Any]:
    facts = chosen(said, _KEYS)
    results = _results(said.get("model-index"))
    return facts | ({"results": results} if results else {})


def _results(index: Any) -> dict[str, Any]:
    """``model-index``: each metric by ``dataset metric``, the first where one comes twice."""
    found: dict[str, Any] = {}
    for model in index if isinstance(index, list) else ():
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else ():
            if isinstance(result, dict):
                _add(found, result)
    return found


def _add(found: dict[str, Any], result: dict[Any, Any]) -> None:
    dataset, metrics = result.get("dataset"), result.get("metrics")
    where = text(dataset.get("name")) if isinstance(dataset, dict) else None
    for metric in metrics if isinstance(metrics, list) else ():
        if not isinstance(metric, dict) or (value := number(metric.get("value"))) is None or len(found) >= MANY:
            continue
        name = text(metric.get("name")) or text(metric.get("type")) or "metric"
        found.setdefault(f"{where} {name}" if where else name, value)


def _versions(body: str) -> list[tuple[str, str]]:
    match = _VERSIONS.search(body)
    return _VERSION.findall(match[1]) if match else []
