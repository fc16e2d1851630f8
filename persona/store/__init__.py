"""Content-addressed storage: objects, packs of tensors and blobs, and ingesting checkpoints."""
