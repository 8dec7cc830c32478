"""Scores: figures and results by group."""
