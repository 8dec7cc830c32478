"""Offline training: recipes, batches of windows, the training loop and its metrics."""
