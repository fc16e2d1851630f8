"""Benchmarks that anyone can run; nothing here is a test, and no test asserts a time.

python -m tests.bench.startup                     how long small commands take
python -m tests.bench.peers DIR [--mergekit …]    commit and build against the peers, in one run
"""
