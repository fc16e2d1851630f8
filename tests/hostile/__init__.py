"""Repositories that somebody forged: right hashes, consistent references, and one thing in them that persona never writes.

``world`` makes a small valid repository, ``forge`` changes it in thousands of ways, ``commands`` lists what is run on each,
``trial`` runs it in a forked child that watches, and ``report`` counts. ``python -m tests.hostile`` runs all of it.
"""
