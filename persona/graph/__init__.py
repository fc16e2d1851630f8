"""The memory graph: nodes that specify behaviours, and which of them a recipe's vectors implement."""
