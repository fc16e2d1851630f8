"""A model in memory: loaded from a folder or straight from what a build makes, its blocks, texts in batches."""
