"""Evaluation: suites, measures, confidence intervals, and the search over a recipe's settings."""
