"""What is built and exported, loaded by the programs that serve models."""
