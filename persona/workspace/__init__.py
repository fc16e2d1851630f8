"""What the commands share: operands, loading, recording."""
