"""Benchmarks that anyone can run; nothing here is a test, and no test asserts a time.

python -m tests.bench.startup                     how long small commands take
python -m tests.bench.peers DIR [--mergekit …]    commit and build against the peers, in one run
python -m tests.bench.decode DIR                  decoding and encoding, GB/s on all cores
python -m tests.bench.memory DIR                  memory of commit and fsck, at two sizes
"""
