"""The parts of reading a PEFT adapter; the entry point is ``persona.checkpoints.adapter``."""
