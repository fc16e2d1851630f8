"""Verbs of `persona readout`."""
