"""Adapters of experiment trackers, each imported only where a recipe or a command names it.

Each is a class with the contract of the entry-point group ``lram.trackers``
(:mod:`lram.agents.training.sinks`). They switch off what their packages report of their use to their makers,
unless the user has set that himself.
"""
