"""``persona.toml`` and what it means."""
