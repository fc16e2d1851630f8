"""Tries every forgery, or a sample, and prints what was found and the counts: ``python -m tests.hostile``."""

from tests.hostile.report import main

if __name__ == "__main__":
    main()
