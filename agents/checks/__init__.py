"""Checks of agents: the contract, and that a model acts as it was trained to read."""
