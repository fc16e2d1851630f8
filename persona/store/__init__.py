"""Content-addressed storage: objects, packs of tensors and blobs, and taking checkpoints in."""
