"""Environments of Gymnasium as tasks, made from their ids on demand: ``gym:Pendulum-v1?g=9.0``.

What is understood of an environment stands in :mod:`lram.envs.domains.gym.spaces`; :mod:`.names` reads the
names, :mod:`.probing` finds out the sizes in a process of its own, :mod:`.session` plays.
"""
