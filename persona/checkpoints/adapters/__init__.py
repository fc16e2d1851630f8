"""The parts of reading a PEFT adapter; ``persona.checkpoints.adapter`` is the way in."""
