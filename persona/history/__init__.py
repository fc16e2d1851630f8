"""History: commits, refs, revisions and operations."""
