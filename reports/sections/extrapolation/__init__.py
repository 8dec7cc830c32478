"""Extrapolation: scores and losses beyond the trained context."""
