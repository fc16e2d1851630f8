"""The verbs of `persona graph`."""
