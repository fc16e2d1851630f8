"""``README.md``: the front matter of the model card, and the versions that a Trainer lists in it."""

from __future__ import annotations

import re
from typing import Any

from persona.checkpoints import yamltext
from persona.checkpoints.provenance.reading import MANY, Unreadable, chosen, number, text

FILE = "README.md"

LARGEST = 64 << 10
"""Maximum size of the front matter in bytes."""
_KEYS = (
    "base_model", "base_model_relation", "datasets", "license", "language", "library_name", "model_name",
    "pipeline_tag", "tags", "metrics",
)  # fmt: skip
_FRONT = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_VERSIONS = re.compile(r"^#+ *Framework versions\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"^\s*[-*] +([A-Za-z][\w-]{0,30}):? +v?(\d[\w.+-]{0,40})\s*$", re.MULTILINE)


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file: only versions if there is no front matter."""
    front, body = _split(data)
    try:
        fields = yamltext.load(front.decode()) if front else None
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None
    except ValueError as error:
        raise Unreadable(f"has an invalid front matter: {str(error)[:80]}") from None
    facts = _card(fields) if isinstance(fields, dict) else {}
    versions = {name.lower(): version for name, version in _versions(body)[:MANY]}
    return {topic: value for topic, value in (("card", facts), ("versions", versions)) if value}


def _split(data: bytes) -> tuple[bytes, str]:
    match = _FRONT.match(data[:LARGEST])
    return match[1] if match else b"", data[match.end() if match else 0 :][: 16 * LARGEST].decode(errors="replace")


def _card(fields: dict[Any, Any]) -> dict[str, Any]:
    facts = chosen(fields, _KEYS)
    results = _results(fields.get("model-index"))
    return facts | ({"results": results} if results else {})


def _results(index: Any) -> dict[str, Any]:
    """The metrics in ``model-index`` by ``dataset metric``; of duplicates, the first."""
    metrics: dict[str, Any] = {}
    for model in index if isinstance(index, list) else ():
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else ():
            if isinstance(result, dict):
                _add(metrics, result)
    return metrics


def _add(metrics: dict[str, Any], result: dict[Any, Any]) -> None:
    dataset, listed = result.get("dataset"), result.get("metrics")
    where = text(dataset.get("name")) if isinstance(dataset, dict) else None
    for metric in listed if isinstance(listed, list) else ():
        if not isinstance(metric, dict) or (value := number(metric.get("value"))) is None or len(metrics) >= MANY:
            continue
        name = text(metric.get("name")) or text(metric.get("type")) or "metric"
        metrics.setdefault(f"{where} {name}" if where else name, value)


def _versions(body: str) -> list[tuple[str, str]]:
    match = _VERSIONS.search(body)
    return _VERSION.findall(match[1]) if match else []
