"""The memory graph: nodes that specify behaviours, and which of them the vectors of a recipe implement."""
