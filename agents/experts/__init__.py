"""Agents that are no models: random, constant, scripted, planner, learner, and noise on any agent."""
