"""Trajectories: what agents did, stored for training; readers of public data sets."""
