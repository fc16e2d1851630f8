"""Translate recipes to mergekit configurations and back.

    writing    recipe → configuration (``persona export``)
    reading    configuration → recipe (``persona import``)
    config     text of a configuration → its checked parts
    slices     a configuration by layers → one by models
    setting    mergekit's numbers by layer and by filter, and persona's alphas
    density    share of entries to keep, which both round differently

Whatever has no equivalent is an error that names it. docs/methods.md compares the methods, and tests/parity/ merges
exported configurations with mergekit itself.
"""

METHODS = {
    "linear": "task_arithmetic", "ties": "ties", "dare_linear": "dare_linear", "dare_ties": "dare_ties",
    "della": "della", "della_linear": "della_linear", "breadcrumbs": "breadcrumbs",
    "breadcrumbs_ties": "breadcrumbs_ties", "sce": "sce", "slerp": "slerp", "nuslerp": "nuslerp",
    "karcher": "karcher", "model_stock": "model_stock", "ram": "ram", "ramplus_tl": "ramplus_tl",
}  # fmt: skip
"""Names of methods: persona's → mergekit's. mergekit has no ``fisher``, ``iso_c``, ``svc``, ``tsv_m`` or ``wudi``."""

ELECTING = frozenset({"ties", "dare_ties", "della", "breadcrumbs_ties"})
"""Methods that elect a sign, and may then divide by a sum of weights."""
SUMMING = frozenset({"linear", "dare_linear", "della_linear", "breadcrumbs"})
"""Methods that add vectors up."""
TRIMMING = frozenset({"ties", "breadcrumbs", "breadcrumbs_ties"})
"""Methods that keep the largest entries: ``density`` is their share."""
DRAWING = frozenset({"dare_linear", "dare_ties", "della", "della_linear"})
"""Methods that drop entries at random: ``density`` is the keep probability."""
PER_MODEL = ("density", "gamma", "epsilon")
"""Parameters that each model, or vector, can have, with the same name in both."""

COUNTING = {"epsilon": "epsilon", "r": "r", "limit": "alpha"}
"""Parameters of methods that count who changes an entry, for all models: persona's name → mergekit's."""

BY_MODEL = frozenset({"weight", "density", "gamma", "epsilon"})
"""mergekit's parameters that may differ by model."""
