"""What a model is measured by: suites, measures, intervals. Knows no repository, and nothing of how the model was made."""
