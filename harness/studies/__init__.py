"""Studies: which choice of a recipe made the difference."""
