"""From a recipe to a folder of weights: plan (pure data), run (streams blocks), publish, receipt."""
