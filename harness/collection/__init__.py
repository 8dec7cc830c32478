"""Trajectories gathered: collected from agents, or imported from data sets."""
