"""Running a model: loading it from a folder or from memory, finding its blocks, batching texts, generating."""
