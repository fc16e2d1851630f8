"""Recipes as mergekit configurations, and back, as far as both say the same.

    writing    Recipe → configuration (``persona export``)
    reading    configuration → what a recipe needs to say it (``persona import``)
    config     a configuration's text and its shape
    setting    mergekit's numbers by layer and by filter, and our alphas
    density    the share of entries to keep, which both round differently

A line of one that has no equal in the other is an error that names it. The table of methods is in docs/methods.md,
and tests/parity/ merges what was exported with mergekit itself.
"""

METHODS = {
    "linear": "task_arithmetic", "ties": "ties", "dare_linear": "dare_linear", "dare_ties": "dare_ties",
    "della": "della", "della_linear": "della_linear", "breadcrumbs": "breadcrumbs",
    "breadcrumbs_ties": "breadcrumbs_ties", "sce": "sce", "slerp": "slerp", "nuslerp": "nuslerp",
    "karcher": "karcher", "model_stock": "model_stock",
}  # fmt: skip
"""Ours → theirs. ``iso_c`` and ``tsv_m`` are not there."""

ELECTING = frozenset({"ties", "dare_ties", "della", "breadcrumbs_ties"})
"""Methods that elect a sign, and then may divide."""
SUMMING = frozenset({"linear", "dare_linear", "della_linear", "breadcrumbs"})
"""Methods that add up."""
TRIMMING = frozenset({"ties", "breadcrumbs", "breadcrumbs_ties"})
"""Methods that keep the largest: ``density`` is a number of entries."""
DRAWING = frozenset({"dare_linear", "dare_ties", "della", "della_linear"})
"""Methods that drop at random: ``density`` is a chance."""
PER_MODEL = ("density", "gamma", "epsilon")
"""Parameters that a model, or a vector, may have of its own, called the same in both."""
