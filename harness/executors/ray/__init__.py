"""A Ray cluster: the driver plans, places and writes; the nodes work.

::

    from lram.harness.executors.ray import RayExecutor
    evaluate(["random"], "metaworld/*", "runs/wide", executor=RayExecutor("10.0.0.1:6379"))

Every job is a Ray task on a node that the driver has chosen. One loop (:mod:`.loop`) starts jobs,
receives their updates and repeats what was lost. Three kinds of work use it: groups of episodes of one task
and one agent (:mod:`.rollouts`), cells of studies (:mod:`.cells`) and sweeps of latencies (:mod:`.sweeps`);
what each does on its node stands in the module with ``_node`` to its name. What crosses is JSON, arrays where
trajectories are wanted, and files by way of Ray's object store (:mod:`.transfer`).

Nothing here imports Ray before a cluster is asked for.
"""

from lram.harness.executors.ray.executor import RayExecutor
from lram.harness.executors.ray.resources import ResourceRequest

__all__ = ["RayExecutor", "ResourceRequest"]
