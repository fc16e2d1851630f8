"""The verbs of `persona readout`."""
