"""One file per command: plain functions from a repository to a frozen result. No printing, no environment."""
