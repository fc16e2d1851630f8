"""Plots of results, for ``--plot``."""
