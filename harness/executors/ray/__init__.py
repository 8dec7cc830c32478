"""Runs on a Ray cluster: the driver plans, places and writes; the nodes play.

::

    from lram.harness.executors.ray import RayBackend
    evaluate(["random"], "metaworld/*", "runs/wide", backend=RayBackend("10.0.0.1:6379"))

A job is a group of episodes of one task and one agent (:mod:`.groups`). It is a Ray task on a node that
the driver has chosen (:mod:`.driver`); there it owns its simulators and its copy of the agent
(:mod:`.jobs`), and streams records back as episodes end. What crosses is JSON, and arrays where
trajectories are wanted (:mod:`.messages`).

Nothing here imports Ray before a cluster is asked for.
"""

from lram.harness.executors.ray.backend import RayBackend
from lram.harness.executors.ray.resources import Wishes

__all__ = ["RayBackend", "Wishes"]
