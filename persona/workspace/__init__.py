"""What verbs share: finding operands, loading models, recording commits."""
