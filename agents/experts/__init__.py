"""Agents that are no action models: random, constant, scripted, sac, planner, learner; noise on any agent."""
