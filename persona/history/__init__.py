"""What happened: commits, refs, revisions, operations."""
