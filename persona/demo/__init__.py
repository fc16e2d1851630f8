"""The demo: trains a small model and builds a personality for it."""
