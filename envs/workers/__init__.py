"""Simulators in processes of their own: the pool, its workers, and what they say to each other."""
