"""Scores by inner episode: adaptation within a context."""
