"""Trainings: losses, and what the final checkpoints are."""
