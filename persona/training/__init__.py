"""Train a model in memory on examples, into a run folder that can be committed.

Only `plan` knows repositories; the other modules take a model and examples.
"""
