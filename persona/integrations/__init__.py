"""Integrations with other training libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.integrations.trainer import PersonaCallback

__all__ = ["PersonaCallback"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from persona.integrations import trainer  # imported here because it loads transformers

        return getattr(trainer, name)
    raise AttributeError(f"module 'persona.integrations' has no attribute {name!r}")
