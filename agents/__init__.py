"""Agents behind one contract: baselines and action models."""
