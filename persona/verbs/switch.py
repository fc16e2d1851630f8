"""``persona switch``: go to a branch."""

from __future__ import annotations

from persona.verbs.checkout import switch

__all__ = ["switch"]
