"""``python -m persona``."""

from persona.cli.main import run

run()
