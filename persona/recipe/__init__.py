"""Recipes, and ``persona.toml``, the file that people write them in."""
