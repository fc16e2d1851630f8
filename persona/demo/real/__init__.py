"""Training data in plain English for a real model: four behaviours, each with a rule that recognises its replies."""
