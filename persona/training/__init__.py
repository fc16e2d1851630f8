"""Examples and a model in memory compiled to a run folder: what is learnt, how, and what must not be forgotten.

Knows no repository: what to start from comes from above, and what became of it lies in a folder that can be committed.
"""
